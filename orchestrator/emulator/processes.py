"""Find and kill everything that a process has started, wherever it moved to.

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
from collections.abc import Iterator
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
    """SIGKILL every descendant of this process until none is left alive."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        alive = list(_living_descendants(os.getpid()))
        if not alive:
            return
        for pid in alive:
            _kill(pid)
        time.sleep(0.01)


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
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = text.rpartition(")")[2].split()[:2]  # the name may contain ")"
            yield int(entry), int(parent), state not in "ZX"


def _processes_by_ps() -> Iterator[tuple[int, int, bool]]:
    listing = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()
        yield int(pid), int(parent), not state.startswith("Z")
