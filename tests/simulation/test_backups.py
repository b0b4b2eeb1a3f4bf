"""A state folder from an older backup, and a second controller: adopted if the lineage proves it."""

from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import Gone
from orchestrator.machine import Kind, Phase
from tests.simulation.backups import check_line, drive_both, keep_backup, put_beside
from tests.simulation.chain import live_in_session
from tests.simulation.faults import Fault, answering, lost_answer, lost_request, unreadable
from tests.simulation.host import PLATFORM
from tests.simulation.session import Script

HOUR = 3600.0
FIRST_RUNS, FIRST_HEAD, SECOND_RUNS, THIRD_HEAD = 4, 11, 15, 33  # events of a chain without faults
READING = (Phase.PUSHING, Phase.RECOVERING)


def clean(run):
    """Three sessions, and an hour after them."""
    run.run()
    run.clock.sleep(HOUR)


def while_the_fourth_runs(run):
    run.want(4)
    while not live_in_session(4)(run.state):
        run.clock.sleep(run.tick() - run.clock.now())
    run.clock.sleep(HOUR)


def until_the_second_runs(run):
    while not live_in_session(2)(run.state):
        run.clock.sleep(run.tick() - run.clock.now())


def restored(simulate, number, drive, **options):
    """A chain that was driven so far, with its folder from one of its events; None beyond them."""
    run = simulate(**options)
    backup = keep_backup(run, number, drive)
    if backup is None:
        return None
    run.restore(backup)
    return run


def go_on(run):
    """Run; where the chain halts, do literally what it says. Return how it got there."""
    if run.run().halt_code is None:
        return "adopted"
    assert run.state.halt_code == "foreign_kernel_version"
    assert "`kchain recover` keeps it as journal.db.old" in run.state.halt_message
    run.recover()
    run.run()
    return "recovered"


def easy():
    return {}


def hard():
    """A lost push, a lost answer, a session in vain, and a publication that must be repeated."""
    faults = [
        Fault("push", lost_request, nth=2),
        Fault("push", lost_answer, nth=4),
        Fault("publish_version", lost_request),
        Fault("create_dataset", lost_answer),
    ]
    return {"faults": faults, "scripts": {2: Script(saves=False)}}


@pytest.mark.parametrize(
    ("world", "drive", "in_vain"),
    [(easy, clean, 0), (easy, while_the_fourth_runs, 0), (hard, clean, 1)],
)
def test_a_backup_of_any_event_goes_on_from_where_the_chain_is(simulate, world, drive, in_vain):
    ends, number = Counter(), 0
    while run := restored(simulate, number, drive, **world()):
        with closing(run):
            assert all(fault.fired for fault in run.plan.faults)
            run.want(4)
            number += 1

            ends[go_on(run)] += 1

            check_line(run, sessions=4, in_vain=in_vain)

    # Only a folder from before the first intent has nothing in it that is on the account.
    assert ends == {"recovered": 1, "adopted": number - 1}
    assert number > 30


@pytest.mark.parametrize("verb", ["kernel", "dataset", "dataset_file", "dataset_files", "download"])
def test_reads_that_fail_while_a_chain_is_adopted_are_repeated(simulate, verb):
    run = restored(simulate, FIRST_RUNS, clean)
    run.want(4)
    fault = Fault(verb, unreadable, times=5, matches=lambda *_: run.state.phase in READING)
    run.plan.faults = [fault]

    run.run()

    assert fault.fired == 5
    check_line(run, sessions=4)


def test_a_head_that_kaggle_denies_for_a_moment_is_never_gone_back_behind(simulate):
    run = restored(simulate, FIRST_RUNS, clean)
    run.want(4)
    denied = Fault(
        "dataset_file",
        answering(Gone("not found")),
        times=30,
        matches=lambda *_: run.state.phase is Phase.RECOVERING,
    )
    run.plan.faults = [denied]

    run.run()

    assert denied.fired == 30
    assert [event.data["heads"] for event in run.kinds(Kind.RECOVERED)] == [3]
    check_line(run, sessions=4)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_effect_of_an_adoption_changes_nothing(simulate, moment):
    clean_run = restored(simulate, FIRST_RUNS, clean)
    begins = len(clean_run.effects.names)
    clean_run.want(4)
    clean_run.run()
    names = clean_run.effects.names
    adopting = range(
        names.index("journal.append recovering"), names.index("journal.append recovered") + 1
    )
    assert begins < adopting[0]
    for number in adopting[::3]:
        with closing(restored(simulate, FIRST_RUNS, clean, kills=[(number, moment)])) as run:
            run.want(4)

            run.run()

            assert run.effects.fired == [(number, moment)]
            check_line(run, sessions=4)


