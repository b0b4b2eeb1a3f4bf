"""A checkpoint whose copy here is damaged or gone before it is published."""

import pathlib
import shutil

import pytest

from orchestrator.kaggle.port import Refused, Trouble
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import KERNEL, Act
from tests.simulation.faults import Fault, answering
from tests.simulation.truth import check_reached


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _tidy_up(path):
    shutil.rmtree(path.parent)


def _damaging(simulate, file, harm, *faults):
    """A chain whose second checkpoint is damaged here after it was verified, before it leaves."""

    def damage(run):
        pending = run.state.pending
        harm(run.store / pending.manifest_sha256 / (file or pending.file))

    act = Act(lambda state: (state.phase, state.heads) == (Phase.VERIFIED, 1), damage)
    busy = Fault("publish_version", answering(Refused(Trouble.BUSY, "denied")))
    run = simulate(faults=[busy, *faults], acts=[act])
    run.watch.check_local_copy = run.watch._check_copies = lambda _state: None
    return run, act


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        (None, _flip),
        (None, _cut),
        (None, pathlib.Path.unlink),
        (None, _tidy_up),
        ("manifest.json", _flip),
        ("manifest.json", pathlib.Path.unlink),
        ("latest_checkpoint.txt", _flip),
    ],
)
def test_a_copy_that_is_damaged_before_it_is_published_is_fetched_anew(simulate, file, harm):
    run, act = _damaging(simulate, file, harm)

    run.run()

    assert act.fired == 1
    assert len(run.kinds(Kind.CHECKPOINT_DAMAGED)) == 1
    check_reached(run, sessions=3)


def test_a_damaged_copy_that_cannot_be_fetched_halts_the_chain_until_it_is_restored(simulate):
    gone = Fault("outputs", answering(()), times=1_000, matches=lambda *_: run.state.is_damaged)
    kept = []

    def harm(path):
        kept.extend([path, path.read_bytes()])
        _flip(path)

    run, act = _damaging(simulate, None, harm, gone)

    assert run.run().halt_code == "damaged_checkpoint"
    assert act.fired == 1
    kept[0].write_bytes(kept[1])
    gone.times = 0
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_a_damaged_copy_that_is_nowhere_else_costs_its_session_when_a_person_says_so(simulate):
    gone = Fault("outputs", answering(()), times=1_000)
    gone.matches = lambda _, version: version == 2 and run.kinds(Kind.CHECKPOINT_DAMAGED)
    run, act = _damaging(simulate, None, _flip, gone)

    assert run.run().halt_code == "damaged_checkpoint"
    run.retry()
    run.run()

    assert act.fired == 1
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    assert len(run.kinds(Kind.FRUITLESS)) == 1
    assert len(run.host.pushes(KERNEL)) == 4
