"""Storms by the thousand: the chain reaches its target, and nothing that must hold ever breaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.naive import violations
from tests.simulation.schedules import BATCH, Tally, events_of, run_seeds, summary
from tests.simulation.storm import names

ROOT = Path(__file__).parents[2]
SCHEDULES = 2_000
FAULTS_EACH, CRASHES_EACH = 20, 10  # on average, at least


@pytest.fixture(scope="module")
def tally():
    return Tally()


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_every_storm_ends_at_the_target_with_nothing_broken(first, tally):
    part = run_seeds(range(first, first + BATCH))

    tally.add(part)
    assert not part.failures
    assert part.schedules == BATCH
    assert sum(part.faults.values()) >= FAULTS_EACH * BATCH * 0.7  # a batch varies
    assert part.crashes >= CRASHES_EACH * BATCH * 0.7


def test_two_runs_of_a_seed_tell_the_same_story():
    for seed in range(20):
        assert events_of(seed) == events_of(seed)


def test_a_seed_tells_the_same_story_in_any_process():
    code = "from tests.simulation.schedules import events_of; print(list(map(events_of, range(8))))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PATH": os.environ["PATH"]},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }

    assert len(told) == 1
    assert b"checkpoint_verified" in told.pop().lower()


def test_storms_draw_from_every_kind_and_often_enough():
    tally = run_seeds(range(BATCH * 6))

    assert set(tally.faults) == names()
    assert sum(tally.faults.values()) >= FAULTS_EACH * tally.schedules
    assert tally.crashes >= CRASHES_EACH * tally.schedules
    assert tally.heads >= 5 * tally.schedules


def test_a_summary_tells_zeros_with_their_opportunities():
    told = summary(run_seeds(range(3)), wall_seconds=1.0, processes=1)

    assert told.startswith("3 schedules, 0 failed; ")
    assert "invariants checked" in told


def test_the_loop_that_people_write_first_breaks_in_most_storms():
    broken = [seed for seed in range(30) if any(violations(seed).values())]

    assert len(broken) > 20
