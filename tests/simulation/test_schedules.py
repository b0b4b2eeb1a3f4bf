"""Storms by the thousand: the chain reaches its target, and nothing that must hold ever breaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.fold import fold
from orchestrator.journal import Journal
from orchestrator.machine import Kind
from tests.simulation.clock import VirtualClock
from tests.simulation.gusts import HEADS
from tests.simulation.journal import MemoryJournal
from tests.simulation.naive import violations
from tests.simulation.schedules import (
    BATCH,
    Tally,
    events_of,
    run_one,
    run_seeds,
    summary,
    told,
)
from tests.simulation.storm import draw, names

ROOT = Path(__file__).parents[2]
SCHEDULES = 2_000
ON_DISK = 100  # whose journals are files
FAULTS_EACH, CRASHES_EACH = 20, 10  # on average, at least
# How often 2,000 storms strike at least, at each number of heads.
LEAST = {"crash": 2_000, "push": 300, "publish_version": 150, "session": 300, "act": 100}
LEAST_CREATIONS = 100


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


def test_storms_strike_every_mutation_and_kill_at_every_number_of_heads(tally):
    if tally.schedules < SCHEDULES / 4:
        pytest.skip("too few of the storms were run in this process")
    each = tally.schedules / SCHEDULES
    struck = {what: [tally.struck[f"{what} {head}"] for head in range(HEADS)] for what in LEAST}

    assert tally.struck["create_dataset 0"] >= LEAST_CREATIONS * each
    for what, least in LEAST.items():
        first = what == "publish_version"  # the first version of all is created
        assert min(struck[what][first:]) >= least * each, struck


def test_two_runs_of_a_seed_tell_the_same_story():
    for seed in range(20):
        assert events_of(seed) == events_of(seed)


@pytest.mark.parametrize("first", range(0, ON_DISK, BATCH))
def test_a_storm_with_its_journal_on_disk_ends_as_it_does_in_memory(first):
    for seed in range(first, first + BATCH):
        with draw(seed, in_memory=False) as run:
            tally = run_one(run)
            assert fold(run.events) == run.state
            assert run.restarts >= tally.crashes  # each of them read the file
            assert told(run) == events_of(seed)


def test_a_restart_in_memory_finds_what_a_file_would_keep(tmp_path):
    clock, binding = VirtualClock(), dict.fromkeys(("endpoint", "owner", "kernel", "dataset"), "x")
    first = MemoryJournal("sim", clock, lambda *_: None)
    with Journal(tmp_path / "journal.db", "sim", clock) as on_disk:
        for journal in (first, on_disk):
            journal.append(Kind.BOUND, **binding)
            journal.append(Kind.HALTED, code="stop", message="m", versions=(1, 2))
    second = MemoryJournal("sim", clock, lambda *_: None, first)
    third = MemoryJournal("sim", clock, lambda *_: None, second)

    with Journal(tmp_path / "journal.db", "sim", clock) as again:
        assert first.state != again.state  # a tuple comes back as a list
        assert [second.state, third.state] == [again.state] * 2
        assert second.events == third.events == again.events


def test_a_seed_tells_the_same_story_in_any_process():
    code = "from tests.simulation.schedules import events_of; print(list(map(events_of, range(8))))"
    stories = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PATH": os.environ["PATH"]},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }

    assert len(stories) == 1
    assert b"checkpoint_verified" in stories.pop().lower()


def test_storms_draw_from_every_kind_and_often_enough():
    tally = run_seeds(range(BATCH * 6))

    assert set(tally.faults) == names()
    assert sum(tally.faults.values()) >= FAULTS_EACH * tally.schedules
    assert tally.crashes >= CRASHES_EACH * tally.schedules
    assert tally.heads >= 5 * tally.schedules


def test_a_summary_tells_zeros_with_their_opportunities():
    line = summary(run_seeds(range(3)), wall_seconds=1.0, processes=1)

    assert line.startswith("3 schedules, 0 failed; ")
    assert "invariants checked" in line


def test_the_loop_that_people_write_first_breaks_in_most_storms():
    broken = [seed for seed in range(30) if any(violations(seed).values())]

    assert len(broken) > 20
