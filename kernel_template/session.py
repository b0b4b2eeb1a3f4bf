"""The session itself: where its folders are, how long it may run, its verdict and progress lines.

Standard library only: the launcher refuses a session within a second, before torch is imported.
"""

import hashlib
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTRACT = 1
RESERVE_SECONDS = 90.0  # kept free at the end of a session for its last evaluation and save
SEARCH_DEPTH = 8  # folders below the input; Kaggle's deepest mount, a model's, has six
CATEGORIES = ("startup", "data", "train", "evaluate", "save", "idle")  # where seconds can go


class Ending(Exception):
    """The session ends here, with this verdict: outcome, reason and a sentence for a person."""

    def __init__(self, outcome: str, reason: str | None, detail: str):
        super().__init__(detail)
        self.outcome, self.reason, self.detail = outcome, reason, detail


class Refusal(Ending):
    """The session must not train: what it was given is not what it was promised."""

    def __init__(self, reason: str, detail: str):
        super().__init__("refused", reason, detail)


@dataclass(frozen=True)
class Paths:
    """Kaggle's two folders, or the ones that stand for them elsewhere."""

    input: Path
    working: Path

    @property
    def checkpoints(self) -> Path:
        return self.working / "checkpoints"

    @property
    def verdict(self) -> Path:
        return self.working / "session.json"


def find_paths() -> Paths:
    """The environment's folders when set, else Kaggle's when this is Kaggle, else ./kaggle/."""
    home = Path("/kaggle") if Path("/kaggle/working").is_dir() else Path.cwd() / "kaggle"
    paths = Paths(
        input=Path(os.environ.get("KCHAIN_INPUT_DIR", home / "input")),
        working=Path(os.environ.get("KCHAIN_WORKING_DIR", home / "working")),
    )
    paths.working.mkdir(parents=True, exist_ok=True)
    return paths


def pretended_gpus() -> list[str] | None:
    """Names of the GPUs to act as if they were here, while the CPU computes; None: do not pretend.

    KCHAIN_PRETEND_GPUS is `2 x Tesla T4` or `none`; a rehearsal sets it, Kaggle does not.
    """
    told = os.environ.get("KCHAIN_PRETEND_GPUS")
    if told is None:
        return None
    count, _, name = told.partition(" x ")
    return [name] * int(count) if name else []


def find_files(folder: Path) -> Iterator[Path]:
    """All files below a folder, in order: Kaggle's mount layout differs between sessions."""
    for name, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        if len(Path(name).relative_to(folder).parts) >= SEARCH_DEPTH:
            folders.clear()
        yield from (Path(name, file) for file in sorted(files))


