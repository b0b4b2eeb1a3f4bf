"""The laptop's clock is wrong, or the laptop sleeps; the world's time goes on as it does."""

from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.emulator.records import Twist
from orchestrator.kaggle.port import Gone, Refused, Trouble
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import Act
from tests.simulation.faults import (
    Fault,
    answering,
    lost_answer,
    lost_request,
    publishing_slowly,
    unreadable,
)
from tests.simulation.session import Script
from tests.simulation.truth import check_reached

DAY, YEAR = 86_400.0, 365 * 86_400.0
NIGHT = 8 * 3600.0
LONGEST_SECONDS = 10 * DAY  # the longest wait that the engine admits, and a little

# What makes each phase last beyond one tick.
LASTING = {
    Phase.IDLE: Fault("push", answering(Refused(Trouble.CAPACITY, "full")), nth=2, times=2),
    Phase.PUSH_UNKNOWN: Fault("push", lost_request, nth=2),
    Phase.LIVE: None,
    Phase.ENDED: Fault("outputs", answering(()), matches=lambda _, version: version == 2),
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


# What a wall clock says, and what is drawn anew or hashed once the time of day is another.
SET_BY_CLOCKS = {"until"}
SET_BY_TIME = {*SET_BY_CLOCKS, "token", "source_sha256", "manifest_sha256", "sha256", "created_at"}


def _told(event, without):
    """What an event says, however deep, without the fields of these names."""

    def strip(value):
        if not isinstance(value, dict):
            return value
        return {key: strip(inner) for key, inner in value.items() if key not in without}

    return event.kind, strip(dict(event.data))


def _longest_pause(events):
    return max(after.age - before.age for before, after in pairwise(events))


@pytest.mark.parametrize("seconds", [-DAY, YEAR])
@pytest.mark.parametrize("phase", LASTING)
def test_a_clock_that_is_set_changes_no_event_and_no_age(simulate, phase, seconds):
    jump = _jump(phase, seconds)
    usual, run = simulate(**_planned(phase)), simulate(**_planned(phase, jump))

    usual.run()
    run.run()

    shifts = [e.at - u.at for u, e in zip(usual.events, run.events, strict=True)]
    assert {shifts[0], shifts[-1]} == {0.0, seconds}
    assert [e.age for e in run.events] == [u.age for u in usual.events]
    told = [[_told(event, SET_BY_CLOCKS) for event in each.events] for each in (usual, run)]
    assert told[0] == told[1]


@pytest.mark.parametrize("phase", LASTING)
def test_a_laptop_that_sleeps_eight_hours_in_a_phase_tells_the_same_story(simulate, phase):
    night = replace(_jump(phase, 0.0), do=lambda run: run.clock.advance(NIGHT))
    usual, run = simulate(**_planned(phase)), simulate(**_planned(phase, night))

    usual.run()
    run.run()

    assert night.fired == 1
    assert _longest_pause(run.events) >= NIGHT
    told = [[_told(event, SET_BY_TIME) for event in each.events] for each in (usual, run)]
    assert told[0] == told[1]
    check_reached(run, sessions=3)


# What is known of a call during which the laptop slept, and the event that shows it.
ASLEEP = {
    "push that had arrived": ("push", lost_answer, Kind.PUSH_DONE),
    "push that had not": ("push", lost_request, Kind.PUSH_GIVEN_UP),
    "publication that had arrived": ("publish_version", lost_answer, Kind.PUBLISH_SEEN),
    "publication that had not": ("publish_version", lost_request, Kind.PUBLISH_GIVEN_UP),
    "first publication that had arrived": ("create_dataset", lost_answer, Kind.PUBLISH_SEEN),
    "download": ("download", unreadable, Kind.CHECKPOINT_VERIFIED),
    "read of a status": ("session", unreadable, Kind.SESSION_ENDED),
}


@pytest.mark.parametrize("name", ASLEEP)
def test_a_laptop_that_sleeps_eight_hours_in_a_call_reads_before_it_acts(simulate, name):
    verb, answer, shown = ASLEEP[name]

    def sleep(call, *args):
        came = answer(call, *args)
        run.clock.advance(NIGHT)
        return came

    fault = Fault(verb, sleep)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert _longest_pause(run.events) >= NIGHT
    assert run.kinds(shown)
    check_reached(run, sessions=3)


@pytest.mark.parametrize("seconds", [-YEAR, -DAY, 400.0, YEAR])
def test_a_clock_that_disagrees_with_kaggles_about_the_week_does_not_stop_the_chain(
    simulate, seconds
):
    run = simulate(sessions=4, script=Script(seconds=11 * 3600))
    run.clock.error_seconds = seconds
    began_at = run.clock.true_at

    run.run()

    check_reached(run, sessions=4)
    assert run.clock.true_at - began_at < LONGEST_SECONDS


# What has arrived, is unheard of, and shows itself just before the settle window is over.
LATE = {
    "push": ("push", "kernel", Phase.PUSH_UNKNOWN),
    "publication": ("create_dataset", "dataset", Phase.PUBLISH_UNKNOWN),
}


@pytest.mark.parametrize("seconds", [-YEAR, 0.0, DAY, YEAR])
@pytest.mark.parametrize("name", LATE)
def test_a_machine_that_starts_anew_with_a_wrong_clock_does_not_shorten_a_wait(
    simulate, name, seconds
):
    verb, read, phase = LATE[name]

    def lost_and_late(call, request):
        answer = lost_answer(call, request)
        landed_at.append(run.clock.true_at)
        return answer

    def hidden(call, *args):
        return Gone("nothing") if run.clock.true_at < landed_at[0] + 850 else call(*args)

    landed_at = []
    restart = Act(lambda state: state.phase is phase, lambda run: run.reboot(seconds))
    late = Fault(read, hidden, times=100, matches=lambda *_: landed_at)
    run = simulate(faults=[Fault(verb, lost_and_late), late], acts=[restart])
    began_at = run.clock.true_at

    run.run()

    assert restart.fired == 1
    assert late.fired
    assert len(run.kinds(Kind.RESTARTED)) == 1
    check_reached(run, sessions=3)
    assert run.clock.true_at - began_at < DAY


@pytest.mark.parametrize("seconds", [0.0, YEAR])
def test_a_machine_that_starts_anew_every_hour_gets_on(simulate, seconds):
    def restart(run):
        if run.clock.true_at - restarted_at[-1] > 3600.0:
            run.reboot(seconds)
            restarted_at.append(run.clock.true_at)

    lost = [Fault("push", lost_request, nth=2), Fault("publish_version", lost_request)]
    run = simulate(faults=lost, script=Script(seconds=3 * 3600.0))
    run.plan.act = restart
    restarted_at = [run.clock.true_at]

    run.run()

    assert len(restarted_at) > 5
    assert [fault.fired for fault in lost] == [1, 1]
    check_reached(run, sessions=3)


def test_a_session_that_runs_is_not_given_up_after_a_start_with_a_wrong_clock(simulate):
    restart = _jump(Phase.LIVE, 0.0)
    restart.do = lambda run: run.reboot(YEAR)
    run = simulate(acts=[restart], script=Script(seconds=3 * 3600.0))

    run.run()

    assert restart.fired == 1
    check_reached(run, sessions=3)


def test_a_session_elsewhere_is_not_believed_to_be_over_after_a_start_with_a_wrong_clock(simulate):
    restart = Act(lambda state: state.wait_reason == "misplaced", lambda run: run.reboot(YEAR))
    run = simulate(acts=[restart], script=Script(seconds=11 * 3600.0))
    twists = [Twist.LAND_ELSEWHERE]
    run.host.twist = lambda operation: twists.pop() if operation == "push" and twists else None

    assert run.run().halt_code == "misplaced_push"
    run.retry()
    run.run()

    assert restart.fired == 1
    check_reached(run, sessions=3)


def test_a_halted_chain_that_goes_on_after_a_start_with_a_wrong_clock_waits_as_long(simulate):
    fault = Fault("push", lost_answer, nth=2)
    gone = Fault(
        "kernel",
        answering(Gone("Not found")),
        times=1_000,
        matches=lambda *_: run.state.phase is Phase.PUSH_UNKNOWN,
    )
    run = simulate(faults=[fault, gone], script=Script(seconds=11 * 3600.0))

    assert run.run().halt_code == "missing"
    run.reboot(YEAR)
    run.retry()
    assert run.state.age - run.state.boot_age < 1.0
    assert run.state.boot_age > YEAR
    gone.times = 0
    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)


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
