"""The laptop's clock is wrong; the world's is not."""

from dataclasses import replace

import pytest

from orchestrator.kaggle.port import Gone, Refused, Trouble
from orchestrator.machine import Phase
from tests.simulation.chain import Act
from tests.simulation.faults import Fault, answering, lost_answer, lost_request, publishing_slowly
from tests.simulation.session import Script
from tests.simulation.truth import check_reached

DAY, YEAR = 86_400.0, 365 * 86_400.0
LONGEST_SECONDS = 10 * DAY  # the longest wait that the engine admits, and a little

# What makes each phase last beyond one tick.
LASTING = {
    Phase.IDLE: Fault("push", answering(Refused(Trouble.CAPACITY, "full")), nth=2, times=2),
    Phase.PUSH_UNKNOWN: Fault("push", lost_request, nth=2),
    Phase.LIVE: None,
    Phase.ENDED: Fault("outputs", answering(()), nth=5),
    Phase.VERIFIED: Fault("publish_version", answering(Refused(Trouble.BUSY, "denied")), times=2),
    Phase.PUBLISH_UNKNOWN: Fault("publish_version", lost_request),
    Phase.PUBLISHED: Fault("publish_version", publishing_slowly(1800.0)),
}


def _planned(phase, *acts):
    planned = LASTING[phase]
    if planned is None:
        return {"faults": (), "acts": acts}
    return {"faults": [replace(planned)], "acts": acts}


def _jump(phase, seconds):
    def when(state):
        is_seen = phase is not Phase.LIVE or (state.push and state.push.running_age)
        return state.phase is phase and state.heads == 1 and is_seen

    def do(run):
        run.clock.error_seconds = seconds

    return Act(when, do)


@pytest.mark.parametrize("phase", LASTING)
def test_a_clock_that_falls_back_a_day_changes_nothing_about_the_ending(simulate, phase):
    jump = _jump(phase, -DAY)
    run = simulate(**_planned(phase, jump))
    began_at = run.clock.true_at

    run.run()

    assert jump.fired == 1
    check_reached(run, sessions=3)
    assert run.clock.true_at - began_at < 3 * DAY


@pytest.mark.parametrize("phase", LASTING)
def test_a_clock_that_jumps_ahead_a_year_changes_nothing_about_the_ending(simulate, phase):
    jump = _jump(phase, YEAR)
    run = simulate(**_planned(phase, jump))
    began_at = run.clock.true_at

    run.run()

    assert jump.fired == 1
    check_reached(run, sessions=3)
    assert run.clock.true_at - began_at < LONGEST_SECONDS


@pytest.mark.parametrize("phase", LASTING)
def test_a_clock_that_was_a_year_ahead_for_a_moment_is_no_reason_to_wait_a_year(simulate, phase):
    ahead = _jump(phase, YEAR)
    right = Act(lambda _state: ahead.fired, lambda run: setattr(run.clock, "error_seconds", 0.0))
    run = simulate(**_planned(phase, right, ahead))
    began_at = run.clock.true_at

    run.run()

    assert (ahead.fired, right.fired) == (1, 1)
    check_reached(run, sessions=3)
    assert run.clock.true_at - began_at < LONGEST_SECONDS


@pytest.mark.parametrize("seconds", [-DAY, 400.0, YEAR])
def test_a_clock_that_disagrees_with_kaggles_about_the_week_does_not_stop_the_chain(
    simulate, seconds
):
    run = simulate(sessions=4, script=Script(seconds=11 * 3600))
    run.clock.error_seconds = seconds
    began_at = run.clock.true_at

    run.run()

    check_reached(run, sessions=4)
    assert run.clock.true_at - began_at < LONGEST_SECONDS


def test_a_clock_that_jumps_ahead_does_not_shorten_the_wait_for_a_push_to_appear(simulate):
    def lost_and_late(call, request):
        answer = lost_answer(call, request)
        landed_at.append(run.clock.true_at)
        return answer

    def hidden(call, *args):
        return Gone("no such kernel") if run.clock.true_at < landed_at[0] + 850 else call(*args)

    landed_at = []
    jump = Act(
        lambda state: state.phase is Phase.PUSH_UNKNOWN,
        lambda run: setattr(run.clock, "error_seconds", YEAR),
    )
    late = Fault("kernel", hidden, times=100, matches=lambda *_: landed_at)
    run = simulate(faults=[Fault("push", lost_and_late), late], acts=[jump])

    run.run()

    assert late.fired
    assert jump.fired == 1
    check_reached(run, sessions=3)
