"""The one source of time: Unix seconds, UTC. Passed in, never read elsewhere."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine may know about time."""

    def now(self) -> float:
        """Return the wall clock in Unix seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))
