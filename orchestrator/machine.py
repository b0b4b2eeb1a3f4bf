"""The state machine of one chain.

Rule 1: events are the truth. A `State` is nothing but `fold(events)`, and every phase follows
from a row of TRANSITIONS; nothing else may assign a phase.
Rule 2: nothing here does I/O, reads a clock, or knows what Kaggle is.

A session's life, from top to bottom. Each mutation on Kaggle stands between its INTENT, its
SENT and the event that tells what became of it, so that a crash on any line leaves behind
either "nothing was sent" or "read Kaggle back before anything else":

    IDLE            -> PUSH_INTENT ->  PUSHING          the notebook is rendered, nothing sent
    PUSHING         -> PUSH_SENT   ->  PUSH_UNKNOWN     the request may leave any moment now
    PUSH_UNKNOWN    -> PUSH_DONE   ->  LIVE             version N carries our token
    LIVE            -> SESSION_ENDED -> ENDED           Kaggle says that version N's session ended
    ENDED           -> CHECKPOINT_VERIFIED -> VERIFIED  its newest checkpoint is here and proven
    VERIFIED        -> PUBLISH_INTENT -> PUBLISHING     the upload is staged, nothing sent
    PUBLISHING      -> PUBLISH_SENT -> PUBLISH_UNKNOWN  even success is read, not returned
    PUBLISH_UNKNOWN -> PUBLISH_SEEN -> PUBLISHED        version M of the dataset carries our token
    PUBLISHED       -> HEAD        ->  IDLE             M is ready and read back equal: the new head
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import IllegalTransition
from orchestrator.model import Binding, Checkpoint, Parent


class Phase(enum.StrEnum):
    """Where a chain stands."""

    UNBOUND = "unbound"
    IDLE = "idle"
    PUSHING = "pushing"
    PUSH_UNKNOWN = "push_unknown"
    LIVE = "live"
    ENDED = "ended"
    VERIFIED = "verified"
    PUBLISHING = "publishing"
    PUBLISH_UNKNOWN = "publish_unknown"
    PUBLISHED = "published"
    DONE = "done"
    HALTED = "halted"


class Kind(enum.StrEnum):
    """What can happen."""

    BOUND = "bound"
    WAITING = "waiting"
    PUSH_INTENT = "push_intent"
    PUSH_SENT = "push_sent"
    PUSH_DONE = "push_done"
    PUSH_REFUSED = "push_refused"
    PUSH_LANDED_BAD = "push_landed_bad"
    PUSH_UNCLEAR = "push_unclear"
    PUSH_ABSENT = "push_absent"
    PUSH_GIVEN_UP = "push_given_up"
    SESSION_SEEN = "session_seen"
    SESSION_OVERRUN = "session_overrun"
    SESSION_ENDED = "session_ended"
    OUTPUTS_LISTED = "outputs_listed"
    CHECKPOINT_VERIFIED = "checkpoint_verified"
    FRUITLESS = "fruitless"
    PUBLISH_INTENT = "publish_intent"
    PUBLISH_SENT = "publish_sent"
    PUBLISH_DONE = "publish_done"
    PUBLISH_REFUSED = "publish_refused"
    PUBLISH_UNCLEAR = "publish_unclear"
    PUBLISH_ABSENT = "publish_absent"
    PUBLISH_GIVEN_UP = "publish_given_up"
    PUBLISH_SEEN = "publish_seen"
    PUBLISH_INCOMPLETE = "publish_incomplete"
    HEAD = "head"
    FINISHED = "finished"
    REOPENED = "reopened"
    HALTED = "halted"
    RETRIED = "retried"


_P, _K = Phase, Kind
_ANYWHERE = {_K.HALTED: _P.HALTED}


def _row(stays: Phase, *self_loops: Kind, **moves: Phase) -> dict[Kind, Phase]:
    loops = dict.fromkeys((_K.WAITING, *self_loops), stays)
    return {**loops, **{Kind(name): phase for name, phase in moves.items()}, **_ANYWHERE}


TRANSITIONS: dict[Phase, dict[Kind, Phase | None]] = {
    _P.UNBOUND: {_K.BOUND: _P.IDLE},
    _P.IDLE: {**_row(_P.IDLE, push_intent=_P.PUSHING, finished=_P.DONE)},
    _P.PUSHING: {**_row(_P.PUSHING, push_sent=_P.PUSH_UNKNOWN)},
    _P.PUSH_UNKNOWN: {
        **_row(
            _P.PUSH_UNKNOWN,
            _K.PUSH_UNCLEAR,
            _K.PUSH_ABSENT,
            push_done=_P.LIVE,
            push_landed_bad=_P.LIVE,
            push_refused=_P.IDLE,
            push_given_up=_P.IDLE,
        )
    },
    _P.LIVE: {
        **_row(
            _P.LIVE,
            _K.SESSION_SEEN,
            _K.SESSION_OVERRUN,
            session_ended=_P.ENDED,
            fruitless=_P.IDLE,
        )
    },
    _P.ENDED: {
        **_row(
            _P.ENDED,
            _K.OUTPUTS_LISTED,
            checkpoint_verified=_P.VERIFIED,
            fruitless=_P.IDLE,
        )
    },
    _P.VERIFIED: {**_row(_P.VERIFIED, publish_intent=_P.PUBLISHING)},
    _P.PUBLISHING: {**_row(_P.PUBLISHING, publish_sent=_P.PUBLISH_UNKNOWN)},
    _P.PUBLISH_UNKNOWN: {
        **_row(
            _P.PUBLISH_UNKNOWN,
            _K.PUBLISH_DONE,
            _K.PUBLISH_UNCLEAR,
            _K.PUBLISH_ABSENT,
            publish_seen=_P.PUBLISHED,
            publish_refused=_P.VERIFIED,
            publish_incomplete=_P.VERIFIED,
            publish_given_up=_P.VERIFIED,
        )
    },
    _P.PUBLISHED: {
        **_row(_P.PUBLISHED, head=_P.IDLE, publish_incomplete=_P.VERIFIED),
    },
    _P.DONE: {_K.REOPENED: _P.IDLE},
    _P.HALTED: {_K.RETRIED: None},  # back to the phase it was halted in
}
TERMINAL = frozenset({Phase.DONE, Phase.HALTED})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal. `at` is Unix seconds; `data` is what the kind calls for."""

    seq: int
    at: float
    kind: Kind
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Push:
    """The push that is under way or running."""

    token: str
    base_version: int
    time_budget_seconds: int
    sent_at: float | None = None
    version: int | None = None
    running_at: float | None = None
    doomed: str | None = None  # why its output will not be accepted
    ended_at: float | None = None
    end_status: str | None = None
    end_message: str = ""
    listing: str | None = None
    listed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """The dataset version that is being made from `State.pending`."""

    token: str
    base_version: int
    create: bool
    sent_at: float | None = None
    acknowledged: bool = False
    version: int | None = None
    seen_at: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint that the chain has accepted, and the dataset version that holds it."""

    checkpoint: Checkpoint
    version: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the events so far add up to."""

    phase: Phase = Phase.UNBOUND
    seq: int = 0
    last_at: float = 0.0
    binding: Binding | None = None
    head: Head | None = None
    heads: int = 0
    attempt: int = 1
    fruitless: int = 0
    last_failure: str | None = None
    same_failures: int = 0
    kernel_version: int = 0  # the newest version that is ours, or that a person accepted
    dataset_version: int = 0  # likewise
    push: Push | None = None
    pending: Checkpoint | None = None
    publication: Publication | None = None
    failed_publications: int = 0  # in a row, of the same checkpoint
    absent: int = 0  # agreeing reads in a row that did not find what was sent
    absent_at: float = 0.0
    wait_until: float = 0.0
    wait_reason: str | None = None
    wait_message: str = ""
    finish_reason: str | None = None
    halt_code: str | None = None
    halt_message: str = ""
    halted_in: Phase | None = None
    halt_facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> int:
        """The number of the session being worked on, 1-based."""
        return self.heads + 1

    @property
    def parent(self) -> Parent | None:
        return self.head.checkpoint.as_parent() if self.head else None


