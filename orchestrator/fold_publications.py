"""What the events of a checkpoint and its publication change in a state. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.machine import Event, Head, Kind, Publication, State
from orchestrator.model import Checkpoint

Changes = dict[str, Any]


def _verified(_state: State, event: Event) -> Changes:
    return {"pending": Checkpoint.from_body(event.data["checkpoint"]), "is_damaged": False}


def _damaged(_state: State, _event: Event) -> Changes:
    return {"pending": None, "publication": None, "is_damaged": True}


def _found(_state: State, event: Event) -> Changes:
    """A version that no event of this journal tells of holds what is pending already."""
    version = event.data["version"]
    publication = Publication(
        token="",
        base_version=version - 1,
        create=False,
        sent_age=event.age,
        acknowledged=True,
        version=version,
        seen_age=event.age,
    )
    return {
        "publication": publication,
        "absent": 0,
        "absent_age": 0.0,
        "unknown_publications": 0,
    }


def _intent(_state: State, event: Event) -> Changes:
    publication = Publication(
        token=event.data["token"],
        base_version=event.data["base_version"],
        create=event.data["create"],
    )
    return {"publication": publication, "absent": 0, "absent_age": 0.0}


def _withdrawn(_state: State, _event: Event) -> Changes:
    return {"publication": None}


def _sent(state: State, event: Event) -> Changes:
    return _changing(state, sent_age=event.age)


def _done(state: State, _event: Event) -> Changes:
    return _changing(state, acknowledged=True)


def _absent(state: State, event: Event) -> Changes:
    return {"absent": state.absent + 1, "absent_age": event.age}


def _incomplete(state: State, event: Event) -> Changes:
    return {
        "publication": None,
        "absent": 0,
        "dataset_version": event.data["version"],
        "failed_publications": state.failed_publications + 1,
    }


def _given_up(state: State, _event: Event) -> Changes:
    count = state.unknown_publications + 1
    return {"publication": None, "absent": 0, "unknown_publications": count}


def _seen(state: State, event: Event) -> Changes:
    changes = _changing(state, version=event.data["version"], seen_age=event.age)
    return {**changes, "unknown_publications": 0}


def _head(state: State, _event: Event) -> Changes:
    pending, version = state.pending, _publication(state).version
    assert pending is not None
    assert version is not None
    assert state.head is None or pending.step > state.head.checkpoint.step
    return {
        "head": Head(pending, version),
        "dataset_version": version,
        "heads": state.heads + 1,
        "attempt": 1,
        "fruitless": 0,
        "last_failure": None,
        "same_failures": 0,
        "push": None,
        "pending": None,
        "publication": None,
        "failed_publications": 0,
    }


def _publication(state: State) -> Publication:
    assert state.publication is not None, f"no publication in phase {state.phase}"
    return state.publication


def _changing(state: State, **fields: Any) -> Changes:
    return {"publication": replace(_publication(state), **fields)}


UPDATES: Mapping[Kind, Callable[[State, Event], Changes]] = {
    Kind.CHECKPOINT_VERIFIED: _verified,
    Kind.CHECKPOINT_DAMAGED: _damaged,
    Kind.PUBLISH_FOUND: _found,
    Kind.PUBLISH_INTENT: _intent,
    Kind.PUBLISH_WITHDRAWN: _withdrawn,
    Kind.PUBLISH_SENT: _sent,
    Kind.PUBLISH_DONE: _done,
    Kind.PUBLISH_ABSENT: _absent,
    Kind.PUBLISH_INCOMPLETE: _incomplete,
    Kind.PUBLISH_GIVEN_UP: _given_up,
    Kind.PUBLISH_SEEN: _seen,
    Kind.HEAD: _head,
}
