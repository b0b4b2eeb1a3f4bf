"""The state machine of one chain.

Rule 1: events are the truth. A `State` is nothing but `fold(events)` of `fold.py`, and every
phase follows from a row of TRANSITIONS; nothing else may assign a phase.
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

A journal that was lost is rebuilt by reading Kaggle: UNBOUND -> RECOVERING, and from there to
IDLE, or to LIVE when a session that continues the head has been pushed already. A journal that
the chain has left behind takes the same way, from PUSHING or VERIFIED.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import IllegalTransition
from orchestrator.model import Binding, Checkpoint, Parent


class Phase(enum.StrEnum):
    """Where a chain stands."""

    UNBOUND = "unbound"
    RECOVERING = "recovering"
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
    RECOVERING = "recovering"
    RECOVERED = "recovered"
    RECOVERED_LIVE = "recovered_live"
    WAITING = "waiting"
    RESTARTED = "restarted"
    PUSH_INTENT = "push_intent"
    PUSH_WITHDRAWN = "push_withdrawn"
    PUSH_SENT = "push_sent"
    PUSH_DONE = "push_done"
    PUSH_REFUSED = "push_refused"
    PUSH_LANDED_BAD = "push_landed_bad"
    PUSH_UNCLEAR = "push_unclear"
    PUSH_ABSENT = "push_absent"
    PUSH_GIVEN_UP = "push_given_up"
    PUSH_OVERTAKEN = "push_overtaken"
    SESSION_SEEN = "session_seen"
    SESSION_READABLE = "session_readable"
    SESSION_OVERRUN = "session_overrun"
    SESSION_ENDED = "session_ended"
    OUTPUTS_LISTED = "outputs_listed"
    OUTPUT_MISSED = "output_missed"
    OUTPUT_BACK = "output_back"
    CHECKPOINT_VERIFIED = "checkpoint_verified"
    FRUITLESS = "fruitless"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    PUBLISH_FOUND = "publish_found"
    PUBLISH_INTENT = "publish_intent"
    PUBLISH_WITHDRAWN = "publish_withdrawn"
    PUBLISH_SENT = "publish_sent"
    PUBLISH_DONE = "publish_done"
    PUBLISH_REFUSED = "publish_refused"
    PUBLISH_UNCLEAR = "publish_unclear"
    PUBLISH_ABSENT = "publish_absent"
    PUBLISH_GIVEN_UP = "publish_given_up"
    PUBLISH_SEEN = "publish_seen"
    PUBLISH_INCOMPLETE = "publish_incomplete"
    SET_ASIDE = "set_aside"
    HEAD = "head"
    FINISHED = "finished"
    REOPENED = "reopened"
    HALTED = "halted"
    RETRIED = "retried"


_P, _K = Phase, Kind
_ANYWHERE = {_K.HALTED: _P.HALTED}


def _row(stays: Phase, *self_loops: Kind, **moves: Phase) -> dict[Kind, Phase]:
    loops = dict.fromkeys((_K.WAITING, _K.RESTARTED, *self_loops), stays)
    return {**loops, **{Kind(name): phase for name, phase in moves.items()}, **_ANYWHERE}


TRANSITIONS: dict[Phase, dict[Kind, Phase | None]] = {
    _P.UNBOUND: {_K.BOUND: _P.IDLE, _K.RECOVERING: _P.RECOVERING},
    _P.RECOVERING: {**_row(_P.RECOVERING, _K.SET_ASIDE, recovered=_P.IDLE, recovered_live=_P.LIVE)},
    _P.IDLE: {**_row(_P.IDLE, push_intent=_P.PUSHING, finished=_P.DONE)},
    _P.PUSHING: {
        **_row(
            _P.PUSHING,
            push_sent=_P.PUSH_UNKNOWN,
            push_withdrawn=_P.IDLE,
            recovering=_P.RECOVERING,
        )
    },
    _P.PUSH_UNKNOWN: {
        **_row(
            _P.PUSH_UNKNOWN,
            _K.PUSH_UNCLEAR,
            _K.PUSH_ABSENT,
            push_done=_P.LIVE,
            push_landed_bad=_P.LIVE,
            push_refused=_P.IDLE,
            push_given_up=_P.IDLE,
            fruitless=_P.IDLE,
        )
    },
    _P.LIVE: {
        **_row(
            _P.LIVE,
            _K.SESSION_SEEN,
            _K.SESSION_READABLE,
            _K.SESSION_OVERRUN,
            _K.PUSH_OVERTAKEN,
            session_ended=_P.ENDED,
            fruitless=_P.IDLE,
        )
    },
    _P.ENDED: {
        **_row(
            _P.ENDED,
            _K.OUTPUTS_LISTED,
            _K.OUTPUT_MISSED,
            _K.OUTPUT_BACK,
            checkpoint_verified=_P.VERIFIED,
            fruitless=_P.IDLE,
        )
    },
    _P.VERIFIED: {
        **_row(
            _P.VERIFIED,
            publish_intent=_P.PUBLISHING,
            publish_found=_P.PUBLISHED,
            recovering=_P.RECOVERING,
        )
    },
    _P.PUBLISHING: {
        **_row(
            _P.PUBLISHING,
            publish_sent=_P.PUBLISH_UNKNOWN,
            publish_withdrawn=_P.VERIFIED,
            checkpoint_damaged=_P.ENDED,
        )
    },
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
        **_row(_P.PUBLISHED, _K.SET_ASIDE, head=_P.IDLE, publish_incomplete=_P.VERIFIED),
    },
    _P.DONE: {_K.REOPENED: _P.IDLE},
    _P.HALTED: {_K.RETRIED: None},  # back to the phase it was halted in
}
TERMINAL = frozenset({Phase.DONE, Phase.HALTED})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal.

    `at` is what the wall clock said, in Unix seconds; `age` counts the seconds since the first
    event by a clock that nobody sets, but for the time between two starts of the machine;
    `boot_age` is the age from which on that clock has not stopped; `data` is what the kind
    calls for.
    """

    seq: int
    at: float
    kind: Kind
    data: Mapping[str, Any]
    age: float = 0.0
    boot_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Missed:
    """A file that is listed while its download says that it is not there, so often by now."""

    times: int
    age: float  # when that was counted last


