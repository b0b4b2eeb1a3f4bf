"""What the server asks a session's supervisor to run, and what the supervisor answers.

Both are JSON files in the session's folder. Standard library only.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spec:
    """What to run, for how long, and on what kind of machine."""

    session_id: int
    source: str  # file name below src/
    kernel_type: str
    language: str
    limit_seconds: float
    started_at: float
    gpus: tuple[str, ...] = ()  # their names; pretended, the computing is done by the CPU
    has_internet: bool = False
    memory_limit_bytes: int | None = None
    output_limit_bytes: int | None = None


@dataclass(frozen=True)
class Result:
    """How it ended; `ending` is one of records.Ending."""

    ending: str
    exit_code: int | None
    ended_at: float


def write_spec(folder: Path, spec: Spec) -> None:
    (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")


def read_spec(folder: Path) -> Spec:
    fields = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    return Spec(**{**fields, "gpus": tuple(fields.get("gpus", ()))})


def write_result(folder: Path, result: Result) -> None:
    """Write how the session ended, in one piece."""
    draft = folder / "result.json.tmp"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(result), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / "result.json")


def read_result(folder: Path) -> Result | None:
    """How the session ended; None if its supervisor vanished before it could say."""
    path = folder / "result.json"
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
