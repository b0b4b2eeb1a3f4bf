"""What the events of a push, of its session and of what that left change in a state. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.machine import Event, Kind, Missed, Push, State

Changes = dict[str, Any]


def _intent(_state: State, event: Event) -> Changes:
    push = Push(
        token=event.data["token"],
        base_version=event.data["base_version"],
        time_budget_seconds=event.data["time_budget_seconds"],
        source_sha256=event.data["source_sha256"],
        intent_age=event.age,
    )
    return {"push": push, "absent": 0, "absent_age": 0.0}


def _withdrawn(_state: State, _event: Event) -> Changes:
    return {"push": None, "absent": 0}


def _sent(state: State, event: Event) -> Changes:
    return _changing(state, sent_age=event.age)


def _done(state: State, event: Event) -> Changes:
    version = event.data["version"]
    return {**_changing(state, version=version), "kernel_version": version, "unknown_pushes": 0}


def _landed_bad(state: State, event: Event) -> Changes:
    version, doomed = event.data["version"], event.data["message"]
    push = _changing(state, version=version, doomed=doomed)
    return {**push, "kernel_version": version, "unknown_pushes": 0}


def _absent(state: State, event: Event) -> Changes:
    return {"absent": state.absent + 1, "absent_age": event.age}


def _given_up(state: State, _event: Event) -> Changes:
    return {"push": None, "absent": 0, "unknown_pushes": state.unknown_pushes + 1}


def _overtaken(state: State, event: Event) -> Changes:
    return _changing(state, base_version=event.data["base_version"])


def _session_seen(state: State, event: Event) -> Changes:
    is_first = _push(state).running_age is None and event.data["status"] == "running"
    return _changing(state, running_age=event.age) if is_first else {}


def _session_overrun(state: State, event: Event) -> Changes:
    return _changing(state, doomed=event.data["message"])


def _session_ended(state: State, event: Event) -> Changes:
    status, message = event.data["status"], event.data["message"]
    return _changing(state, ended_age=event.age, end_status=status, end_message=message)


def _outputs_listed(state: State, event: Event) -> Changes:
    return _changing(state, listing=event.data["digest"], listed_age=event.age)


def _output_missed(state: State, event: Event) -> Changes:
    missed, name = _push(state).missed, event.data["file"]
    before = missed.get(name)
    counted = Missed(before.times + 1 if before else 1, event.age)
    return _changing(state, missed={**missed, name: counted})


def _output_back(state: State, event: Event) -> Changes:
    missed = _push(state).missed.items()
    return _changing(state, missed={name: e for name, e in missed if name != event.data["file"]})


def _fruitless(state: State, event: Event) -> Changes:
    failure = f"{event.data['reason']}: {event.data['message']}"
    return {
        "push": None,
        "is_damaged": False,
        "attempt": state.attempt + 1,
        "fruitless": state.fruitless + 1,
        "last_failure": failure,
        "same_failures": state.same_failures + 1 if failure == state.last_failure else 1,
    }


def _push(state: State) -> Push:
    assert state.push is not None, f"no push in phase {state.phase}"
    return state.push


def _changing(state: State, **fields: Any) -> Changes:
    return {"push": replace(_push(state), **fields)}


UPDATES: Mapping[Kind, Callable[[State, Event], Changes]] = {
    Kind.PUSH_INTENT: _intent,
    Kind.PUSH_WITHDRAWN: _withdrawn,
    Kind.PUSH_SENT: _sent,
    Kind.PUSH_DONE: _done,
    Kind.PUSH_LANDED_BAD: _landed_bad,
    Kind.PUSH_ABSENT: _absent,
    Kind.PUSH_GIVEN_UP: _given_up,
    Kind.PUSH_OVERTAKEN: _overtaken,
    Kind.SESSION_SEEN: _session_seen,
    Kind.SESSION_OVERRUN: _session_overrun,
    Kind.SESSION_ENDED: _session_ended,
    Kind.OUTPUTS_LISTED: _outputs_listed,
    Kind.OUTPUT_MISSED: _output_missed,
    Kind.OUTPUT_BACK: _output_back,
    Kind.FRUITLESS: _fruitless,
}
