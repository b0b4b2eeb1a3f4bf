"""One thing goes wrong once; the chain gets past it by itself."""

import random
from dataclasses import replace

import pytest

from orchestrator.kaggle.port import Refused, SessionInfo, Trouble
from orchestrator.machine import Kind
from orchestrator.model import SessionStatus
from tests.simulation.chain import Plan, Simulation
from tests.simulation.faults import (
    Fault,
    answering,
    garbling,
    lost_answer,
    lost_request,
    unreadable,
    without_file,
)
from tests.simulation.truth import check_reached

CRASHES_PER_FAULT = 6


def _is_checkpoint(file, *_args):
    return file.name.endswith(".pt")


def _refused(trouble, message, retry_after_seconds=None):
    return answering(Refused(trouble, message, retry_after_seconds))


# Fault, and the events that show how it was dealt with.
HARMLESS = {
    "push answer lost": (
        Fault("push", lost_answer, nth=2),
        [Kind.PUSH_UNCLEAR],
    ),
    "push request lost": (
        Fault("push", lost_request, nth=2),
        [Kind.PUSH_UNCLEAR, *[Kind.PUSH_ABSENT] * 3, Kind.PUSH_GIVEN_UP],
    ),
    "push refused for capacity": (
        Fault("push", _refused(Trouble.CAPACITY, "session count"), times=3),
        [Kind.PUSH_REFUSED] * 3,
    ),
    "push refused for quota": (
        Fault("push", _refused(Trouble.QUOTA, "quota"), nth=3, times=2),
        [Kind.PUSH_REFUSED] * 2,
    ),
    "push refused for its rate": (
        Fault("push", _refused(Trouble.RATE, "slow down", 700.0)),
        [Kind.PUSH_REFUSED],
    ),
    "first publication's answer lost": (
        Fault("create_dataset", lost_answer),
        [Kind.PUBLISH_UNCLEAR],
    ),
    "first publication's request lost": (
        Fault("create_dataset", lost_request),
        [Kind.PUBLISH_UNCLEAR, *[Kind.PUBLISH_ABSENT] * 3, Kind.PUBLISH_GIVEN_UP],
    ),
    "publication's answer lost": (
        Fault("publish_version", lost_answer),
        [Kind.PUBLISH_UNCLEAR],
    ),
    "publication's request lost": (
        Fault("publish_version", lost_request),
        [Kind.PUBLISH_UNCLEAR, *[Kind.PUBLISH_ABSENT] * 3, Kind.PUBLISH_GIVEN_UP],
    ),
    "publication refused while another is processed": (
        Fault("publish_version", _refused(Trouble.BUSY, "denied"), times=2),
        [Kind.PUBLISH_REFUSED] * 2,
    ),
    "publication lacks a file": (
        Fault("publish_version", without_file("training_history.json")),
        [Kind.PUBLISH_INCOMPLETE],
    ),
    "first publication lacks a file": (
        Fault("create_dataset", without_file("latest_checkpoint.txt")),
        [Kind.PUBLISH_INCOMPLETE],
    ),
    "checkpoint download cut short": (
        Fault("download", garbling(lambda data: data[: len(data) // 2]), matches=_is_checkpoint),
        [],
    ),
    "checkpoint download with a flipped bit": (
        Fault("download", garbling(lambda data: b"q" + data[1:]), matches=_is_checkpoint),
        [],
    ),
    "verdict download cut short": (
        Fault("download", garbling(lambda data: data[: len(data) // 2]), times=2),
        [],
    ),
    "verdict spoilt for good": (
        Fault("download", garbling(lambda data: data[: len(data) // 2]), times=3),
        [Kind.OUTPUTS_LISTED],
    ),
    "manifest download cut short": (
        Fault(
            "download",
            garbling(lambda data: data[: len(data) // 2]),
            times=2,
            matches=lambda file, *_args: file.name.endswith("manifest.json"),
        ),
        [],
    ),
    "downloads fail": (
        Fault("download", unreadable, times=4, matches=_is_checkpoint),
        [Kind.WAITING],
    ),
    "statuses unreadable for an hour": (
        Fault("session", unreadable, nth=3, times=6),
        [Kind.WAITING],
    ),
    "output list empty for a while": (
        Fault("outputs", answering(())),
        [Kind.OUTPUTS_LISTED],
    ),
    "kernel unreadable": (
        Fault("kernel", unreadable, times=5),
        [Kind.WAITING],
    ),
    "dataset unreadable": (
        Fault("dataset", unreadable, nth=3, times=5),
        [Kind.WAITING],
    ),
    "published files unreadable": (
        Fault("dataset_files", unreadable, times=5),
        [Kind.WAITING],
    ),
    "published manifest unreadable": (
        Fault("dataset_file", unreadable, times=5),
        [Kind.WAITING],
    ),
    "quota unreadable": (
        Fault("quota", unreadable, times=5),
        [Kind.WAITING],
    ),
    "identity unreadable": (
        Fault("identity", unreadable, times=5),
        [],
    ),
    "session queued for hours": (
        Fault("session", answering(SessionInfo(SessionStatus.QUEUED, "")), nth=2, times=60),
        [],
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_chain_gets_past_a_fault_without_losing_a_session(simulate, name):
    planned, expected = HARMLESS[name]
    fault = replace(planned)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == fault.times
    check_reached(run, sessions=3)
    shown = [event.kind for event in run.events if event.kind in set(expected)]
    assert shown == expected


@pytest.mark.parametrize("name", HARMLESS)
def test_a_crash_besides_a_fault_makes_no_difference(simulate, name):
    rng = random.Random(name)  # noqa: S311
    clean = simulate(faults=[replace(HARMLESS[name][0])])
    clean.run()

    for _ in range(CRASHES_PER_FAULT):
        kill = (rng.randrange(len(clean.effects.names)), rng.choice(["before", "after"]))
        fault = replace(HARMLESS[name][0])
        with Simulation(Plan(faults=[fault], kills=[kill])) as run:
            run.run()

            assert run.effects.fired == [kill]
            assert fault.fired
            check_reached(run, sessions=3)
