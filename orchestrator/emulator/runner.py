"""Run one session: `python -m orchestrator.emulator.runner SESSION_FOLDER`.

A session has a supervisor process of its own, which outlives the server that started it, as
Kaggle's sessions outlive a laptop. Everything about it is in its folder:

    spec.json     what to run, written by the server
    src/          the notebook or script
    input/        mounted files, read-only
    working/      where the kernel runs and leaves its outputs
    home/         a private HOME and TMPDIR, discarded
    log.jsonl     output as it comes, one {stream_name, time, data} a line
    supervisor.pid
    result.json   how it ended, written in one piece; without it the session vanished

At the time limit everything the kernel started is killed without a warning. Standard library
only: this module must start fast and must not depend on the server.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from orchestrator.emulator.processes import adopt_orphans, die_with_parent, kill_descendants

KILLED_EXIT_CODES = (-signal.SIGKILL, 128 + signal.SIGKILL)  # not by us: out of memory
_CHUNK_BYTES = 64 * 1024
_LINE_BYTES = 1024 * 1024  # output without a newline is logged in pieces of this size
_KERNEL_SPEC = {
    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
}


@dataclass(frozen=True)
class Spec:
    """What the server asks for."""

    session_id: int
    source: str  # file name below src/
    kernel_type: str
    language: str
    limit_seconds: float
    started_at: float


@dataclass(frozen=True)
class Result:
    """How it ended; `ending` is one of records.Ending."""

    ending: str
    exit_code: int | None
    ended_at: float


class _Cancelled(Exception):
    """SIGTERM: the session is to end now."""


class _Log:
    """The session's log file, fed with raw bytes of each stream."""

    def __init__(self, file: IO[str], started_at: float) -> None:
        self._file = file
        self._started_at = started_at
        self._rest: dict[str, bytes] = {}

    def feed(self, stream_name: str, data: bytes) -> None:
        *lines, rest = (self._rest.pop(stream_name, b"") + data).split(b"\n")
        for line in lines:
            self._write(stream_name, line + b"\n")
        if len(rest) >= _LINE_BYTES:
            self._write(stream_name, rest)
            rest = b""
        self._rest[stream_name] = rest

    def finish(self) -> None:
        for stream_name, rest in self._rest.items():
            if rest:
                self._write(stream_name, rest)
        self._rest.clear()

    def _write(self, stream_name: str, data: bytes) -> None:
        entry = {
            "stream_name": stream_name,
            "time": round(time.time() - self._started_at, 6),
            "data": data.decode("utf-8", errors="replace"),
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def kernel_environment(folder: Path, spec: Spec) -> dict[str, str]:
    """Everything a kernel's process knows of its surroundings; nothing of ours leaks in."""
    home = folder / "home"
    return {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "MPLBACKEND": "Agg",
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(home / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter-config"),
        "JUPYTER_DATA_DIR": str(home / "jupyter-data"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter-runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_URL_BASE": "https://www.kaggle.com",
        "KAGGLE_CONTAINER_NAME": f"kaggle_local-{spec.session_id}-webtier",
        "KCHAIN_INPUT_DIR": str(folder / "input"),
        "KCHAIN_WORKING_DIR": str(folder / "working"),
        "KCHAIN_SESSION_STARTED_AT": str(spec.started_at),
    }


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
    spec = Spec(**json.loads((folder / "spec.json").read_text(encoding="utf-8")))
    _prepare_home(folder)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        log = _Log(file, spec.started_at)
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


def _supervise(folder: Path, spec: Spec, log: _Log) -> tuple[str, int | None]:
    """Run the kernel with its output going to the log; returns (ending, exit code)."""
    deadline = time.monotonic() + spec.limit_seconds
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
    in_time = _pump(kernel, log, deadline)
    if not in_time:
        kill_descendants()
        _pump(kernel, log, time.monotonic() + 1.0)  # what was in the pipes
        kernel.wait()
        return "timeout", None
    exit_code = kernel.wait()
    if exit_code in KILLED_EXIT_CODES:
        return "out_of_memory", exit_code
    return ("complete" if exit_code == 0 else "exception"), exit_code


def _pump(kernel: subprocess.Popen[bytes], log: _Log, deadline: float) -> bool:
    """Copy both streams to the log until the kernel has ended; false if time ran out first.

    A child that outlives the kernel may keep the streams open, so the kernel's own end counts.
    """
    with _both_streams(kernel) as streams:
        while streams.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            ready = streams.select(timeout=min(remaining, 0.2))
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK_BYTES)
                if data:
                    log.feed(key.data, data)
                else:
                    streams.unregister(key.fileobj)
            if not ready and kernel.poll() is not None:
                return True
    return _ends_by(kernel, deadline)


def _ends_by(kernel: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        kernel.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


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


def _write_result(folder: Path, result: Result) -> None:
    draft = folder / "result.json.tmp"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(result), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / "result.json")


def main(folder: Path) -> None:
    signal.signal(signal.SIGTERM, _on_terminate)
    (folder / "supervisor.pid").write_text(str(os.getpid()), encoding="utf-8")
    adopt_orphans()
    try:
        result = run(folder)
    except _Cancelled:
        kill_descendants()
        result = Result("cancelled", None, time.time())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _write_result(folder, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
