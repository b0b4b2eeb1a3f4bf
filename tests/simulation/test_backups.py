"""A state folder from an older backup, and a second controller: adopted if the lineage proves it."""

from collections import Counter
from contextlib import closing

import pytest

from tests.simulation.backups import check_line, keep_backup
from tests.simulation.chain import live_in_session
from tests.simulation.faults import Fault, lost_answer, lost_request
from tests.simulation.session import Script

HOUR = 3600.0


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
