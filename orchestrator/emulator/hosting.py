"""Host sessions as processes: prepare a folder, launch a supervisor, collect what it left.

A session's folder is all there is to know about it, so a server that starts again goes on with
the sessions it finds. Whether a supervisor lives is told by a file lock that dies with it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orchestrator
from orchestrator.emulator import own_files
from orchestrator.emulator.blobs import Blobs
from orchestrator.emulator.limits import oldest_that_fit
from orchestrator.emulator.logfile import LogFollower
from orchestrator.emulator.processes import kill_marked
from orchestrator.emulator.records import Ending, File, KernelVersion, Session
from orchestrator.emulator.spec import Spec, read_result, read_spec, write_spec

_READ_ONLY = stat.S_IRUSR | stat.S_IXUSR
_PACKAGE_ROOT = Path(orchestrator.__path__[0]).parent


@dataclass(frozen=True)
class Report:
    """What a session left, with its bytes already among the blobs."""

    ending: Ending
    files: tuple[File, ...]
    log_key: str
    ended_at: float


class Host:
    """The machine room: one folder for each open session."""

    def __init__(self, folder: Path, blobs: Blobs, on_exit: Callable[[], object]) -> None:
        self._folder = folder
        self._blobs = blobs
        self._on_exit = on_exit
        folder.mkdir(parents=True, exist_ok=True)

    def folder(self, session_id: int) -> Path:
        return self._folder / str(session_id)

    def has_launched(self, session_id: int) -> bool:
        return self.lock_path(session_id).exists()

    def lock_path(self, session_id: int) -> Path:
        """Held by the supervisor; beside the folder, which a kernel may damage."""
        return self._folder / f"{session_id}.alive"

    def launch(self, session: Session, version: KernelVersion) -> None:
        """Start the session's supervisor; what an interrupted attempt left is discarded."""
        folder = self.folder(session.session_id)
        discard(folder)
        for name in ("src", "input", "working"):
            (folder / name).mkdir(parents=True)
        is_notebook = version.push.kernel_type == "notebook"
        spec = Spec(
            session_id=session.session_id,
            source="notebook.ipynb" if is_notebook else "script.py",
            kernel_type=version.push.kernel_type,
            language=version.push.language,
            limit_seconds=session.limit_seconds,
            started_at=time.time(),
            **asdict(session.machine),
        )
        (folder / "src" / spec.source).write_text(version.push.source, encoding="utf-8")
        write_spec(folder, spec)
        self._mount(session, folder / "input")
        self._spawn(folder)

    def give_up(self, session_id: int, reason: str) -> None:
        """Leave a session that could not be launched as one that vanished, with a log."""
        entry = {"stream_name": "stderr", "time": 0.0, "data": f"{reason}\n"}
        self.folder(session_id).mkdir(parents=True, exist_ok=True)
        log = self.folder(session_id) / "log.jsonl"
        log.write_text(json.dumps(entry) + "\n", encoding="utf-8")

    def _mount(self, session: Session, inputs: Path) -> None:
        for mount in session.mounts:
            for file in mount.files:
                self._blobs.lend(file.key, inputs / mount.path / file.name)
            (inputs / mount.path).mkdir(parents=True, exist_ok=True)
            if mount.session_id is not None:
                self._lend_own_files(mount.session_id, inputs / mount.path)
        for path, _, _ in os.walk(inputs):
            os.chmod(path, _READ_ONLY)

    def _lend_own_files(self, session_id: int, folder: Path) -> None:
        for name in own_files.NAMES:
            key = f"own-{session_id}-{name}"
            if self._blobs.path(key).exists() and not (folder / name).exists():
                self._blobs.lend(key, folder / name)

    def _spawn(self, folder: Path) -> None:
        with (
            self.lock_path(int(folder.name)).open("w") as lock,
            (folder / "supervisor.log").open("w") as log,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)  # inherited: held until the supervisor is gone
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.emulator.runner", str(folder)],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(_PACKAGE_ROOT)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
            lock.write(str(supervisor.pid))
        threading.Thread(target=self._await_exit, args=(supervisor,), daemon=True).start()

    def _await_exit(self, supervisor: subprocess.Popen[bytes]) -> None:
        supervisor.wait()
        self._on_exit()

    def is_alive(self, session_id: int) -> bool:
        with self.lock_path(session_id).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def terminate(self, session_id: int) -> None:
        """Ask the supervisor to kill the session; it reports the ending as usual."""
        pid = self.lock_path(session_id).read_text(encoding="ascii")
        if pid and self.is_alive(session_id):  # it is empty until the supervisor has started
            with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(int(pid), signal.SIGTERM)

    def collect(self, session_id: int) -> Report:
        """Store the outputs and the log of a session that has ended; safe to call again."""
        folder = self.folder(session_id)
        result = read_result(folder)
        if result is None:
            kill_marked(f"KCHAIN_WORKING_DIR={folder / 'working'}")
            return Report(Ending.VANISHED, (), self._store_log(session_id), time.time())
        spec = read_spec(folder)
        files = []
        for index, (name, path) in enumerate(_outputs(folder, spec.output_limit_bytes)):
            key = f"output-{session_id}-{index:05d}"
            files.append(File(name, key, self._blobs.adopt(path, key)))
        ending = Ending(result.ending)
        log_key = self._store_log(session_id)
        if ending is Ending.COMPLETE:
            self._store_own_files(spec, log_key)
        return Report(ending, tuple(files), log_key, result.ended_at)

    def _store_own_files(self, spec: Spec, log_key: str) -> None:
        folder = self.folder(spec.session_id)
        source = (folder / "src" / spec.source).read_text(encoding="utf-8")
        (folder / "own").mkdir(exist_ok=True)
        for name, text in own_files.own_files(spec.kernel_type, source, self._blobs.text(log_key)):
            (folder / "own" / name).write_text(text, encoding="utf-8")
            self._blobs.adopt(folder / "own" / name, f"own-{spec.session_id}-{name}")

    def discard(self, session_id: int) -> None:
        discard(self.folder(session_id))
        self.lock_path(session_id).unlink(missing_ok=True)

    def clear_away(self, wanted: Collection[int]) -> None:
        """Kill and discard what still runs of sessions that are over, as of a deleted kernel."""
        names = {path.name.partition(".")[0] for path in self._folder.iterdir()}
        for session_id in {int(name) for name in names if name.isdigit()}.difference(wanted):
            if self.has_launched(session_id) and self.is_alive(session_id):
                self.terminate(session_id)
            else:
                self.discard(session_id)

    def log_lines(self, session_id: int) -> LogFollower:
        return LogFollower(self.folder(session_id) / "log.jsonl")

    def _store_log(self, session_id: int) -> str:
        """The log as Kaggle keeps it: one JSON array."""
        key = f"log-{session_id}"
        self.folder(session_id).mkdir(exist_ok=True)  # the kernel may have removed it
        draft = self.folder(session_id) / "log.json"
        with draft.open("w", encoding="utf-8") as target:
            separator = "["
            for line in LogFollower(self.folder(session_id) / "log.jsonl").new_lines():
                target.write(separator + line)
                separator = "\n,"
            target.write("\n]" if separator != "[" else "[]")
        self._blobs.adopt(draft, key)
        return key


def discard(folder: Path) -> None:
    """Remove a session's folder, read-only inputs and all."""
    if not folder.exists():
        return
    for path, _, _ in os.walk(folder):
        os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder)


def _outputs(folder: Path, limit_bytes: int | None) -> Iterator[tuple[str, Path]]:
    """Every regular file the session left and that is kept, by its name among the outputs."""
    executed = folder / "src" / "__notebook__.ipynb"
    if executed.exists():
        yield executed.name, executed
    working = folder / "working"
    found = [path for path in working.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in sorted(found if limit_bytes is None else oldest_that_fit(found, limit_bytes)):
        name = path.relative_to(working).as_posix()
        yield name.encode("utf-8", "replace").decode("utf-8"), path