def session_started_at(paths: Paths) -> float:
    """When Kaggle's clock began: as told, else when its container's process 1 began, else now."""
    told = os.environ.get("KCHAIN_SESSION_STARTED_AT")
    if told:
        return float(told)
    if paths.input != Path("/kaggle/input"):
        return time.time()
    ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    return int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file whose bytes are on the disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy_flushed(source: Path, target: Path) -> None:
    """Copy a file whose bytes are on the disk when this returns."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the renames in a folder durable, not only the bytes they lead to."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by one rename: a reader sees all of the old bytes or all of the new."""
    temporary = path.with_name(path.name + ".tmp")
    write_flushed(temporary, data)
    temporary.replace(path)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Session:
    """One session as it runs: its clock, its verdict and its progress lines.

    The verdict on disk also carries the clock from the launcher to the trainer and back, and over
    a restart: a process that finds one with its own token goes on counting from there. Seconds
    that no process accounted for go to the category `since`. Of several training processes only
    the first speaks: the others are `silent`.
    """

    def __init__(
        self,
        raw: dict,
        paths: Paths,
        started_at: float,
        *,
        since: str = "startup",
        silent: bool = False,
    ):
        self.paths = paths
        self.silent = silent
        self.identity = {key: raw[key] for key in ("chain", "session", "attempt", "token")}
        parent_step = raw["parent"]["step"] if raw.get("parent") else 0
        self.facts = {
            "first_step": parent_step,
            "last_step": parent_step,
            "training_complete": False,
            "steps_per_second": None,
            "exact": None,
            "devices": {"kind": "cpu", "names": [], "count": 0},
            "versions": {"python": platform.python_version()},
            "resumed_from": None,
        }
        self.seconds = dict.fromkeys(CATEGORIES, 0.0)
        self.longest_save_seconds = 0.0
        self.signal_number = None
        self._budget_seconds = raw["time_budget_seconds"]
        self._ends_at = time.monotonic() + started_at + self._budget_seconds - time.time()
        previous = self._previous_verdict()
        if previous:
            carried = (*self.facts, "parameters_count", "first_loss", "last_loss")
            self.facts.update({key: previous[key] for key in carried if key in previous})
            self.seconds.update(previous["seconds"])
            started_at = max(started_at, previous["written_at"])
        self._category = since
        self._since = time.monotonic() - max(0.0, time.time() - started_at)
        self._step_line_at = -math.inf

    def _previous_verdict(self) -> dict | None:
        if not self.paths.verdict.exists():
            return None
        verdict = json.loads(self.paths.verdict.read_text(encoding="utf-8"))
        return verdict if verdict.get("token") == self.identity["token"] else None

    def spend(self, category: str) -> float:
        """From now on seconds go to `category`; returns those since the last call."""
        now = time.monotonic()
        passed = now - self._since
        self.seconds[self._category] += passed
        self._category, self._since = category, now
        return passed

    def seconds_left(self) -> float:
        """Until the session should stop by itself: its limit less what the ending needs.

        The reserve is the larger of 90 s and three of the longest saves, but never more than a
        quarter of the whole budget, so that rehearsals of a few seconds train at all.
        """
        reserve = max(RESERVE_SECONDS, 3 * self.longest_save_seconds)
        return self._ends_at - min(reserve, self._budget_seconds / 4) - time.monotonic()

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT only leave a note: the step in hand is finished and saved first."""

        def note(number, _frame):
            self.signal_number = number

        signal.signal(signal.SIGTERM, note)
        signal.signal(signal.SIGINT, note)

    def write_verdict(self, outcome: str, reason: str | None = None, detail: str = "") -> None:
        """Replace session.json; `running` is what stays when the session is killed."""
        if not self.silent:
            write_atomically(self.paths.verdict, self.render_verdict(outcome, reason, detail))

    def render_verdict(self, outcome: str, reason: str | None = None, detail: str = "") -> bytes:
        """The verdict as of now, for session.json.

        Its `goodput` is the share of the session's seconds so far that went into optimizer steps.
        """
        self.spend(self._category)
        steps = self.facts["last_step"] - self.facts["first_step"]
        if steps > 0 and self.seconds["train"] > 0:
            self.facts["steps_per_second"] = round(steps / self.seconds["train"], 4)
        billed = sum(self.seconds.values())
        verdict = {
            "contract": CONTRACT,
            **self.identity,
            "outcome": outcome,
            "reason": reason,
            "detail": detail[:2000],
            **self.facts,
            "seconds": {key: round(value, 3) for key, value in self.seconds.items()},
            "goodput": round(self.seconds["train"] / billed, 4) if steps > 0 else None,
            "written_at": time.time(),
        }
        return json.dumps(verdict, indent=1).encode()

    def finish(self, ending: Ending) -> None:
        """Write the last verdict, and say it on the log too."""
        self.write_verdict(ending.outcome, ending.reason, ending.detail)
        self.progress(
            "end",
            step=self.facts["last_step"],
            outcome=ending.outcome,
            reason=ending.reason,
            message=ending.detail,
        )

    def progress(self, event: str, **facts) -> None:
        """One line of standard output that the controller reads: `kchain: {json}`.

        Written at once, so that lines of two threads never mix.
        """
        if self.silent:
            return
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in facts.items()
        }
        sys.stdout.write(f"kchain: {json.dumps({'event': event, **finite})}\n")
        sys.stdout.flush()

    def step_line_due(self, every_seconds: float) -> bool:
        """True the first time, and then at most once in `every_seconds`."""
        now = time.monotonic()
        if now - self._step_line_at < every_seconds:
            return False
        self._step_line_at = now
        return True
