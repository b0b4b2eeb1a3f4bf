"""The world on disk: each operation is one line of a file, and replaying the file is loading.

An operation is answered only after its line is flushed and synced. A line torn by a crash was
never answered, so it is dropped.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from orchestrator.emulator.records import Draft, Push, from_json
from orchestrator.emulator.settings import Settings
from orchestrator.emulator.world import World

P = ParamSpec("P")
T = TypeVar("T")


class StateUnreadable(RuntimeError):
    """The file was written by another version, or damaged."""


class Ledger:
    """One world, its lock and its file."""

    def __init__(
        self, path: Path, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self.world = World()
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        _drop_torn_line(path)
        self._replay(path)
        self._file = path.open("ab", buffering=0)
        self.do(self.world.configure, settings=settings)

    def ask(
        self, question: Callable[Concatenate[float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Put a question to the world, as of now."""
        with self._lock:
            return question(self._clock(), *args, **kwargs)

    def do(
        self, operation: Callable[Concatenate[float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Let the world perform an operation and record it; a refused one leaves no line.

        One that cannot be recorded, as on a full disk, has not happened: OSError is raised.
        """
        name = operation.__name__
        assert name in World.OPERATIONS, name
        with self._lock:
            answer: T = getattr(self.world, name)(self._clock(), *args, **kwargs)
            self._append({"at": self.world.now, "op": name, "args": kwargs})
            return answer

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview((json.dumps(line, default=_to_json) + "\n").encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            self.world = World()
            self._replay(self._path)
            raise

    def _replay(self, path: Path) -> None:
        if not path.exists():
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    self._redo(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise StateUnreadable(
                        f"line {number} of {path} is not what this version writes ({error!r});"
                        " choose another state folder, or move this one away"
                    ) from error

    def _redo(self, entry: dict[str, Any]) -> None:
        if entry["op"] not in World.OPERATIONS:
            raise ValueError(f"unknown operation {entry['op']!r}")
        args = {name: _revive(name, value) for name, value in entry["args"].items()}
        getattr(self.world, entry["op"])(entry["at"], **args)


def _to_json(value: object) -> Any:
    if isinstance(value, Settings):
        return value.to_json()
    assert is_dataclass(value), value
    assert not isinstance(value, type)
    return asdict(value)


def _revive(name: str, value: Any) -> Any:
    if name == "settings":
        return Settings.from_json(value)
    kinds: dict[str, type[Any]] = {"push": Push, "draft": Draft}
    return from_json(kinds[name], value) if name in kinds else value


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
