"""Storms in worlds where a request may land, or show itself, after any time.

Without keys that make a request idempotent, nobody can prevent a second session there: the first
one lands after it was given up. It can only be found and contained, and that is what is checked:
heads are still exactly once, and each late landing costs one session or one version at most.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestrator.emulator.records import Refusal
from orchestrator.kaggle.port import PublishRequest, Unknown
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Simulation
from tests.simulation.clock import MONDAY_AT
from tests.simulation.faults import Call, Strike
from tests.simulation.invariants import require
from tests.simulation.schedules import LONGEST_SECONDS, MOST_HALTS
from tests.simulation.storm import HOUR, Storm, draw, mend
from tests.simulation.truth import check_heads

LATE_RATE = 0.3  # of pushes and publications
LATE_SECONDS = (0.5 * HOUR, 2 * HOUR, 30 * HOUR)
SHOWN_LATE_SECONDS = (0.0, 2 * HOUR)  # the settle time is a quarter of an hour


class LateStorm(Storm):
    """A storm in which some mutations are on their way for hours."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.landed: Counter[str] = Counter()
        self._under_way: list[tuple[float, Callable[[], Any]]] = []  # when, and what lands

    def strike(self, verb: str, *args: Any) -> Strike | None:
        can_be_late = verb in ("push", "publish_version") and not self.gusts.is_calm
        if can_be_late and self.rng.random() < LATE_RATE:
            return self._delay
        return super().strike(verb, *args)

    def _delay(self, call: Call, request: Any) -> Unknown:
        host = call.__self__.host
        land = lambda: call(request)  # noqa: E731
        if isinstance(request, PublishRequest):  # whose files are gone by then
            contents = {name: (request.folder / name).read_bytes() for name in request.files}
            land = lambda: host.publish(request.dataset, request.notes, contents)  # noqa: E731
        self._under_way.append((host.clock.true_at + self.rng.choice(LATE_SECONDS), land))
        return Unknown("no answer in time")

    def act(self, run: Simulation) -> None:
        due = [item for item in self._under_way if item[0] <= run.clock.true_at]
        self._under_way = [item for item in self._under_way if item not in due]
        told, run.host.on_landing = run.host.on_landing, None  # the journal has given them up
        for _, land in due:
            before = landings(run)
            with suppress(Refusal):
                land()
            self.landed["late"] += landings(run) - before
        run.host.on_landing = told
        super().act(run)


def landings(run: Simulation) -> int:
    """How many kernel and dataset versions there are."""
    return len(run.host.pushes(KERNEL)) + len(run.host.versions(DATASET))


def draw_beyond(seed: int) -> Simulation:
    """A schedule beyond the assumptions, the same for the same seed."""
    run = draw(seed, LateStorm)
    run.watch.one_live = False  # I1 is what cannot be held there
    world, rng = run.host.world, run.plan.rng
    late = {"kernel_visible_seconds": rng.choice(SHOWN_LATE_SECONDS)}
    world.configure(run.host.now, settings=replace(world.settings, **late))
    return run


def wasted_sessions(run: Simulation) -> int:
    """Sessions that were started and given up: the chain knows of no push that did it."""
    token, adopted = None, set()
    for event in run.events:
        if event.kind is Kind.PUSH_INTENT:
            token = event.data["token"]
        elif event.kind in (Kind.PUSH_DONE, Kind.PUSH_LANDED_BAD):
            adopted.add(token)
        elif event.kind is Kind.RECOVERED_LIVE:
            adopted.add(event.data["push"]["token"])
    landed = {push.token for push in run.host.pushes(KERNEL) if push.token}
    return len(landed - adopted)


def check_beyond(run: Simulation) -> None:
    """Run to the target, and check what holds in any world."""
    for _ in range(MOST_HALTS):
        run.run()
        check_heads(run)
        if run.state.phase is Phase.DONE:
            break
        mend(run)
    require(run.state.phase is Phase.DONE, "I11", f"it ended as {run.state}")
    require(run.state.heads == run.settings.chain.sessions, "I11", f"{run.state.heads} heads")
    unheard = run.plan.landed["late"] + run.plan.fired["answer lost"] + _died_after_a_push(run)
    require(wasted_sessions(run) <= unheard, "I1", "more sessions wasted than answers unheard")
    require(run.clock.true_at - MONDAY_AT < LONGEST_SECONDS, "I11", "it took too long")


def _died_after_a_push(run: Simulation) -> int:
    """How often the process died before it could write down what became of a push."""
    names = run.effects.names
    last_done = [number - (when == "before") for number, when in run.effects.fired]
    return sum(names[number] == "kaggle.push" for number in last_done if number >= 0)
