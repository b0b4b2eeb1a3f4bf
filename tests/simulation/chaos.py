"""Draws what goes wrong in a run from one seed: faults, crashes and bad sessions."""

import random
from dataclasses import replace

from orchestrator.kaggle.port import Refused, Trouble
from tests.simulation.chain import Plan, Simulation
from tests.simulation.faults import (
    Fault,
    Strike,
    answering,
    garbling,
    lost_answer,
    lost_request,
    publishing_damaged,
    publishing_in_vain,
    publishing_slowly,
    unreadable,
    without_file,
)
from tests.simulation.host import PLATFORM
from tests.simulation.session import Script

MOST_FAULTS, MOST_KILLS, LAST_KILL = 6, 5, 350
_READS = (
    "identity",
    "kernel",
    "session",
    "outputs",
    "download",
    "dataset",
    "dataset_files",
    "dataset_file",
    "quota",
)
_LOST: tuple[Strike, ...] = (lost_answer, lost_request)
_REFUSALS = (Trouble.RATE, Trouble.CAPACITY, Trouble.BUSY, Trouble.AUTH, Trouble.NETWORK)
_BAD_VERSIONS = (
    without_file("training_history.json"),
    publishing_damaged("manifest.json", lambda data: data[:-1]),
    publishing_slowly(5_000.0),
    publishing_slowly(20_000.0),
)
_BAD_SESSIONS = (
    Script(saves=False),
    Script(ending="exception"),
    Script(ending="out_of_memory"),
    Script(seconds=13 * 3600.0),
    Script(steps=0),
)
_GARBLED = (
    garbling(lambda data: data[: len(data) // 2]),
    garbling(lambda data: b"q" + data[1:]),
    garbling(lambda data: b""),
)


def draw(seed: int) -> Simulation:
    """A simulation that is the same for the same seed."""
    rng = random.Random(f"chaos {seed}")  # noqa: S311
    kinds = rng.sample(_KINDS, rng.randint(1, len(_KINDS)))  # a swarm: not all of them every time
    faults = [rng.choice(kinds)(rng) for _ in range(rng.randint(0, MOST_FAULTS))]
    kills = [
        (rng.randrange(LAST_KILL), rng.choice(["before", "after"]))
        for _ in range(rng.randint(0, MOST_KILLS))
    ]
    scripts = {v: rng.choice(_BAD_SESSIONS) for v in range(1, 9) if rng.random() < 0.15}
    platform = replace(PLATFORM, seed=seed, unpack_checkpoints=rng.random() < 0.2)
    plan = Plan(faults=faults, kills=kills)
    sessions = rng.randint(2, 4)
    return Simulation(plan, seed=seed, sessions=sessions, scripts=scripts, platform=platform)


def _losing_a_push(rng: random.Random) -> Fault:
    return Fault("push", rng.choice(_LOST), rng.randint(1, 4), rng.randint(1, 2))


def _losing_a_publication(rng: random.Random) -> Fault:
    verb = rng.choice(["create_dataset", "publish_version"])
    return Fault(verb, rng.choice(_LOST), rng.randint(1, 2))


def _spoiling_a_publication(rng: random.Random) -> Fault:
    verb = rng.choice(["create_dataset", "publish_version"])
    return Fault(verb, rng.choice(_BAD_VERSIONS), rng.randint(1, 3))


def _failing_a_publication(rng: random.Random) -> Fault:
    strike = publishing_in_vain(rng.choice([0.0, 3_000.0]))
    return Fault("publish_version", strike, rng.randint(1, 3))


def _hiding_a_read(rng: random.Random) -> Fault:
    return Fault(rng.choice(_READS), unreadable, rng.randint(1, 40), rng.randint(1, 8))


def _garbling_a_download(rng: random.Random) -> Fault:
    return Fault("download", rng.choice(_GARBLED), rng.randint(1, 16), rng.randint(1, 2))


def _refusing(rng: random.Random) -> Fault:
    refused = Refused(rng.choice(_REFUSALS), "no", rng.choice([None, 30.0]))
    verb = rng.choice(["push", "publish_version"])
    return Fault(verb, answering(refused), rng.randint(1, 4), rng.randint(1, 3))


def _listing_nothing(rng: random.Random) -> Fault:
    return Fault("outputs", answering(()), rng.randint(1, 14))


_KINDS = (
    _losing_a_push,
    _losing_a_publication,
    _spoiling_a_publication,
    _failing_a_publication,
    _hiding_a_read,
    _garbling_a_download,
    _refusing,
    _listing_nothing,
)
