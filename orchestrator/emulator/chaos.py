"""Chaos: draws from the whole catalogue, each entry at its rate, all of it from one seed.

What strikes the k-th call of a method follows from seed, method and k alone, so that neither
threads nor other calls change it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from orchestrator.emulator.catalogue import CATALOGUE, Entry
from orchestrator.emulator.faults import SESSION_END, SESSION_START, Fault, Wire

_LASTING = (Wire.HANG, Wire.HANG_AFTER, Wire.DRIP, Wire.DELAY)
_WAIT = "Retry-After"


@dataclass(frozen=True)
class Chaos:
    """What a local Kaggle suffers when nobody planted anything."""

    seed: int
    scale: float = 1.0  # of all rates
    longest_seconds: float = 2.0  # for a hang, a drip, a delay, and what a rate limit asks for
    without: frozenset[str] = frozenset()  # entries that are drawn, and then do nothing

    def draw(self, method: str, call: int) -> Fault | None:
        """Tell what strikes this call of a method, if anything does."""
        left = fraction(f"{self.seed} {method} {call}")
        for entry in candidates(method):
            left -= entry.rate * self.scale
            if left < 0:
                return None if entry.name in self.without else self._bounded(entry.fault)
        return None

    def _bounded(self, fault: Fault) -> Fault:
        """One strike, that is over soon."""
        once = replace(fault, times=1, every=1)
        if fault.effect in _LASTING:
            return replace(once, seconds=min(fault.seconds or 1e9, self.longest_seconds))
        if _WAIT in fault.headers:
            return replace(once, headers={**fault.headers, _WAIT: self._soon(fault.headers[_WAIT])})
        return once

    def _soon(self, wait: str) -> str:
        """A wait that a client would obey is shortened; one that is no time stays garbage."""
        if wait.endswith("GMT"):
            return f"{self.longest_seconds:g}"
        is_number = wait.isdigit() or wait == "inf"
        return f"{min(float(wait), self.longest_seconds):g}" if is_number else wait


@cache
def candidates(method: str) -> Sequence[Entry]:
    """The entries that may strike a call of a method, or one in an area."""
    path = method if method.startswith("/") else f"/v1/{method}"
    if method in (SESSION_START, SESSION_END):
        path = f"/{method}"
    return [entry for entry in CATALOGUE.values() if entry.fault.matches(path)]


def fraction(text: str) -> float:
    """A number from 0 to 1 that follows from a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
