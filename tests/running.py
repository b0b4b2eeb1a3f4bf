"""The real command and a local Kaggle, as tests run them: what their folders share."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.emulator.server import LocalKaggle, Settings

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "orchestrator")
# A chain and a local Kaggle that lose no time.
QUICK = """
[timing]
poll_seconds = 0.1
settle_seconds = 1.0
read_gap_seconds = 0.2
grace_seconds = 5.0
retry_seconds = 0.2
"""
SETTINGS = Settings(queue_seconds=0.1, dataset_processing_seconds=0.2, dataset_visible_seconds=0.1)
LONGEST_SECONDS = 120.0  # of a chain that nobody disturbs, on a busy machine

Value = TypeVar("Value")


def environment(additions: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command of ours is started with."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140", **(additions or {})}


def run(
    command: Sequence[str], *, timeout: float = LONGEST_SECONDS, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end, whatever comes of it."""
    options = {"env": environment(), **options}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )


@contextlib.contextmanager
def standing(folder: Path) -> Iterator[LocalKaggle]:
    """A local Kaggle that listens; what still runs there ends with it."""
    with LocalKaggle(folder, settings=SETTINGS) as local:
        yield local
        local.close(kill_sessions=True)


def pointing_at(local: LocalKaggle) -> dict[str, str]:
    """The variables that send a command to this local Kaggle."""
    return {"KCHAIN_KAGGLE_ENDPOINT": local.url, "KAGGLE_API_TOKEN": local.token}


def count_events(journal: Path) -> int:
    """How many events a journal has, also while a controller is writing some."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM events").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it is just being made, or locked


def wait_until(
    condition: Callable[[], Value], what: str = "the condition", seconds: float = LONGEST_SECONDS
) -> Value:
    """Wait until something holds, and return it; a test's only way to wait for another process."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} seconds: {what}"
        time.sleep(0.01)
    return value