@dataclass(frozen=True, slots=True)
class Push:
    """The push that is under way or running."""

    token: str
    base_version: int
    time_budget_seconds: int
    source_sha256: str = ""  # of what was written down to be sent
    intent_age: float = 0.0
    sent_age: float | None = None
    version: int | None = None
    running_age: float | None = None
    doomed: str | None = None  # why its output will not be accepted
    ended_age: float | None = None
    end_status: str | None = None
    end_message: str = ""
    listing: str | None = None
    listed_age: float | None = None
    missed: Mapping[str, Missed] = field(default_factory=dict)  # by name


@dataclass(frozen=True, slots=True)
class Publication:
    """The dataset version that is being made from `State.pending`."""

    token: str
    base_version: int
    create: bool
    sent_age: float | None = None
    acknowledged: bool = False
    version: int | None = None
    seen_age: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint that the chain has accepted, and the dataset version that holds it."""

    checkpoint: Checkpoint
    version: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the events so far add up to.

    `*_at` is for people; all decisions about elapsed time go by `age` and `*_age`, as in Event.
    """

    phase: Phase = Phase.UNBOUND
    seq: int = 0
    last_at: float = 0.0
    age: float = 0.0
    boot_age: float = 0.0
    binding: Binding | None = None
    recovering_age: float = 0.0  # when reading the chain back from Kaggle began
    head: Head | None = None
    heads: int = 0
    attempt: int = 1
    fruitless: int = 0
    last_failure: str | None = None
    same_failures: int = 0
    kernel_version: int = 0  # the newest version that is ours, or that a person accepted
    dataset_version: int = 0  # likewise
    unknown_pushes: int = 0  # in a row that were sent and never became visible
    push: Push | None = None
    is_damaged: bool = False  # what was verified is not what is on the disk any more
    pending: Checkpoint | None = None
    publication: Publication | None = None
    failed_publications: int = 0  # of the same checkpoint: versions that are unusable
    unknown_publications: int = 0  # in a row that were sent and never became visible
    absent: int = 0  # agreeing reads in a row that did not find what was sent
    absent_age: float = 0.0
    wait_until_at: float = 0.0
    wait_until_age: float = 0.0
    wait_reason: str | None = None
    wait_since_age: float = 0.0  # when the first of these waits in a row began
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
