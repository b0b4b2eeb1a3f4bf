"""A host whose sessions are threads: they last a moment and leave what a real one would.

Everything around it is local Kaggle as it is. The body is that of the simulation, whose weights
are a hash chain over the steps, so that the truth about them is known.
"""

import fcntl
import json
import threading
import time
from pathlib import Path

from orchestrator.emulator.hosting import Host
from tests.simulation import session as body

SESSION_SECONDS = 0.4


class QuickHost(Host):
    """Runs each session as a timer; the lock that says that it lives is held until it ends."""

    def _spawn(self, folder: Path) -> None:
        lock = self.lock_path(int(folder.name)).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        _log(folder, {"event": "start"})

        def end() -> None:
            try:
                self._leave(folder)
            finally:
                lock.close()
                self._on_exit()

        timer = threading.Timer(SESSION_SECONDS, end)
        timer.daemon = True
        timer.start()

    def _leave(self, folder: Path) -> None:
        _leave_outputs(folder)


def _leave_outputs(folder: Path) -> None:
    source = (folder / "src" / "notebook.ipynb").read_text(encoding="utf-8")
    parameters = body.read_parameters(source)
    assert parameters
    inputs = folder / "input"
    mounted = {
        path.relative_to(inputs).as_posix(): path.read_bytes()
        for path in inputs.rglob("*")
        if path.is_file()
    }
    files = body.run(parameters, body.packed(mounted), body.Script(), time.time())
    for name, content in files.items():
        path = folder / "working" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    _log(folder, {"event": "end"})
    result = {"ending": "complete", "exit_code": 0, "ended_at": time.time()}
    (folder / "result.json").write_text(json.dumps(result))


def _log(folder: Path, progress: dict[str, str]) -> None:
    entry = {"stream_name": "stdout", "time": 0.0, "data": f"kchain: {json.dumps(progress)}\n"}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(entry) + "\n")
