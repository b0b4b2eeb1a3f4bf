"""Run one session: `python -m orchestrator.emulator.runner SESSION_FOLDER`.

A session has a supervisor process of its own, which outlives the server that started it, as
Kaggle's sessions outlive a laptop. Everything about it is in its folder:

    spec.json     what to run, written by the server
    src/          the notebook or script
    input/        mounted files, read-only
    working/      where the kernel runs and leaves its outputs
    home/         a private HOME and TMPDIR, discarded
    log.jsonl     output as it comes, one {stream_name, time, data} a line
    result.json   how it ended, written in one piece; without it the session vanished

At a limit everything the kernel started is killed without a warning. Standard library only:
this module must start fast and must not depend on the server.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from orchestrator.emulator.environment import kernel_environment
from orchestrator.emulator.limits import LOOK_SECONDS, MEMORY, OUTPUT, Watch
from orchestrator.emulator.logfile import LogWriter
from orchestrator.emulator.processes import (
    adopt_orphans,
    die_with_parent,
    kill_descendants,
    reap_orphans,
)
from orchestrator.emulator.spec import Result, Spec, read_spec, write_result

KILLED_EXIT_CODES = (-signal.SIGKILL, 128 + signal.SIGKILL)  # not by us: out of memory
_CHUNK_BYTES = 64 * 1024
_PIPES_BYTES = 2 * 1024 * 1024  # what two pipes hold at most
TIME = "time"
_ENDING_AT_LIMIT = {TIME: "timeout", MEMORY: "out_of_memory", OUTPUT: "exception"}
_KERNEL_SPEC = {
    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
}


class _Cancelled(Exception):
    """SIGTERM: the session is to end now."""


def kernel_command(folder: Path, spec: Spec) -> list[str]:
    source = folder / "src" / spec.source
    if spec.kernel_type == "script":
        return [sys.executable, "-u", str(source)]
    executor = Path(__file__).with_name("notebook.py")
    # -P: the folder of notebook.py is no place for a kernel to import from.
    executed = folder / "src" / "__notebook__.ipynb"
    return [sys.executable, "-P", "-u", str(executor), str(source), str(executed)]


def run(folder: Path) -> Result:
    """Run the session in `folder` to its end, whatever end that is."""
    spec = read_spec(folder)
    _prepare_home(folder)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        log = LogWriter(file, spec.started_at)
        if spec.language != "python":
            log.feed("stderr", f"Local Kaggle runs Python only, not {spec.language}.\n".encode())
            return Result("exception", None, time.time())
        try:
            ending, exit_code = _supervise(folder, spec, log)
        finally:
            kill_descendants()
            log.finish()
    return Result(ending, exit_code, time.time())


def _prepare_home(folder: Path) -> None:
    """A private HOME whose `python3` kernel is this very interpreter."""
    (folder / "home" / "tmp").mkdir(parents=True, exist_ok=True)
    kernel = folder / "home" / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    (kernel / "kernel.json").write_text(json.dumps(_KERNEL_SPEC), encoding="utf-8")


def _supervise(folder: Path, spec: Spec, log: LogWriter) -> tuple[str, int | None]:
    """Run the kernel with its output going to the log; returns (ending, exit code)."""
    deadline = time.monotonic() + spec.limit_seconds
    watch = Watch(spec, folder / "working")
    kernel = subprocess.Popen(
        kernel_command(folder, spec),
        cwd=folder / "working",
        env=kernel_environment(folder, spec),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (there are no threads here)
    )
    with _both_streams(kernel) as streams:
        passed = _follow(kernel, streams, log, deadline, watch)
        if passed:
            kill_descendants()
        _drain(streams, log)
    passed = passed or watch.look_at_output()
    if passed == OUTPUT:
        log.feed("stderr", _full(spec).encode())
    if passed:
        return _ENDING_AT_LIMIT[passed], None
    exit_code = kernel.wait()
    if exit_code in KILLED_EXIT_CODES:
        return "out_of_memory", exit_code
    return ("complete" if exit_code == 0 else "exception"), exit_code


def _full(spec: Spec) -> str:
    limit = f"{spec.output_limit_bytes:,} bytes"
    return f"\nLocal Kaggle: the working folder holds more than {limit}; the session was ended.\n"


def _follow(
    kernel: subprocess.Popen[bytes],
    streams: selectors.BaseSelector,
    log: LogWriter,
    deadline: float,
    watch: Watch,
) -> str | None:
    """Copy both streams to the log until the kernel has ended; the limit it passed, if one.

    A child that outlives the kernel may keep the streams open and go on writing, so it is the
    kernel's own end that counts.
    """
    while kernel.poll() is None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return TIME
        if passed := watch.passed():
            return passed
        reap_orphans(but_not=kernel.pid)
        patience = min(remaining, LOOK_SECONDS)
        if streams.get_map():
            _copy(streams, log, patience)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                kernel.wait(patience)
    return None


def _copy(streams: selectors.BaseSelector, log: LogWriter, timeout_seconds: float) -> int:
    """Log what the streams have, or will have within the timeout; returns how many bytes."""
    copied_bytes = 0
    for key, _ in streams.select(timeout_seconds):
        data = os.read(key.fd, _CHUNK_BYTES)
        if data:
            log.feed(key.data, data)
            copied_bytes += len(data)
        else:
            streams.unregister(key.fileobj)
    return copied_bytes


def _drain(streams: selectors.BaseSelector, log: LogWriter) -> None:
    """Log what the kernel left in its pipes, whoever else goes on writing to them."""
    left_bytes = _PIPES_BYTES
    while left_bytes > 0 and (copied_bytes := _copy(streams, log, 0)):
        left_bytes -= copied_bytes


@contextmanager
def _both_streams(kernel: subprocess.Popen[bytes]) -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as streams:
        for name, stream in (("stdout", kernel.stdout), ("stderr", kernel.stderr)):
            assert stream is not None
            streams.register(stream, selectors.EVENT_READ, name)
        yield streams


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Cancelled


def main(folder: Path) -> None:
    signal.signal(signal.SIGTERM, _on_terminate)
    adopt_orphans()
    try:
        result = run(folder)
    except _Cancelled:
        kill_descendants()
        result = Result("cancelled", None, time.time())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_result(folder, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
