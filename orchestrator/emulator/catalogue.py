"""Every known misbehaviour by name: from this list come the command, the docs, chaos and tests.

An entry is a fault that can be planted as it stands, and the rate at which chaos draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from orchestrator.emulator import catalogue_platform, catalogue_wire
from orchestrator.emulator.faults import EVERY, Fault, Wire


@dataclass(frozen=True)
class Entry:
    """One misbehaviour."""

    group: str
    fault: Fault
    does: str
    rate: float  # in chaos, for each call it may strike

    @property
    def name(self) -> str:
        return self.fault.name


def plant(name: str, **changes: Any) -> Fault:
    """Make the fault of this name, with other fields if so asked."""
    if name not in CATALOGUE:
        raise ValueError(f"there is no fault {name!r} in the catalogue")
    return replace(CATALOGUE[name].fault, **changes)


def fault_from_json(fields: Mapping[str, Any]) -> Fault:
    """Make a fault from the catalogue if only named, else from its own fields.

    Raises:
        ValueError, TypeError: a field is unknown, or holds what it cannot.
    """
    _FIELDS.validate_python({"match": EVERY, "effect": Wire.STATUS, **fields})
    if "effect" not in fields and "name" in fields:
        return plant(**fields)
    return Fault(**fields)


def _entries() -> dict[str, Entry]:
    entries = {}
    for group, rate, rows in (*catalogue_wire.GROUPS, *catalogue_platform.GROUPS):
        for name, match, effect, does, fields in rows:
            assert name not in entries, name
            entries[name] = Entry(group, Fault(match, effect, name, **fields), does, rate)
    return entries


CATALOGUE: Mapping[str, Entry] = _entries()
_FIELDS = TypeAdapter(Fault)  # checks the types of what comes from outside
