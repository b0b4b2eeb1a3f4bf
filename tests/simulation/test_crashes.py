import random

import pytest

from orchestrator.errors import JournalConflict
from orchestrator.machine import Phase
from tests.simulation.chain import Plan, Simulation
from tests.simulation.schedules import cores
from tests.simulation.sweep import (
    boundaries,
    clean_effects,
    in_processes,
    sweep_second,
    sweep_storm,
)
from tests.simulation.truth import check_always, check_reached

DOUBLE_CRASHES = 100
SOON = 40  # effects: the second crash hits while the first is still being dealt with
STORMS = 20
SAMPLED_STORMS, ONE_IN = 3, 9  # and in how many of their boundaries a crash is tried


@pytest.fixture(scope="module")
def effects():
    """The names of the effects of a clean chain of three sessions, in order."""
    with Simulation(Plan()) as run:
        run.run()
        return run.effects.names


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("seam", ["journal", "kaggle", "files"])
def test_a_crash_at_any_effect_changes_nothing_about_the_ending(effects, seam, moment):
    numbers = [number for number, name in enumerate(effects) if name.startswith(seam)]
    assert numbers

    for number in numbers:
        with Simulation(Plan(kills=[(number, moment)])) as run:
            run.run()

            assert run.effects.fired == [(number, moment)]
            check_reached(run, sessions=3)


def test_a_crash_during_recovery_from_a_crash_changes_nothing_either(effects):
    rng = random.Random("double crashes")  # noqa: S311

    for _ in range(DOUBLE_CRASHES):
        first = rng.randrange(len(effects) - SOON)
        second = first + 1 + rng.randrange(SOON)
        kills = [(number, rng.choice(["before", "after"])) for number in (first, second)]
        with Simulation(Plan(kills=kills)) as run:
            run.run()

            assert run.effects.fired == kills
            check_reached(run, sessions=3)


@pytest.mark.prove
def test_all_double_crashes_of_a_clean_chain_change_nothing(proven):
    swept = in_processes(sweep_second, boundaries(clean_effects()), cores())

    assert not swept.failures
    assert swept.crashes > 40_000
    proven(
        "every pair of crashes in a clean chain of two sessions, before and after each effect",
        f"{swept.crashes:,} pairs; target reached and no invariant broken in each",
    )


@pytest.mark.parametrize("seed", range(SAMPLED_STORMS))
def test_a_crash_at_any_effect_of_a_storm_changes_nothing_about_the_ending(seed):
    swept = sweep_storm(seed, every=ONE_IN)

    assert not swept.failures
    assert swept.crashes > 200 / ONE_IN


@pytest.mark.prove
def test_a_crash_at_every_effect_of_many_storms_changes_nothing_about_the_ending(proven):
    swept = in_processes(sweep_storm, range(STORMS), cores())

    assert not swept.failures
    assert swept.crashes > 200 * STORMS
    proven(
        f"a crash before and after every effect of {STORMS} storms of faults",
        f"{swept.crashes:,} crashes; target reached and no invariant broken after each",
    )


@pytest.mark.parametrize("number", range(21))
def test_a_controller_that_comes_back_beside_another_one_does_nothing(simulate, number):
    run = simulate(sessions=2, kills=_after_the_event(number))
    run.run_until_killed()
    late = run.leave_hanging()

    run.run()
    with pytest.raises(JournalConflict):
        run.tick(late)

    late.close()
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 2)
    check_always(run)  # the user's folder alone may be as the late one left it


def _after_the_event(number):
    with Simulation(Plan(), sessions=2) as run:
        run.run()
        appends = [n for n, name in enumerate(run.effects.names) if name.startswith("journal")]
        return [(appends[number], "after")]
