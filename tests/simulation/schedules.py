"""Run schedules by the thousand: `python -m tests.simulation --seeds 20000 --first 0`."""

import contextlib
import gc
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.machine import Event, Phase
from tests.simulation.causes import check_halt, check_healed, check_spent
from tests.simulation.chain import KERNEL, Simulation
from tests.simulation.clock import MONDAY_AT
from tests.simulation.invariants import require
from tests.simulation.storm import draw, mend
from tests.simulation.truth import check_always, check_reached

MOST_HALTS = 40  # that a person mends; each storm is over well before
LONGEST_SECONDS = 120 * 86_400.0  # of a chain: seven sessions, at the week's quota at worst
BATCH = 50  # schedules a process is given at a time
GARBAGE = 50_000  # objects more than before, until their cycles are looked for
YEAR_SECONDS = 365.25 * 86_400
# Kinds that are no faults: the crash is counted by itself, a suspended laptop is not broken.
CRASH = "crash"


@dataclass
class Tally:
    """What many schedules came to."""

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)  # verbs and crashes, by heads
    crashes: int = 0
    halts: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    events: int = 0
    opportunities: int = 0
    heads: int = 0
    pushes: int = 0
    lost_answers: int = 0
    versions: int = 0
    seconds: float = 0.0  # that passed for the chains
    cpu_seconds: float = 0.0  # that it took
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)


def run_one(run: Simulation) -> Tally:
    """Run a schedule to its target; raises Violation if anything does not hold."""
    tally = Tally(schedules=1)
    struck: dict[str, Counter[str]] = {}  # by then, at each code's last halt
    for _ in range(MOST_HALTS):
        if run.run().phase is Phase.DONE:
            break
        check_always(run)
        check_halt(run, struck)
        tally.halts[run.state.halt_code or ""] += 1
        mend(run)
    landed = sum(push.token is not None for push in run.host.pushes(KERNEL))
    check_reached(run, sessions=run.settings.chain.sessions, pushes=landed)
    check_spent(run)
    check_healed(run)
    passed = run.clock.true_at - MONDAY_AT
    require(passed < LONGEST_SECONDS, "I11", f"the chain took {passed / 86_400:.0f} days")
    fired = run.plan.fired
    tally.crashes = fired.pop(CRASH, 0)
    tally.faults.update(fired)
    tally.struck.update(run.plan.struck)
    tally.effects, tally.events = len(run.effects.names), len(run.events)
    tally.opportunities = run.watch.opportunities
    tally.heads, tally.pushes, tally.seconds = run.state.heads, landed, passed
    tally.lost_answers = fired["answer lost"]
    tally.versions = len(run.host.versions(run.settings.dataset_slug))
    return tally


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Run the schedules of these seeds; a failure is kept with its seed."""
    tally, began = Tally(), time.process_time()
    with rarely_collecting():
        for seed in seeds:
            try:
                with draw(seed) as run:
                    tally.add(run_one(run))
            except Exception as error:  # noqa: BLE001 - whatever it is, its seed is what matters
                failure = (seed, f"{type(error).__name__}: {str(error)[:300]}")
                tally.add(Tally(schedules=1, failures=[failure]))
    tally.cpu_seconds = time.process_time() - began
    return tally


@contextlib.contextmanager
def rarely_collecting() -> Iterator[None]:
    """Look for cycles of garbage once in a few schedules: hardly any but the runs are in one."""
    usual = gc.get_threshold()
    gc.freeze()  # what was imported stays
    gc.set_threshold(GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def events_of(seed: int) -> list[Event]:
    """Everything that a schedule's journal holds, for comparing two runs of one seed."""
    with draw(seed) as run:
        with contextlib.suppress(AssertionError):
            run_one(run)
        return told(run)


def told(run: Simulation) -> list[Event]:
    """A run's events without the name of its folder, which no two runs share."""
    where = str(run.folder)
    return [
        replace(event, data=json.loads(json.dumps(event.data).replace(where, "FOLDER")))
        for event in run.events
    ]


def run_many(first: int, count: int, processes: int, batch: int = BATCH) -> Iterator[Tally]:
    """Run `count` schedules in several processes; yields the tally of each batch."""
    batches = [
        range(start, min(start + batch, first + count))
        for start in range(first, first + count, batch)
    ]
    if processes == 1:
        yield from map(run_seeds, batches)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_seeds, batches)


def figures(tally: Tally, wall_seconds: float, processes: int) -> dict[str, Any]:
    """Return all of it, and how quick it was."""
    return {
        **vars(tally),
        "processes": processes,
        "wall_seconds": wall_seconds,
        "per_second": tally.schedules / wall_seconds,
        "per_core_second": tally.schedules / tally.cpu_seconds,
        "commit": commit(),
    }


def summary(tally: Tally, wall_seconds: float, processes: int) -> str:
    """Return all of it in one line; zeros are told with the opportunities that there were."""
    count = tally.schedules
    found = figures(tally, wall_seconds, processes)
    return (
        f"{count:,} schedules, {len(tally.failures)} failed;"
        f" {sum(tally.faults.values()):,} faults ({sum(tally.faults.values()) / count:.1f} each),"
        f" {tally.crashes:,} crashes ({tally.crashes / count:.1f} each),"
        f" {tally.seconds / YEAR_SECONDS:,.1f} simulated years;"
        f" invariants checked {tally.opportunities:,} times;"
        f" {found['per_second']:.1f} schedules/s by {processes} processes,"
        f" {found['per_core_second']:.1f} per second of a core; commit {found['commit']}"
    )


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def now() -> float:
    return time.perf_counter()
