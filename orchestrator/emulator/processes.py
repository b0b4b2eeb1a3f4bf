"""Find, weigh and kill everything that a process has started, wherever it moved to.

A kernel may start children in sessions and process groups of their own (a notebook's
interpreter always does), so killing one group is not enough. Standard library only.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Let orphaned descendants become our children, so that none escapes (Linux)."""
    _control(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Called in a new child: be killed when the parent is (Linux)."""
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def kill_descendants(patience_seconds: float = 10.0) -> None:
    """SIGKILL every descendant of this process until none is left.

    Whether one is left is asked of the kernel: a list can miss a process that forks all the time.
    """
    deadline = time.monotonic() + patience_seconds
    while _has_children() and time.monotonic() < deadline:
        for pid in _living_descendants(os.getpid()):
            _kill(pid)


def _has_children() -> bool:
    """Reap what is dead; whatever lives below us hangs on a child of ours, or is one."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def reap_orphans(but_not: int) -> None:
    """Let adopted processes that have ended go, and leave one child's end to its owner."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid == but_not:
                return
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        return


def kill_marked(variable: str, patience_seconds: float = 10.0) -> None:
    """SIGKILL every process that was started with `NAME=value` in its environment (Linux)."""
    deadline = time.monotonic() + patience_seconds
    while (marked := list(processes_marked(variable))) and time.monotonic() < deadline:
        for pid in marked:
            _kill(pid)


def processes_marked(variable: str) -> Iterator[int]:
    """Every living process of this user that was started with `NAME=value` (Linux)."""
    mark = variable.encode()
    for pid, _, is_alive in _processes():
        if is_alive and mark in _read(pid, "environ").split(b"\0"):
            yield pid


def memory_bytes(root: int, enough: int) -> int:
    """The memory that the descendants of `root` hold; up to `enough` an estimate from above will do.

    The estimate is what is resident: it counts shared pages once for each process, and pages of
    files, which the system may drop. Only when it is too high are pages counted one by one.
    """
    pids = list(_living_descendants(root))
    if sys.platform != "linux":
        return _resident_by_ps(pids)
    estimate = sum(map(_resident_bytes, pids))
    return estimate if estimate <= enough else sum(map(_own_bytes, pids))


def _resident_bytes(pid: int) -> int:
    fields = _read(pid, "statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _own_bytes(pid: int) -> int:
    """Private and shared memory without pages of files; a shared page by its share."""
    lines = _read(pid, "smaps_rollup").decode().splitlines()
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    counted = [fields[name] for name in ("Pss_Anon", "Pss_Shmem", "SwapPss") if name in fields]
    return sum(int(kilobytes) * 1024 for kilobytes, _ in counted)


def _resident_by_ps(pids: Iterable[int]) -> int:
    listing = subprocess.run(
        ["/bin/ps", "-o", "rss=", "-p", ",".join(map(str, pids))],
        check=False,  # it fails if none of them is left
        capture_output=True,
        text=True,
    )
    return sum(int(kilobytes) * 1024 for kilobytes in listing.stdout.split())


def _read(pid: int, name: str) -> bytes:
    """A file about a process; nothing if that has ended or is another user's."""
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, signal.SIGKILL)


def _living_descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, is_alive in _processes():
        if is_alive:
            children.setdefault(parent, []).append(pid)
    pending = [root]
    while pending:
        for pid in children.get(pending.pop(), ()):
            yield pid
            pending.append(pid)


def _processes() -> Iterator[tuple[int, int, bool]]:
    """(pid, parent's pid, whether it is more than a zombie) of every process."""
    if not Path("/proc/self/stat").exists():
        yield from _processes_by_ps()
        return
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (text := _read(int(entry), "stat")):
            state, parent = text.rpartition(b")")[2].split()[:2]  # the name may contain ")"
            yield int(entry), int(parent), state not in b"ZX"


def _processes_by_ps() -> Iterator[tuple[int, int, bool]]:
    listing = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()
        yield int(pid), int(parent), not state.startswith("Z")