def test_the_folder_of_another_lineage_is_not_taken_for_the_chains(simulate):
    run, other = simulate(), simulate(seed=7)
    clean(run)
    run.restore(keep_backup(other, SECOND_RUNS, clean))
    run.want(4)

    assert go_on(run) == "recovered"

    check_line(run, sessions=4)


@pytest.mark.parametrize(("number", "heads"), [(FIRST_RUNS, 1), (SECOND_RUNS, 2)])
def test_a_head_whose_session_looks_fruitless_to_an_older_journal_is_adopted(
    simulate, number, heads
):
    def is_collecting(*_):
        return run.state.phase is Phase.ENDED

    run = restored(simulate, number, lambda run: (run.want(heads), clean(run)))
    run.want(heads + 1)
    gone = Fault("outputs", lambda *_: (), times=1_000, matches=is_collecting)
    run.plan.faults = [gone]

    while run.state.phase is not Phase.RECOVERING:
        run.clock.sleep(run.tick() - run.clock.now())
    gone.times = 0
    run.run()

    assert gone.fired
    assert len(run.kinds(Kind.FRUITLESS)) == 1
    check_line(run, sessions=heads + 1)


def test_a_checkpoint_that_the_chain_went_on_without_is_not_published(simulate):
    """The second session's output could not be seen, and another attempt took its place."""
    gone = Fault("outputs", lambda *_: (), times=1_000, matches=lambda _slug, version: version == 2)
    run = restored(simulate, SECOND_RUNS, clean, faults=[gone])
    assert gone.fired
    gone.times = 0
    run.want(4)

    run.run()

    assert len(run.kinds(Kind.CHECKPOINT_VERIFIED)) == 3
    check_line(run, sessions=4, in_vain=1)


def test_what_was_sent_just_before_a_backup_was_put_back_is_waited_for(simulate):
    def until_the_third_was_sent(run):
        while (run.state.phase, run.state.heads) != (Phase.PUSH_UNKNOWN, 2):
            run.clock.sleep(run.tick() - run.clock.now())

    late = replace(PLATFORM, kernel_visible_seconds=850.0)
    answer = Fault("push", lost_answer, nth=3)
    world = {"faults": [answer], "platform": late, "script": Script(seconds=3 * HOUR)}
    run = restored(simulate, FIRST_RUNS, until_the_third_was_sent, **world)

    run.run()

    assert answer.fired == 1
    check_line(run, sessions=3)


def test_a_version_that_cannot_be_read_for_a_moment_is_not_called_somebody_elses(simulate):
    run = restored(simulate, THIRD_HEAD, while_the_fourth_runs)
    gone = Fault(
        "kernel",
        answering(Gone("not found")),
        times=3,
        matches=lambda _slug, version=None: version == 4,
    )
    run.plan.faults = [gone]

    run.run()

    assert gone.fired == 3
    check_line(run, sessions=4)


def test_a_halted_journal_is_not_told_that_it_is_in_use(simulate):
    run = simulate(faults=[Fault("push", lost_request, times=100)])
    assert run.run().halt_code == "unknown_pushes"

    with pytest.raises(ConfigError, match=r"is halted \(unknown_pushes\): .*--retry.* move "):
        run.recover()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("drive", [until_the_second_runs, while_the_fourth_runs])
def test_of_two_controllers_with_a_journal_each_one_halts_and_no_session_runs_twice(
    simulate, seed, drive
):
    first, second = simulate(seed=seed), simulate(seed=seed + 100)
    backup = keep_backup(first, FIRST_HEAD, drive)
    first.want(6)
    second.want(6)
    put_beside(second, first, backup)

    drive_both(first, second)

    ends = {run.state.halt_code: run for run in (first, second)}
    assert set(ends) == {None, "second_controller"}
    check_line(ends[None], sessions=6)