def next_phase(state: State, kind: Kind) -> Phase:
    """Return the phase that follows; raise IllegalTransition if the table has no such row."""
    try:
        phase = TRANSITIONS[state.phase][kind]
    except KeyError:
        raise IllegalTransition(f"{kind} cannot happen in phase {state.phase}") from None
    return phase if phase is not None else state.halted_in or Phase.IDLE


def apply(state: State, event: Event) -> State:
    """Return the state after `event`. The old state is untouched, whatever happens."""
    phase = next_phase(state, event.kind)
    update = _UPDATES.get(event.kind)
    changed = update(state, event) if update else state
    if event.kind not in _KEEPS_WAIT:
        changed = replace(changed, wait_until=0.0, wait_reason=None, wait_message="")
    return replace(changed, phase=phase, seq=event.seq, last_at=max(state.last_at, event.at))


def fold(events: Iterable[Event]) -> State:
    """Return the state that the events add up to."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


# Updates, one paragraph a kind. Each is pure: state and event in, state out.


def _bound(state: State, event: Event) -> State:
    return replace(state, binding=Binding.from_body(event.data))


def _wait(state: State, event: Event) -> State:
    return replace(
        state,
        wait_until=event.data["until"],
        wait_reason=event.data["reason"],
        wait_message=event.data["message"],
    )


def _push_intent(state: State, event: Event) -> State:
    push = Push(
        token=event.data["token"],
        base_version=event.data["base_version"],
        time_budget_seconds=event.data["time_budget_seconds"],
    )
    return replace(state, push=push, absent=0, absent_at=0.0)


def _push_sent(state: State, event: Event) -> State:
    return replace(state, push=replace(_push(state), sent_at=event.at))


def _push_done(state: State, event: Event) -> State:
    version = event.data["version"]
    return replace(state, push=replace(_push(state), version=version), kernel_version=version)


def _push_landed_bad(state: State, event: Event) -> State:
    version = event.data["version"]
    push = replace(_push(state), version=version, doomed=event.data["message"])
    return replace(state, push=push, kernel_version=version)


def _push_refused(state: State, event: Event) -> State:
    waiting = {**event.data, "reason": event.data["trouble"]}
    return _wait(replace(state, push=None), replace(event, data=waiting))


def _push_given_up(state: State, event: Event) -> State:
    return replace(state, push=None, absent=0)


def _absent(state: State, event: Event) -> State:
    return replace(state, absent=state.absent + 1, absent_at=event.at)


def _session_seen(state: State, event: Event) -> State:
    push = _push(state)
    if event.data["status"] == "running" and push.running_at is None:
        push = replace(push, running_at=event.at)
    return replace(state, push=push)


def _session_overrun(state: State, event: Event) -> State:
    return replace(state, push=replace(_push(state), doomed=event.data["message"]))


def _session_ended(state: State, event: Event) -> State:
    push = replace(
        _push(state),
        ended_at=event.at,
        end_status=event.data["status"],
        end_message=event.data["message"],
    )
    return replace(state, push=push)


def _outputs_listed(state: State, event: Event) -> State:
    push = replace(_push(state), listing=event.data["digest"], listed_at=event.at)
    return replace(state, push=push)


def _checkpoint_verified(state: State, event: Event) -> State:
    return replace(state, pending=Checkpoint.from_body(event.data["checkpoint"]))


def _fruitless(state: State, event: Event) -> State:
    failure = f"{event.data['reason']}: {event.data['message']}"
    same = state.same_failures + 1 if failure == state.last_failure else 1
    return replace(
        state,
        push=None,
        attempt=state.attempt + 1,
        fruitless=state.fruitless + 1,
        last_failure=failure,
        same_failures=same,
    )


def _publish_intent(state: State, event: Event) -> State:
    publication = Publication(
        token=event.data["token"],
        base_version=event.data["base_version"],
        create=event.data["create"],
    )
    return replace(state, publication=publication, absent=0, absent_at=0.0)


def _publish_sent(state: State, event: Event) -> State:
    return replace(state, publication=replace(_publication(state), sent_at=event.at))


def _publish_done(state: State, event: Event) -> State:
    return replace(state, publication=replace(_publication(state), acknowledged=True))


def _publish_refused(state: State, event: Event) -> State:
    waiting = {**event.data, "reason": event.data["trouble"]}
    return _wait(replace(state, publication=None), replace(event, data=waiting))


def _publish_dropped(state: State, event: Event) -> State:
    version = event.data.get("version", state.dataset_version)
    return replace(
        state,
        publication=None,
        absent=0,
        dataset_version=version,
        failed_publications=state.failed_publications + 1,
    )


def _publish_seen(state: State, event: Event) -> State:
    publication = replace(_publication(state), version=event.data["version"], seen_at=event.at)
    return replace(state, publication=publication)


def _head(state: State, event: Event) -> State:
    pending, version = state.pending, _publication(state).version
    assert pending is not None
    assert version is not None
    assert state.head is None or pending.step > state.head.checkpoint.step
    return replace(
        state,
        head=Head(pending, version),
        dataset_version=version,
        heads=state.heads + 1,
        attempt=1,
        fruitless=0,
        last_failure=None,
        same_failures=0,
        push=None,
        pending=None,
        publication=None,
        failed_publications=0,
    )


def _finished(state: State, event: Event) -> State:
    return replace(state, finish_reason=event.data["reason"])


def _halted(state: State, event: Event) -> State:
    return replace(
        state,
        halt_code=event.data["code"],
        halt_message=event.data["message"],
        halted_in=state.phase,
        halt_facts=event.data,
    )


def _retried(state: State, event: Event) -> State:
    """A person has looked: versions that the halt named are accepted, failures forgotten."""
    return replace(
        state,
        halt_code=None,
        halt_message="",
        kernel_version=state.halt_facts.get("kernel_version", state.kernel_version),
        dataset_version=state.halt_facts.get("dataset_version", state.dataset_version),
        fruitless=0,
        last_failure=None,
        same_failures=0,
        failed_publications=0,
    )


def _push(state: State) -> Push:
    assert state.push is not None, f"no push in phase {state.phase}"
    return state.push


def _publication(state: State) -> Publication:
    assert state.publication is not None, f"no publication in phase {state.phase}"
    return state.publication


_KEEPS_WAIT = frozenset({_K.WAITING, _K.PUSH_REFUSED, _K.PUBLISH_REFUSED})
_UPDATES: dict[Kind, Callable[[State, Event], State]] = {
    _K.BOUND: _bound,
    _K.WAITING: _wait,
    _K.PUSH_INTENT: _push_intent,
    _K.PUSH_SENT: _push_sent,
    _K.PUSH_DONE: _push_done,
    _K.PUSH_REFUSED: _push_refused,
    _K.PUSH_LANDED_BAD: _push_landed_bad,
    _K.PUSH_ABSENT: _absent,
    _K.PUSH_GIVEN_UP: _push_given_up,
    _K.SESSION_SEEN: _session_seen,
    _K.SESSION_OVERRUN: _session_overrun,
    _K.SESSION_ENDED: _session_ended,
    _K.OUTPUTS_LISTED: _outputs_listed,
    _K.CHECKPOINT_VERIFIED: _checkpoint_verified,
    _K.FRUITLESS: _fruitless,
    _K.PUBLISH_INTENT: _publish_intent,
    _K.PUBLISH_SENT: _publish_sent,
    _K.PUBLISH_DONE: _publish_done,
    _K.PUBLISH_REFUSED: _publish_refused,
    _K.PUBLISH_ABSENT: _absent,
    _K.PUBLISH_INCOMPLETE: _publish_dropped,
    _K.PUBLISH_GIVEN_UP: _publish_dropped,
    _K.PUBLISH_SEEN: _publish_seen,
    _K.HEAD: _head,
    _K.FINISHED: _finished,
    _K.HALTED: _halted,
    _K.RETRIED: _retried,
}
