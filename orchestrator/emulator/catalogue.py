"""Every known misbehaviour by name: from this list come the command, the docs, chaos and tests.

An entry is a fault that can be planted as it stands, the calls that chaos draws it for, and at
which rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.emulator import catalogue_data as data
from orchestrator.emulator.faults import Fault


@dataclass(frozen=True)
class Entry:
    """One misbehaviour."""

    group: str
    fault: Fault
    does: str
    rate: float  # in chaos, for each call it may strike
    strikes: tuple[str, ...]  # what it may strike in chaos

    @property
    def name(self) -> str:
        return self.fault.name

    def may_strike(self, path: str) -> bool:
        return any(replace(self.fault, match=match).matches(path) for match in self.strikes)


def plant(name: str, **changes: Any) -> Fault:
    """Make the fault of this name, with other fields if so asked."""
    if name not in CATALOGUE:
        raise ValueError(f"there is no fault {name!r} in the catalogue")
    return replace(CATALOGUE[name].fault, **changes)


def fault_from_json(fields: Mapping[str, Any]) -> Fault:
    """Make a fault from the catalogue if only named, else from its own fields."""
    if "effect" not in fields and "name" in fields:
        return plant(**fields)
    return Fault(**fields)


def _entries() -> dict[str, Entry]:
    entries = {}
    for group, rate, rows in data.GROUPS:
        for name, match, effect, does, fields in rows:
            assert name not in entries, name
            matches = (match,) if isinstance(match, str) else match
            fault = Fault(matches[0], effect, name, **fields)
            entries[name] = Entry(group, fault, does, rate, matches)
    return entries


CATALOGUE: Mapping[str, Entry] = _entries()
