"""The table of transitions, and the fold of events through it."""

import itertools
from collections import deque

import pytest

from orchestrator import fold
from orchestrator.errors import IllegalTransition
from orchestrator.machine import TERMINAL, TRANSITIONS, Event, Kind, Phase, State

PAIRS = list(itertools.product(Phase, Kind))
# A kind's smallest body. What a handler does not find here it has no right to ask for.
BODIES = {
    Kind.WAITING: {"until": 5.0, "reason": "quota", "message": "later"},
    Kind.PUSH_INTENT: {
        "token": "kc1.t",
        "base_version": 0,
        "time_budget_seconds": 600,
        "source_sha256": "0" * 64,
    },
    Kind.PUSH_DONE: {"version": 1},
    Kind.PUSH_REFUSED: {"trouble": "rate", "message": "later", "until": 5.0},
    Kind.PUSH_LANDED_BAD: {"version": 1, "message": "no input"},
    Kind.PUSH_OVERTAKEN: {"base_version": 1, "versions": [1]},
    Kind.SESSION_SEEN: {"status": "running"},
    Kind.SESSION_OVERRUN: {"message": "late"},
    Kind.SESSION_ENDED: {"status": "error", "message": "it raised"},
    Kind.OUTPUTS_LISTED: {"digest": "d", "count": 1},
    Kind.OUTPUT_MISSED: {"file": "manifest.json", "message": "HTTP 404"},
    Kind.OUTPUT_BACK: {"file": "manifest.json"},
    Kind.FRUITLESS: {"reason": "failed", "message": "it raised"},
    Kind.PUBLISH_INTENT: {"token": "kc1.t", "base_version": 0, "create": True},
    Kind.PUBLISH_REFUSED: {"trouble": "busy", "message": "later", "until": 5.0},
    Kind.PUBLISH_SEEN: {"version": 1},
    Kind.PUBLISH_INCOMPLETE: {"version": 1, "message": "it holds nothing"},
    Kind.PUBLISH_FOUND: {"version": 1},
    Kind.HEAD: {"version": 1},
    Kind.FINISHED: {"reason": "all 1 sessions are done"},
    Kind.HALTED: {"code": "public", "message": "the kernel is public"},
}

RECOVERED = {"head": None, "heads": 0, "attempt": 1, "kernel_version": 1, "dataset_version": 0}
PUSHED = {"token": "kc1.t", "version": 1, "time_budget_seconds": 600}


@pytest.fixture
def body(binding, checkpoint):
    bodies = {
        **BODIES,
        Kind.BOUND: binding,
        Kind.RECOVERING: binding,
        Kind.RECOVERED: RECOVERED,
        Kind.RECOVERED_LIVE: {**RECOVERED, "push": PUSHED},
        Kind.CHECKPOINT_VERIFIED: {"checkpoint": checkpoint().to_body()},
    }
    return lambda kind: bodies.get(kind, {})


@pytest.fixture
def state_in(body):
    """A state that stands in a phase, reached on the shortest way through the table."""

    def reach(phase):
        state = State()
        for kind in shortest_way(Phase.UNBOUND, {phase}):
            state = after(state, kind, body(kind))
        assert state.phase is phase
        return state

    return reach


def shortest_way(start, goals):
    """The kinds that lead from a phase to one of the goals; None if no way does."""
    ways, seen = deque([(start, [])]), {start}
    while ways:
        phase, kinds = ways.popleft()
        if phase in goals:
            return kinds
        for kind, following in TRANSITIONS[phase].items():
            if following is not None and following not in seen:
                seen.add(following)
                ways.append((following, [*kinds, kind]))
    return None


def after(state, kind, data, at=None):
    return fold.apply(state, Event(state.seq + 1, at or state.last_at + 1, kind, data))


@pytest.mark.parametrize(("phase", "kind"), PAIRS, ids=lambda part: part.value)
def test_an_event_follows_its_row_or_is_illegal_and_changes_nothing(state_in, body, phase, kind):
    state = state_in(phase)
    before = repr(state)

    if kind not in TRANSITIONS[phase]:
        with pytest.raises(IllegalTransition, match=f"{kind} cannot happen in phase {phase}"):
            after(state, kind, body(kind))
    else:
        following = after(state, kind, body(kind))
        assert following.phase is (TRANSITIONS[phase][kind] or state.halted_in)
        assert following.seq == state.seq + 1

    assert repr(state) == before


def test_every_phase_has_rows_and_every_kind_is_used():
    assert set(TRANSITIONS) == set(Phase)
    assert {kind for row in TRANSITIONS.values() for kind in row} == set(Kind)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_reached_and_can_end(phase):
    assert shortest_way(Phase.UNBOUND, {phase}) is not None
    assert shortest_way(phase, TERMINAL) is not None


@pytest.mark.parametrize("phase", [p for p in Phase if p not in TERMINAL | {Phase.UNBOUND}])
def test_every_phase_can_still_become_a_finished_chain(phase):
    assert shortest_way(phase, {Phase.DONE}) is not None


@pytest.fixture
def story(binding, session_events):
    """The events of two sessions."""
    pairs = [("bound", binding), *session_events(1), *session_events(2)]
    return [
        Event(seq, 100.0 + seq, Kind(kind), data) for seq, (kind, data) in enumerate(pairs, start=1)
    ]


def test_two_sessions_add_up_to_the_second_ones_head(story):
    state = fold.fold(story)

    assert state.phase is Phase.IDLE
    assert (state.heads, state.session, state.attempt) == (2, 3, 1)
    assert (state.head.checkpoint.step, state.head.version) == (20, 2)
    assert state.parent.file == "checkpoint_epoch1_step20.pt"
    assert (state.kernel_version, state.dataset_version) == (2, 2)
    assert (state.push, state.pending, state.publication) == (None, None, None)


