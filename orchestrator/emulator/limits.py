"""What a session takes of its machine, looked at while it runs: memory and its working folder.

Ordinary users have no control groups, and a limit on address space breaks torch, so the
supervisor samples. What comes and goes between two looks is not seen. Standard library only.
"""

import os
import time
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from orchestrator.emulator.processes import memory_bytes
from orchestrator.emulator.spec import Spec

LOOK_SECONDS = 0.2
_PAUSES_PER_LOOK = 20  # a look at thousands of files is slow: it takes a 20th of the time at most

MEMORY, OUTPUT = "memory", "output"


class Watch:
    """Says which limit a session has passed; cheap to ask often."""

    def __init__(self, spec: Spec, working: Path) -> None:
        self._spec = spec
        self._working = working
        self._next_look_at = 0.0

    def passed(self) -> str | None:
        """Return the limit that is passed, if it was time to look and one is."""
        began = time.monotonic()
        if began < self._next_look_at:
            return None
        found = self.look()
        ended = time.monotonic()
        self._next_look_at = ended + max(LOOK_SECONDS, _PAUSES_PER_LOOK * (ended - began))
        return found

    def look(self) -> str | None:
        limit = self._spec.memory_limit_bytes
        if limit is not None and memory_bytes(os.getpid(), enough=limit) > limit:
            return MEMORY
        return self.look_at_output()

    def look_at_output(self) -> str | None:
        limit = self._spec.output_limit_bytes
        return OUTPUT if limit is not None and folder_bytes(self._working) > limit else None


def folder_bytes(folder: Path) -> int:
    """The sizes of all files below a folder, which may change meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:  # it was renamed or removed after the listing
                continue
    return total


def oldest_that_fit(files: Iterable[Path], limit_bytes: int) -> list[Path]:
    """The files that a disk of this size would hold whole: those written first."""
    stats = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in files)
    totals = accumulate(size_bytes for _, size_bytes, _ in stats)
    return [path for total, (_, _, path) in zip(totals, stats, strict=True) if total <= limit_bytes]
