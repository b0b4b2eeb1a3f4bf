"""Crash sweeps: a run is made once to learn its effects, then once more for each crash in it.

No crash is spared because it looks like its neighbour's. "After effect n" and "before effect
n + 1" are often the same, and not where a tick ended between the two, a file was flushed, or
something was closed by the death itself.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.simulation.chain import Plan, Simulation
from tests.simulation.gusts import Gusts
from tests.simulation.schedules import run_one
from tests.simulation.storm import Storm, draw
from tests.simulation.truth import check_reached

Kill = tuple[int, str]  # number of the effect, and "before" or "after"
MOMENTS = ("before", "after")
SESSIONS = 2
STORM_EFFECTS = 300  # the storm of a swept run lasts for most of it


class SweptStorm(Storm):
    """A storm in which nothing dies, except where it is told to.

    Up to that crash it draws what it draws without; from there on it goes on drawing.
    """

    def __init__(self, seed: int, kill: Kill | None = None) -> None:
        super().__init__(seed)
        self.gusts = Gusts(self.rng, STORM_EFFECTS, heads=SESSIONS)
        self._kill = kill

    def kill(self, number: int, moment: str) -> bool:
        if moment == "before":
            self._pass_effect()
        return (number, moment) == self._kill


def boundaries(effects: Sequence[str], first: int = 0) -> list[Kill]:
    """Every instant before and after an effect, from the `first` one on."""
    return [(number, moment) for number in range(first, len(effects)) for moment in MOMENTS]


@dataclass(frozen=True)
class Swept:
    """What a sweep came to; a failure is told with the crash that brought it about."""

    crashes: int
    failures: tuple[str, ...] = ()

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(self.crashes + other.crashes, self.failures + other.failures)


def storm_effects(seed: int) -> list[str]:
    """The effects of a storm's run in which nothing dies."""
    with draw(seed, SweptStorm, sessions=SESSIONS) as run:
        struck = sum(run_one(run).faults.values())
        assert struck, f"nothing happened in storm {seed}"
        assert not run.effects.fired
        return run.effects.names


def sweep_storm(seed: int, every: int = 1) -> Swept:
    """Crash a storm's run at each boundary, or at one of so many."""
    effects = storm_effects(seed)
    kills = boundaries(effects)[seed % every :: every]

    def crash(kill: Kill) -> None:
        with draw(seed, partial(SweptStorm, kill=kill), sessions=SESSIONS) as run:
            run_one(run)
            upto = kill[0] + 1
            assert run.effects.fired == [kill]
            assert run.effects.names[:upto] == effects[:upto], "another storm before the crash"

    return _sweep(f"storm {seed}", kills, crash)


def clean_effects(*kills: Kill) -> list[str]:
    """Run a chain without faults through these crashes to its target; returns its effects."""
    with Simulation(Plan(kills=kills), sessions=SESSIONS, in_memory=True) as run:
        run.run()
        assert run.effects.fired == list(kills)
        check_reached(run, sessions=SESSIONS)
        return run.effects.names


def sweep_second(first: Kill) -> Swept:
    """Crash a clean run once, and then again at each boundary from there to its end."""
    seconds = boundaries(clean_effects(first), first[0] + 1)
    return _sweep(f"after {first}", seconds, lambda second: clean_effects(first, second))


def in_processes(sweep: Callable[[Any], Swept], jobs: Iterable[Any], processes: int) -> Swept:
    """Add up the sweeps of many jobs."""
    with ProcessPoolExecutor(processes) as pool:
        return sum(pool.map(sweep, jobs), Swept(0))


def _sweep(where: str, kills: Sequence[Kill], crash: Callable[[Kill], Any]) -> Swept:
    failures = []
    for kill in kills:
        try:
            crash(kill)
        except Exception as error:  # noqa: BLE001 - whatever it is, its crash is what matters
            failures.append(f"{where}, {kill}: {type(error).__name__}: {error}")
    return Swept(len(kills), tuple(failures))
