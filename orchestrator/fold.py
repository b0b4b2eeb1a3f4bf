"""What the events add up to: each kind of event and what it changes. Pure, like the machine.

Here are the events of the chain as a whole; those of a push and its session are in
`fold_pushes.py`, those of a checkpoint and its publication in `fold_publications.py`. Each
update is a function of state and event that returns the fields that change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator import fold_publications, fold_pushes
from orchestrator.machine import Event, Head, Kind, Push, State, next_phase
from orchestrator.model import Binding, Checkpoint

Changes = dict[str, Any]


def apply(state: State, event: Event) -> State:
    """Return the state after `event`. The old state is untouched, whatever happens."""
    phase = next_phase(state, event.kind)
    update = _UPDATES.get(event.kind)
    changes = update(state, event) if update else {}
    if event.kind not in _KEEPS_WAIT:
        changes |= _NO_WAIT
    changes |= {
        "phase": phase,
        "seq": event.seq,
        "last_at": max(state.last_at, event.at),
        "age": event.age,
        "boot_age": event.boot_age,
    }
    return replace(state, **changes)


def fold(events: Iterable[Event]) -> State:
    """Return the state that the events add up to."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


def _bound(_state: State, event: Event) -> Changes:
    named = {key: event.data[key] for key in Binding.__slots__}
    return {"binding": Binding.from_body(named)}


def _recovering(state: State, event: Event) -> Changes:
    """What was under way is forgotten: Kaggle tells what became of it."""
    under_way = {"push": None, "pending": None, "publication": None, "absent": 0}
    return {**_bound(state, event), **under_way, "recovering_age": event.age}


def _recovered(state: State, event: Event) -> Changes:
    """What was read from Kaggle stands for all the events that are missing here."""
    body = event.data
    head, attempt = body["head"], body["attempt"]
    knows_failures = state.kernel_version > 0 and body["heads"] == state.heads
    failures = {} if knows_failures else _no_failures(attempt)
    return {
        "head": Head(Checkpoint.from_body(head["checkpoint"]), head["version"]) if head else None,
        "heads": body["heads"],
        "attempt": attempt,
        "kernel_version": body["kernel_version"],
        "dataset_version": body["dataset_version"],
        "unknown_pushes": 0,
        "unknown_publications": 0,
        "failed_publications": 0,
        **failures,
    }


def _no_failures(attempt: int) -> Changes:
    """Of the attempts before this one nothing is known but how many there were."""
    return {"fruitless": attempt - 1, "last_failure": None, "same_failures": 0}


def _recovered_live(state: State, event: Event) -> Changes:
    push = event.data["push"]
    found = Push(
        token=push["token"],
        base_version=push["version"] - 1,
        time_budget_seconds=push["time_budget_seconds"],
        sent_age=event.age,
        version=push["version"],
    )
    return {**_recovered(state, event), "push": found}


def _waiting(state: State, event: Event) -> Changes:
    return _wait(state, event, event.data["reason"])


def _push_refused(state: State, event: Event) -> Changes:
    return {"push": None, **_wait(state, event, event.data["trouble"])}


def _publish_refused(state: State, event: Event) -> Changes:
    return {"publication": None, **_wait(state, event, event.data["trouble"])}


def _wait(state: State, event: Event, reason: str) -> Changes:
    body = event.data
    return {
        "wait_until_at": body["until"],
        "wait_until_age": event.age + body["until"] - event.at,
        "wait_since_age": state.wait_since_age if state.wait_reason else event.age,
        "wait_reason": reason,
        "wait_message": body["message"],
    }


def _finished(_state: State, event: Event) -> Changes:
    return {"finish_reason": event.data["reason"]}


def _halted(state: State, event: Event) -> Changes:
    return {
        "halt_code": event.data["code"],
        "halt_message": event.data["message"],
        "halted_in": state.phase,
        "halt_facts": event.data,
    }


def _retried(state: State, _event: Event) -> Changes:
    """A person has looked: versions that the halt named are accepted, failures forgotten."""
    push, facts = state.push, state.halt_facts
    accepted = facts.get("base_version", facts.get("kernel_version"))
    return {
        "push": replace(push, base_version=accepted) if push and accepted is not None else push,
        "is_damaged": state.is_damaged and state.halt_code != "damaged_checkpoint",
        "unknown_pushes": 0,
        "unknown_publications": 0,
        "halt_code": None,
        "halt_message": "",
        "kernel_version": facts.get("kernel_version", state.kernel_version),
        "dataset_version": facts.get("dataset_version", state.dataset_version),
        "fruitless": 0,
        "last_failure": None,
        "same_failures": 0,
        "failed_publications": 0,
    }


_KEEPS_WAIT = frozenset({Kind.WAITING, Kind.RESTARTED, Kind.PUSH_REFUSED, Kind.PUBLISH_REFUSED})
_NO_WAIT: Changes = dict(
    wait_until_at=0.0, wait_until_age=0.0, wait_since_age=0.0, wait_reason=None, wait_message=""
)
_UPDATES: Mapping[Kind, Callable[[State, Event], Changes]] = {
    Kind.BOUND: _bound,
    Kind.RECOVERING: _recovering,
    Kind.RECOVERED: _recovered,
    Kind.RECOVERED_LIVE: _recovered_live,
    Kind.WAITING: _waiting,
    Kind.PUSH_REFUSED: _push_refused,
    **fold_pushes.UPDATES,
    **fold_publications.UPDATES,
    Kind.PUBLISH_REFUSED: _publish_refused,
    Kind.FINISHED: _finished,
    Kind.HALTED: _halted,
    Kind.RETRIED: _retried,
}
