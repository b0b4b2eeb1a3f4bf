"""What the journal tells about each session, as rows for people and for JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.machine import Event, Kind, Phase, State

# The seconds between two events of one session, under the name of what happened in between.
_SPANS = (
    ("push", Kind.PUSH_INTENT, Kind.PUSH_DONE),
    ("queue", Kind.PUSH_DONE, Kind.SESSION_SEEN),
    ("run", Kind.SESSION_SEEN, Kind.SESSION_ENDED),
    ("download", Kind.SESSION_ENDED, Kind.CHECKPOINT_VERIFIED),
    ("publish", Kind.CHECKPOINT_VERIFIED, Kind.PUBLISH_SEEN),
    ("live", Kind.PUBLISH_SEEN, Kind.HEAD),
)
SPANS = tuple(name for name, _, _ in _SPANS)


@dataclass
class Row:
    """One session: what it trained, what it left, and where the time went, in seconds."""

    session: int
    attempts: int = 1
    kernel_version: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    val_loss: float | None = None
    checkpoint: str | None = None
    sha256: str | None = None
    dataset_version: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def to_body(self) -> dict[str, Any]:
        return asdict(self)


def rows(events: Iterable[Event]) -> list[Row]:
    """Return one row for each session that was pushed, in order."""
    found: list[Row] = []
    marks: dict[Kind, float] = {}
    for event in events:
        if event.kind in (Kind.RECOVERED, Kind.RECOVERED_LIVE):
            found = _recovered(event, found)
        if event.kind is Kind.PUSH_INTENT:
            marks = {}
            if not found or found[-1].session != event.data["session"]:
                found.append(Row(event.data["session"]))
            found[-1].attempts = event.data["attempt"]
        marks.setdefault(event.kind, event.at)
        if found:
            _fill(found[-1], event)
            found[-1].seconds = _seconds(marks)
    return found


def _recovered(event: Event, known: list[Row]) -> list[Row]:
    """Return what was known, up to what a recovery found: the head's session, and a pushed one."""
    found, head, push = [], event.data["head"], event.data.get("push")
    if head:
        row = Row(event.data["heads"], dataset_version=head["version"])
        _fill_checkpoint(row, head["checkpoint"])
        found.append(row)
    if push:
        attempts, version = event.data["attempt"], push["version"]
        found.append(Row(push["session"], attempts=attempts, kernel_version=version))
    told = {(row.session, row.sha256): row for row in known if row.checkpoint}
    found = [told.get((row.session, row.sha256), row) for row in found]
    older = [row for row in known if all(row.session < other.session for other in found)]
    return [*older, *found]


def _fill(row: Row, event: Event) -> None:
    if event.kind is Kind.PUSH_DONE:
        row.kernel_version = event.data["version"]
    elif event.kind is Kind.CHECKPOINT_VERIFIED:
        _fill_checkpoint(row, event.data["checkpoint"])
    elif event.kind is Kind.HEAD:
        row.dataset_version = event.data["version"]


def _fill_checkpoint(row: Row, checkpoint: Mapping[str, Any]) -> None:
    row.first_step, row.last_step = checkpoint["first_step"], checkpoint["step"]
    row.first_loss, row.last_loss = checkpoint["first_loss"], checkpoint["last_loss"]
    row.val_loss, row.sha256 = checkpoint["val_loss"], checkpoint["sha256"]
    row.checkpoint = checkpoint["file"]


def _seconds(marks: dict[Kind, float]) -> dict[str, float]:
    spans = {}
    for name, start, end in _SPANS:
        if start in marks and end in marks:
            spans[name] = round(marks[end] - marks[start], 3)
    return spans


def progress(heads: int, planned: int) -> str:
    """Return how far a chain is; `run --sessions` may have asked for more than is configured."""
    if heads <= planned:
        return f"{heads} of {planned} sessions done"
    return f"{heads} sessions done, more than the {planned} of the configuration"


def summary(
    name: str,
    state: State,
    sessions: int,
    events: Iterable[Event],
    *,
    is_stop_asked: bool = False,
) -> dict[str, Any]:
    """Return everything `kchain status --json` prints; `*_at` in Unix seconds."""
    push, head, binding = state.push, state.head, state.binding
    return {
        "chain": name,
        "phase": state.phase.value,
        "sessions_done": state.heads,
        "sessions_planned": sessions,
        "session": None if state.phase is Phase.DONE else state.session,
        "attempt": state.attempt,
        "fruitless_attempts": state.fruitless,
        "kernel": f"{binding.owner}/{binding.kernel}" if binding else None,
        "kernel_version": push.version if push else None,
        "dataset": f"{binding.owner}/{binding.dataset}" if binding else None,
        "head": {**head.checkpoint.to_body(), "dataset_version": head.version} if head else None,
        "waiting": state.wait_reason,
        "waiting_for": state.wait_message or None,
        "wait_until_at": state.wait_until_at or None,
        "finished": state.finish_reason if state.phase is Phase.DONE else None,
        "stop_asked": is_stop_asked,
        "halted": state.halt_code if state.phase is Phase.HALTED else None,
        "halt_message": state.halt_message or None,
        "last_event_at": state.last_at or None,
        "rows": [row.to_body() for row in rows(events)],
    }