def test_equal_events_fold_to_equal_states_however_they_are_cut(story):
    whole = fold.fold(story)

    for cut in range(len(story) + 1):
        state = fold.fold(story[:cut])
        for event in story[cut:]:
            state = fold.apply(state, event)
        assert state == whole


def test_what_was_read_from_kaggle_stands_for_the_events_that_were_lost(story, binding):
    lost = fold.fold(story)
    head = {"checkpoint": lost.head.checkpoint.to_body(), "version": lost.head.version}
    versions = {"kernel_version": 2, "dataset_version": 2}

    state = after(State(), Kind.RECOVERING, binding)
    idle = after(state, Kind.RECOVERED, {"head": head, "heads": 2, "attempt": 1, **versions})
    live = after(
        state,
        Kind.RECOVERED_LIVE,
        {"head": head, "heads": 2, "attempt": 3, **versions, "push": {**PUSHED, "version": 5}},
    )

    for field in ("binding", "head", "heads", "session", "parent", "kernel_version", "phase"):
        assert getattr(idle, field) == getattr(lost, field)
    assert (live.phase, live.push.version, live.push.base_version) == (Phase.LIVE, 5, 4)
    assert (live.session, live.attempt, live.fruitless) == (3, 3, 2)


def test_a_head_that_is_not_beyond_the_last_one_is_a_bug(story, session_events):
    state = fold.fold(story)
    for kind, data in session_events(3, step=20)[:-1]:
        state = after(state, Kind(kind), data)

    with pytest.raises(AssertionError):
        after(state, Kind.HEAD, {"version": 3})

    assert state.head.checkpoint.step == 20


HALTABLE = [phase for phase in Phase if Kind.HALTED in TRANSITIONS[phase]]


@pytest.mark.parametrize("phase", HALTABLE)
def test_a_retried_chain_goes_on_where_it_halted(state_in, phase):
    state = state_in(phase)

    halted = after(state, Kind.HALTED, {"code": "public", "message": "it is public"})
    retried = after(halted, Kind.RETRIED, {})

    assert halted.phase is Phase.HALTED
    assert (halted.halt_code, halted.halt_message) == ("public", "it is public")
    assert retried.phase is phase
    assert (retried.halt_code, retried.halt_message) == (None, "")
    assert (retried.push, retried.publication) == (state.push, state.publication)


def test_a_retry_accepts_the_versions_that_the_halt_named(story):
    state = fold.fold(story)
    facts = {"code": "foreign", "message": "", "kernel_version": 7, "dataset_version": 9}

    retried = after(after(state, Kind.HALTED, facts), Kind.RETRIED, {})

    assert (retried.kernel_version, retried.dataset_version) == (7, 9)


def test_a_retry_accepts_nothing_that_an_earlier_halt_named(story):
    state = fold.fold(story)
    first = {"code": "foreign_kernel_version", "message": "", "kernel_version": 7}
    state = after(after(state, Kind.HALTED, first), Kind.RETRIED, {})
    state = after(state, Kind.PUSH_INTENT, BODIES[Kind.PUSH_INTENT])
    state = after(after(state, Kind.PUSH_SENT, {}), Kind.PUSH_DONE, {"version": 8})

    second = {"code": "public", "message": "the kernel is public"}
    state = after(after(state, Kind.HALTED, second), Kind.RETRIED, {})

    assert state.kernel_version == 8


def test_a_retry_forgets_failures(state_in):
    state = state_in(Phase.LIVE)
    state = after(state, Kind.FRUITLESS, BODIES[Kind.FRUITLESS])
    assert (state.fruitless, state.same_failures) == (1, 1)

    retried = after(after(state, Kind.HALTED, BODIES[Kind.HALTED]), Kind.RETRIED, {})

    assert (retried.fruitless, retried.same_failures, retried.last_failure) == (0, 0, None)


def test_a_fruitless_attempt_keeps_its_session_and_counts_equal_failures(state_in, body):
    state = state_in(Phase.IDLE)
    for message in ("out of memory", "out of memory", "no internet"):
        for kind in shortest_way(Phase.IDLE, {Phase.LIVE}):
            state = after(state, kind, body(kind))
        state = after(state, Kind.FRUITLESS, {"reason": "failed", "message": message})

    assert (state.session, state.attempt, state.fruitless) == (1, 4, 3)
    assert (state.last_failure, state.same_failures) == ("failed: no internet", 1)


def test_a_refused_push_leaves_nothing_but_a_wait(state_in, body):
    state = after(state_in(Phase.PUSH_UNKNOWN), Kind.PUSH_REFUSED, body(Kind.PUSH_REFUSED))

    assert (state.phase, state.push) == (Phase.IDLE, None)
    assert (state.wait_until_at, state.wait_reason, state.wait_message) == (5.0, "rate", "later")


def test_progress_ends_a_wait(state_in, body):
    waiting = after(state_in(Phase.IDLE), Kind.WAITING, body(Kind.WAITING))
    assert waiting.wait_until_at == 5.0

    state = after(waiting, Kind.PUSH_INTENT, body(Kind.PUSH_INTENT))

    assert (state.wait_until_at, state.wait_reason, state.wait_message) == (0.0, None, "")


def test_a_clock_that_is_set_back_does_not_turn_back_the_last_event(state_in):
    state = state_in(Phase.IDLE)

    earlier = after(state, Kind.WAITING, BODIES[Kind.WAITING], at=state.last_at - 100)

    assert earlier.last_at == state.last_at
