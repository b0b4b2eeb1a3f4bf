"""A journal that is there already is refused, or set aside if it never sent anything."""

import pytest

from orchestrator.errors import ConfigError
from orchestrator.journal import Journal
from orchestrator.machine import Phase
from tests.simulation.chain import KERNEL
from tests.simulation.faults import Fault, lost_request
from tests.simulation.truth import check_reached

HOUR = 3600.0


def test_a_journal_in_use_is_refused(simulate):
    run = simulate(sessions=1)
    run.run()
    events = run.events

    with pytest.raises(ConfigError, match=r"move .* away first"):
        run.recover()

    assert run.events == events


def lose_and_run(run):
    """Lose the laptop, and run again instead of recovering: the new journal halts."""
    before = run.lose_the_laptop()
    assert run.run().halt_code == "foreign_kernel_version"
    return before, run.events


def kept_journals(run):
    """What each journal holds that was set aside."""
    paths = sorted((run.folder / "state").glob("journal.db.old*"))
    found = []
    for path in paths:
        with Journal(path, "sim", run.clock, read_only=True) as kept:
            found.append(kept.events)
    return found


def test_a_journal_that_never_sent_anything_is_set_aside_and_kept(simulate):
    run = simulate(sessions=2)
    run.run()
    run.want(3)
    before, told = lose_and_run(run)

    after = run.recover()

    assert after.head == before.head
    assert run.events[0].data["set_aside"] == "journal.db.old"
    assert kept_journals(run) == [told]
    run.run()
    check_reached(run, sessions=3)


def test_journals_that_were_set_aside_before_are_kept_too(simulate):
    run = simulate(sessions=2)
    run.run()
    run.want(3)
    run.lose_the_laptop()
    told = []
    for _ in range(2):
        (run.folder / "state" / "journal.db").unlink()
        run._start_controller()
        assert run.run().halt_code == "foreign_kernel_version"
        told.append(run.events)
        run.recover()

    assert kept_journals(run) == told


def test_a_journal_that_sent_a_push_is_not_set_aside(simulate):
    fault = Fault("push", lost_request, nth=3)
    run = simulate(faults=[fault])
    while (run.state.phase, run.state.heads) != (Phase.PUSH_UNKNOWN, 2):
        run.clock.sleep(run.tick() - run.clock.now())
    events = run.events

    with pytest.raises(ConfigError, match=r"move .* away first"):
        run.recover()

    assert fault.fired == 1
    assert run.events == events


def test_a_journal_is_not_set_aside_where_there_is_nothing_to_recover(simulate):
    run = simulate(sessions=2)
    run.host.push_by_hand(KERNEL)
    run.clock.sleep(HOUR)
    assert run.run().halt_code == "foreign_kernel_version"
    events = run.events

    with pytest.raises(ConfigError, match="nothing of chain"):
        run.recover()

    assert run.events == events


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_as_it_sets_a_journal_aside_goes_on(simulate, moment):
    clean = simulate(sessions=2)
    clean.run()
    lose_and_run(clean)
    clean.recover()
    kill = (clean.effects.names.index("journal.append recovering"), moment)
    run = simulate(sessions=2, kills=[kill])
    run.run()
    before, told = lose_and_run(run)

    after = run.recover()

    assert run.effects.fired == [kill]
    assert after.head == before.head
    assert kept_journals(run) == [told]
