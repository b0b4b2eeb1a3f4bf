"""What stays unreadable, or goes back in its version, is waited for, and not for ever."""

from dataclasses import replace

import pytest

from orchestrator.machine import Kind, Phase
from orchestrator.phases.context import MISSING_SECONDS
from tests.simulation.chain import DATASET, KERNEL, Act, live_in_session
from tests.simulation.faults import Fault, changing, lost_answer, lost_request, unreadable
from tests.simulation.truth import check_always, check_reached

HOUR = 3600.0
EVER = 10**6


def at(phase, heads):
    return lambda run: (run.state.phase, run.state.heads) == (phase, heads)


def add_version(run):
    run.host.publish_by_hand(DATASET, {"a.bin": b"a"})


def unread(verb, number):
    """Nobody can read this version's content."""
    return Fault(
        verb, unreadable, times=EVER, matches=lambda _slug, version=None, *_: version == number
    )


def check_halted(run, code, words):
    """It halted after hours in which nothing else was said, and no later."""
    assert (run.state.halt_code, words in run.state.halt_message) == (code, True), run.state
    assert "--retry" in run.state.halt_message
    (halted,) = run.kinds(Kind.HALTED)
    waits = [event.age for event in run.kinds(Kind.WAITING) if words in event.data["message"]]
    assert MISSING_SECONDS < halted.age - waits[-1] < MISSING_SECONDS + HOUR
    check_always(run)


def test_a_version_before_ours_that_stays_unreadable_halts_the_chain_and_is_left_behind(simulate):
    intruder = Act(live_in_session(2), add_version)
    run = simulate(acts=[intruder], faults=[unread("dataset_file", 2)])

    run.run()

    assert intruder.fired == 1
    check_halted(run, "unreadable", f"dataset {DATASET} version 2")
    run.retry()
    run.run()
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]


def test_a_version_that_may_be_ours_and_stays_unreadable_halts_the_chain(simulate):
    def overtaken(call, request):
        add_version(run)
        return lost_request(call, request)

    fault = Fault("publish_version", overtaken)
    run = simulate(faults=[fault, unread("dataset_file", 2)])

    run.run()

    assert fault.fired == 1
    check_halted(run, "unreadable", f"dataset {DATASET} version 2")
    run.retry()
    run.run()
    check_reached(run, sessions=3)


def test_a_version_on_top_of_the_head_that_stays_unreadable_is_not_taken_for_the_head(simulate):
    def intrude(call, *args):
        add_version(run)
        run.clock.advance(HOUR)
        return call(*args)

    fault = Fault("kernel", intrude, matches=lambda *_: at(Phase.PUSHING, 2)(run))
    run = simulate(faults=[fault, unread("dataset_file", 3)])

    run.run()

    assert fault.fired == 1
    check_halted(run, "unreadable", f"dataset {DATASET} version 3")
    run.retry()
    assert run.run().halt_code == "foreign_dataset_version"


@pytest.mark.parametrize("verb", ["dataset_files", "dataset_file"])
def test_a_version_of_ours_that_stays_unreadable_halts_the_chain_and_is_published_again(
    simulate, verb
):
    run = simulate(faults=[unread(verb, 2)])

    run.run()

    check_halted(run, "unreadable", f"of dataset {DATASET} version 2")
    run.retry()
    run.run()
    run.host._failed_at[2] = run.clock.true_at  # what nobody can read is no second copy
    check_reached(run, sessions=3)


def test_a_kernel_version_that_stays_unreadable_halts_the_chain_and_is_not_pushed_over(simulate):
    fault = Fault("push", lost_answer, nth=2)
    run = simulate(faults=[fault, unread("kernel", 2)])

    run.run()

    check_halted(run, "unreadable", f"kernel {KERNEL} version 2")
    run.retry()
    assert run.run().halt_code == "foreign_kernel_version"
    assert len(run.host.pushes(KERNEL)) == 2


def test_a_kernel_version_before_ours_that_stays_unreadable_halts_the_chain(simulate):
    def race(call, request):
        run.host.push_by_hand(KERNEL)
        return call(request)

    run = simulate(faults=[Fault("push", race, nth=2), unread("kernel", 2)])

    run.run()

    check_halted(run, "unreadable", f"kernel {KERNEL} version 2")
    run.retry()
    assert run.run().halt_code == "foreign_kernel_version"
    run.retry()
    run.run()
    check_reached(run, sessions=3)


def test_a_version_that_is_unreadable_for_hours_is_waited_for(simulate):
    fault = unread("dataset_file", 2)
    fault.times = 30  # five hours
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 30
    check_reached(run, sessions=3)


def test_a_dataset_that_was_made_anew_is_published_to_only_when_told_to(simulate):
    fault = Fault("dataset", changing(current_version=1), times=EVER)
    run = simulate(faults=[fault])
    fault.matches = lambda *_: at(Phase.VERIFIED, 2)(run)

    run.run()

    check_halted(run, "remade", f"dataset {DATASET} at version 1, it has been at 2 already")
    assert len(run.host.versions(DATASET)) == 2
    fault.times = 0
    run.retry()
    run.run()
    check_reached(run, sessions=3)


def test_a_dataset_that_was_made_anew_is_mounted_when_it_holds_the_head(simulate):
    def shown(call, *args):
        return replace(call(*args), current_version=len(held))

    def held_by(_call, _dataset, version, *_):
        return run.host.versions(DATASET)[held[version - 1] - 1].files["manifest.json"]

    held = [1]  # what each version of the new dataset is a copy of
    before = lambda *_: at(Phase.PUSHING, 3)(run)  # noqa: E731
    faults = [Fault("dataset", shown, times=EVER), Fault("dataset_file", held_by, times=EVER)]
    for fault in faults:
        fault.matches = before
    run = simulate(sessions=4, faults=faults)

    run.run()

    check_halted(run, "remade", f"dataset {DATASET} at version 1, it has been at 3 already")
    stored = run.store / run.state.head.checkpoint.manifest_sha256
    assert f"Publish {stored} as its next version by hand" in run.state.halt_message
    held.append(3)
    run.retry()
    run.run()
    check_reached(run, sessions=4)


def test_a_kernel_that_was_made_anew_halts_the_chain(simulate):
    fault = Fault("kernel", changing(current_version=1), times=EVER)
    run = simulate(faults=[fault])
    fault.matches = lambda *_: at(Phase.PUSHING, 2)(run)

    run.run()

    check_halted(run, "remade", f"kernel {KERNEL} at version 1, it has been at 2 already")
    run.retry()
    assert run.state.kernel_version == 1


def test_reads_that_are_behind_now_and_then_do_not_add_up_to_a_dataset_made_anew(simulate):
    def now_and_then(call, *args):
        return replace(call(*args), current_version=1) if fault.fired % 4 else unreadable(call)

    fault = Fault("dataset", now_and_then, times=100)
    run = simulate(faults=[fault])
    fault.matches = lambda *_: at(Phase.VERIFIED, 2)(run)

    run.run()

    assert fault.fired == 100
    check_reached(run, sessions=3)
