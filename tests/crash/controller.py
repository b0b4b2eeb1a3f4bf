"""The real command, which dies by kill -9 at the first of the points that it is told.

    python -m tests.crash.controller FOLDER run --sessions 3

A point is `before` or `after` a call across a seam (journal, Kaggle, disk) in one session. Those
to die at stand in FOLDER/points, one a line; every point that is passed is added to FOLDER/passed,
so that the last line there says where it died.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cli import cli
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle.api import KaggleApi


class Points:
    """Which points there are, and what happens at them."""

    def __init__(self, folder: Path) -> None:
        self._wanted = frozenset((folder / "points").read_text().splitlines())
        self._passed = os.open(folder / "passed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.journal: Journal | None = None

    def pass_by(self, moment: str, name: str) -> None:
        session = self.journal.state.session if self.journal else 0
        point = f"{moment} {name} in session {session}"
        os.write(self._passed, f"{point}\n".encode())
        if point in self._wanted:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Put points around every call across a seam."""
    for owner, seam in ((KaggleApi, "kaggle"), (Files, "files"), (Journal, "journal")):
        for name, method in list(vars(owner).items()):
            if callable(method) and not name.startswith("_"):
                setattr(owner, name, _watched(points, seam, name, method))
    opened = Journal.__init__

    def open_journal(self: Journal, *args: Any, **kwargs: Any) -> None:
        opened(self, *args, **kwargs)
        points.journal = self

    Journal.__init__ = open_journal  # type: ignore[method-assign]


def _watched(
    points: Points, seam: str, name: str, method: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        label = f"{seam}.{name}" + (f" {args[0]}" if (seam, name) == ("journal", "append") else "")
        points.pass_by("before", label)
        result = method(self, *args, **kwargs)
        points.pass_by("after", label)
        return result

    return call


if __name__ == "__main__":
    watch(Points(Path(sys.argv.pop(1))))
    cli(prog_name="kchain")
