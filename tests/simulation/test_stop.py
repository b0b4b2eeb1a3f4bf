"""A person asks for a stop: the session that runs is the last one, and nothing is lost."""

import pytest

from orchestrator.files import ask_stop
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Act, Plan, Simulation, live_in_session
from tests.simulation.faults import Fault, lost_request, unreadable
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_reached


def ask(run):
    ask_stop(run.folder / "state")


def test_the_session_that_runs_is_the_last_one_and_its_checkpoint_counts(simulate):
    asked = Act(when=live_in_session(2), do=ask)
    run = simulate(sessions=5, acts=[asked])

    run.run()

    assert asked.fired == 1
    check_reached(run, sessions=2)
    assert run.state.finish_reason == "stopped as asked, with 2 of 5 sessions done"


def test_ticks_honour_a_stop_and_record_nothing_more(simulate):
    run = simulate(sessions=5, acts=[Act(when=live_in_session(2), do=ask)])
    run.run()
    events = run.events

    for _ in range(3):
        run.clock.sleep(600)
        assert run.tick() is None

    assert run.events == events


def test_a_stop_that_is_withdrawn_lets_the_chain_reach_its_target(simulate):
    run = simulate(sessions=4, acts=[Act(when=live_in_session(2), do=ask)])
    run.run()

    assert ask_stop(run.folder / "state", wanted=False)
    run.run()

    check_reached(run, sessions=4)
    assert len(run.kinds(Kind.REOPENED)) == 1


def test_a_wait_for_next_weeks_quota_ends_at_once(simulate):
    run = simulate(sessions=9, script=Script(seconds=11 * 3600))
    while run.state.wait_reason != "quota":
        wake = run.tick()
        if run.state.wait_reason != "quota":
            run.clock.sleep(wake - run.clock.now())
    assert wake - run.clock.now() > 86_400
    assert run.tick() == pytest.approx(wake, abs=1)

    ask(run)

    assert run.tick() is None
    check_reached(run, sessions=run.state.heads)


def test_a_push_that_waits_for_an_answer_is_withdrawn(simulate):
    fault = Fault("kernel", unreadable, nth=2, times=50)
    asked = Act(when=lambda state: state.phase is Phase.PUSHING and state.heads == 1, do=ask)
    run = simulate(faults=[fault], acts=[asked])

    run.run()

    assert (asked.fired, len(run.kinds(Kind.PUSH_WITHDRAWN))) == (1, 1)
    check_reached(run, sessions=1)
    ask_stop(run.folder / "state", wanted=False)
    run.plan.faults = []
    run.run()
    check_reached(run, sessions=3)


def test_a_push_that_may_have_landed_is_settled_first(simulate):
    fault = Fault("push", lost_request, nth=2)
    asked = Act(when=lambda state: state.phase is Phase.PUSH_UNKNOWN and state.heads == 1, do=ask)
    run = simulate(faults=[fault], acts=[asked])

    run.run()

    assert (fault.fired, asked.fired) == (1, 1)
    check_reached(run, sessions=1)
    assert [event.kind for event in run.events[-2:]] == [Kind.PUSH_GIVEN_UP, Kind.FINISHED]


def test_a_failing_chain_halts_all_the_same(simulate):
    asked = Act(when=live_in_session(1), do=ask)
    run = simulate(script=Script(saves=False), acts=[asked], chain={"max_attempts": 1})

    assert run.run().halt_code == "failing_sessions"
    assert asked.fired == 1
    run.retry()
    assert run.run().finish_reason == "stopped as asked, with 0 of 3 sessions done"


def _ask_after(run, seq):
    watch = run.journal._on_event

    def watch_and_ask(event, state):
        watch(event, state)
        if event.seq == seq:
            ask(run)

    run.journal._on_event = watch_and_ask


def test_a_stop_at_any_event_launches_nothing_more_and_leaves_nothing_half_done():
    with Simulation(Plan()) as clean:
        clean.run()
        last = clean.state.seq
    for seq in range(1, last):
        with Simulation(Plan()) as run:
            _ask_after(run, seq)
            run.run()

            pushes, versions = run.host.pushes(KERNEL), run.host.versions(DATASET)
            assert run.state.phase is Phase.DONE
            assert len(pushes) == len(versions) == run.state.heads
            check_always(run)
            sent = [event.seq for event in run.kinds(Kind.PUSH_SENT)]
            # The event after which the stop was asked may be the last look before a push.
            assert all(number <= seq + 1 for number in sent)


@pytest.mark.parametrize("wanted", [True, False])
def test_asking_twice_is_asking_once(tmp_path, wanted):
    ask_stop(tmp_path, wanted=wanted)

    assert not ask_stop(tmp_path, wanted=wanted)
