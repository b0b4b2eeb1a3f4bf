"""Outputs that Kaggle denies: of a file that it lists, or of all that a session left."""

import pytest

from orchestrator.kaggle.port import Gone
from orchestrator.machine import Kind
from orchestrator.phases.context import MISSING_SECONDS
from tests.simulation.chain import KERNEL, MOST_TICKS, Act
from tests.simulation.faults import Fault, answering, unreadable
from tests.simulation.session import Script
from tests.simulation.truth import check_reached

THREE_SAVED = Script(saves_every=2)  # 16, 18 and 20 of the second session's steps
NEWEST = "checkpoints/checkpoint_epoch1_step20.pt"
MANIFEST, VERDICT = "checkpoints/manifest.json", "session.json"
GONE = answering(Gone("HTTP 404 for an output file"))
HOUR = 3600.0


@pytest.fixture
def lose(simulate):
    """A chain whose second session's files are not there, as far as `is_lost` says so."""

    def make(is_lost, strike=GONE, **options):
        def matches(file, *_args):
            return len(run.host.pushes(KERNEL)) == 2 and is_lost(run, file.name)

        fault = Fault("download", strike, times=10 * MOST_TICKS, matches=matches)
        run = simulate(faults=[fault], **options)
        return run, fault

    return make


def seconds_since_its_end(run):
    return run.journal.age - run.state.push.ended_age


def steps(run):
    return [e.data["checkpoint"]["step"] for e in run.kinds(Kind.CHECKPOINT_VERIFIED)]


def outcomes(run):
    return [e.data["checkpoint"]["outcome"] for e in run.kinds(Kind.CHECKPOINT_VERIFIED)]


def test_a_checkpoint_that_stays_gone_is_replaced_by_an_older_one(lose):
    run, fault = lose(lambda _, name: name == NEWEST, script=THREE_SAVED)

    run.run()

    assert fault.fired >= 3
    check_reached(run, sessions=3, pushes=3)
    assert steps(run) == [10, 18, 28]
    said = [event.age for event in run.kinds(Kind.OUTPUT_MISSED)]
    assert len(said) == 3
    assert MISSING_SECONDS <= said[-1] - said[0] < MISSING_SECONDS + 2 * HOUR


def test_a_session_all_of_whose_checkpoints_stay_gone_is_tried_again(lose):
    run, fault = lose(lambda _, name: name.endswith(".pt"), script=THREE_SAVED)

    run.run()

    assert fault.fired >= 9
    check_reached(run, sessions=3, pushes=4)
    (fruitless,) = run.kinds(Kind.FRUITLESS)
    assert fruitless.data["reason"] == "no_checkpoint"
    assert "step20.pt is listed, and its download says: HTTP 404" in fruitless.data["message"]


def test_a_file_that_is_gone_for_hours_is_waited_for(lose):
    def for_a_while(run, name):
        return name == NEWEST and seconds_since_its_end(run) < 5 * HOUR

    run, fault = lose(for_a_while, script=THREE_SAVED)

    run.run()

    assert fault.fired >= 2
    check_reached(run, sessions=3, pushes=3)
    assert steps(run) == [10, 20, 30]


def test_a_verdict_that_stays_gone_is_none(lose):
    run, fault = lose(lambda _, name: name == VERDICT)

    run.run()

    assert fault.fired >= 3
    check_reached(run, sessions=3, pushes=3)
    assert outcomes(run) == ["stopped", "unknown", "stopped"]


def test_a_manifest_that_stays_gone_means_that_there_is_no_output(lose):
    run, fault = lose(lambda _, name: name == MANIFEST)

    run.run()

    assert fault.fired >= 3
    check_reached(run, sessions=3, pushes=4)
    (fruitless,) = run.kinds(Kind.FRUITLESS)
    assert fruitless.data["reason"] == "no_checkpoint"
    ended = run.kinds(Kind.SESSION_ENDED)[1]
    assert fruitless.age - ended.age >= MISSING_SECONDS


