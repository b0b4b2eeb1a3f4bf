"""The one source of time. Passed in, never read elsewhere.

The wall clock says what time it is, and may be set back or ahead at any moment. How much time
has passed is asked of a steady clock, which nobody sets; it begins anew with every start of the
machine.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant by both clocks: Unix seconds, and steady seconds of the boot named so."""

    at: float
    boot_id: str
    steady: float

    def is_same_boot(self, earlier: Moment) -> bool:
        """Tell whether one steady clock has counted from the earlier moment to this one.

        Where a boot has no name it may also be a later boot that has been up for longer: then
        more time has passed than the difference.
        """
        return self.boot_id == earlier.boot_id and (
            bool(self.boot_id) or self.steady >= earlier.steady
        )

    def seconds_since(self, earlier: Moment) -> float:
        """Return how much time has passed, never less than none.

        Across a restart of the machine, or on another machine, only the wall clocks can tell, and
        they may be wrong.
        """
        if self.is_same_boot(earlier):
            return max(0.0, self.steady - earlier.steady)
        return max(0.0, self.at - earlier.at)


class Clock(Protocol):
    """What the engine may know about time."""

    def now(self) -> float:
        """Return the wall clock in Unix seconds."""
        ...

    def moment(self) -> Moment:
        """Return this instant by both clocks."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def moment(self) -> Moment:
        return Moment(time.time(), _boot_id(), _steady())

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


@functools.cache
def _boot_id() -> str:
    """Return what names this start of the machine; nothing where that cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _steady() -> float:
    """Return seconds that go on counting while the machine is suspended, where there are such."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)