def test_a_file_that_comes_and_goes_is_not_counted_as_gone(lose):
    asked = []

    def every_other_time(run, name):
        if name == VERDICT:
            asked.append(run.journal.age)
            return len(asked) % 2 == 1
        return name == NEWEST and len(asked) < 12  # without which the verdict is asked for again

    def strike(call, file, *args):
        return (GONE if file.name == VERDICT else unreadable)(call, file, *args)

    run, _fault = lose(every_other_time, strike)

    run.run()

    assert len(asked) == 12
    check_reached(run, sessions=3, pushes=3)
    assert outcomes(run) == ["stopped"] * 3
    assert len(run.kinds(Kind.OUTPUT_MISSED)) == len(run.kinds(Kind.OUTPUT_BACK)) == 6


def test_downloads_that_fail_do_not_add_up_to_a_file_that_is_gone(lose):
    def for_hours(run, name):
        return name == NEWEST and seconds_since_its_end(run) < 8 * 3600.0

    run, fault = lose(for_hours, unreadable, script=THREE_SAVED)

    run.run()

    assert fault.fired > 9
    check_reached(run, sessions=3, pushes=3)
    assert steps(run) == [10, 20, 30]
    assert run.kinds(Kind.OUTPUT_MISSED) == []


def test_a_controller_that_is_started_again_goes_on_counting(lose):
    def restart(run):
        run.leave_hanging().close()

    def missed(times):
        return lambda state: state.push and [m.times for m in state.push.missed.values()] == [times]

    acts = [Act(missed(1), restart), Act(missed(2), restart)]
    run, _fault = lose(lambda _, name: name == NEWEST, script=THREE_SAVED, acts=acts)

    run.run()

    assert [act.fired for act in acts] == [1, 1]
    check_reached(run, sessions=3, pushes=3)
    assert steps(run) == [10, 18, 28]
    assert len(run.kinds(Kind.OUTPUT_MISSED)) == 3


@pytest.fixture
def lose_all(simulate):
    """A chain whose second session has no output, as far as Kaggle says, while `is_lost` holds."""

    def make(is_lost):
        def matches(_kernel, version):
            return version == 2 and is_lost(run)

        fault = Fault("outputs", answering(Gone("no such session")), times=10**6, matches=matches)
        run = simulate(faults=[fault])
        return run, fault

    return make


def test_a_chain_halts_when_an_output_stays_gone_and_goes_on_when_it_is_back(lose_all):
    run, fault = lose_all(lambda _run: True)

    assert run.run().halt_code == "missing"
    assert "the output of kchain-sim version 2 could not be read" in run.state.halt_message
    (ended, halted) = run.kinds(Kind.SESSION_ENDED)[1], run.kinds(Kind.HALTED)[0]
    assert MISSING_SECONDS < halted.age - ended.age < MISSING_SECONDS + HOUR
    fault.times = 0
    run.retry()
    run.run()

    check_reached(run, sessions=3, pushes=3)


def test_an_output_that_is_still_gone_when_a_person_has_looked_costs_its_session(lose_all):
    run, _fault = lose_all(lambda _run: True)

    assert run.run().halt_code == "missing"
    run.retry()
    run.run()

    check_reached(run, sessions=3, pushes=4)
    (fruitless,), (retried,) = run.kinds(Kind.FRUITLESS), run.kinds(Kind.RETRIED)
    assert fruitless.data["reason"] == "no_output"
    assert fruitless.age - retried.age >= run.settings.timing.settle_seconds


def test_an_output_that_flickers_when_a_person_has_looked_is_not_given_up(lose_all):
    run, _fault = lose_all(lambda run: not run.kinds(Kind.RETRIED) or is_back(run))

    def is_back(run):
        return run.journal.age - run.kinds(Kind.RETRIED)[0].age < 700.0  # two reads

    assert run.run().halt_code == "missing"
    run.retry()
    run.run()

    check_reached(run, sessions=3, pushes=3)


def test_an_output_that_is_gone_for_hours_is_waited_for(lose_all):
    run, fault = lose_all(lambda run: seconds_since_its_end(run) < 5 * HOUR)

    run.run()

    assert fault.fired > 3
    check_reached(run, sessions=3, pushes=3)
