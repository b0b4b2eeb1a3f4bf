"""A power cut before any operation on the disk, and the states that it may leave.

The model is harsh: bytes that were not flushed are old, torn, zeros or there, each file for
itself; names that were not flushed are there or not, in any combination. All of them are tried
while few names wait, and draws of more. The journal looks after itself.
"""

import random
import shutil
from pathlib import Path

import pytest

from orchestrator.disk import Disk
from tests.crash.disks import FEW, SAMPLES, CutDisk
from tests.simulation.chain import Plan, Simulation
from tests.simulation.crashes import Killed
from tests.simulation.truth import check_reached

SESSIONS = 2


class OnDisk(Simulation):
    """A chain on a disk of ours; after its controller died, on the machine's own again."""

    def __init__(self, **plan):
        super().__init__(Plan(**plan), sessions=SESSIONS)
        self.parts = [self.folder / "state" / name for name in ("store", "incoming", "staging")]
        self.parts.append(self.output)
        self.clear()

    def clear(self):
        """Remove everything but the journal."""
        for part in filter(Path.exists, self.parts):
            shutil.rmtree(part)

    def use(self, disk):
        self._open_files(disk)

    def restart(self):
        self._start_controller()

    def contents(self, part):
        """The files below a folder, by their paths there."""
        return {
            path.relative_to(part).as_posix(): path.read_bytes()
            for path in part.rglob("*")
            if path.is_file()
        }


class Clean:
    """What an undisturbed run does to the disk, and leaves there."""

    def __init__(self, disk_type=CutDisk):
        with OnDisk() as run:
            disk = disk_type(run.folder)
            run.use(disk)
            run.run()
            self.operations, self.store = disk.count, run.contents(run.store)
            self.versions = {}  # of each file that is delivered
            for path, content in self.store.items():
                self.versions.setdefault(path.partition("/")[2], set()).add(content)


@pytest.fixture(scope="module")
def clean():
    return Clean()


def cut(at, choose, clean, disk_type=CutDisk):
    """Cut the power before operation `at`, and go on from each of the chosen states it may leave."""
    number, chosen = 0, None
    while chosen is None or number < len(chosen):
        with OnDisk() as run:
            disk = disk_type(run.folder, at, Killed)
            try:
                run.use(disk)
            except Killed:
                pass
            else:
                run.run_until_killed()
            assert disk.count == at
            chosen = chosen or choose(list(disk.cuts(random.Random(at))))  # noqa: S311
            run.clear()
            put_in_place(run.folder, chosen[number])
            check_what_is_left(run, clean)
            run.restart()
            run.run()
            check_reached(run, sessions=SESSIONS)
        number += 1
    return number


def put_in_place(root, tree):
    for path, content in tree.items():
        if content is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(content)


def check_what_is_left(run, clean):
    """A checkpoint is whole or not there; a delivered file is the old one or the new one."""
    stored = run.contents(run.store) if run.store.is_dir() else {}
    whole = {path.partition("/")[0] for path in stored}
    for path, content in clean.store.items():
        if path.partition("/")[0] in whole:
            assert stored.pop(path, None) == content, f"{path} is torn"
    assert stored == {}
    delivered = run.contents(run.output) if run.output.is_dir() else {}
    for path, content in delivered.items():
        if not path.endswith(".part"):
            assert content in clean.versions[path], f"{path} is torn"
    state = run.state
    kept = [state.pending] if state.pending else []
    if state.head:
        kept.append(state.head.checkpoint)
        in_hand = {checkpoint.file for checkpoint in kept}
        assert in_hand & set(delivered), "what was delivered is gone"
    for checkpoint in kept:
        assert checkpoint.manifest_sha256 in whole, "a verified checkpoint is gone"


def one_of_them(states):
    """Any of the states, always the same."""
    return [random.Random(len(states)).choice(states)]  # noqa: S311


def the_worst(states):
    """The state in which most is lost."""
    return states[:1]


def two_of_them(states):
    """The state in which most is lost, and any other."""
    return [states[0], *one_of_them(states)]


def test_whatever_a_power_cut_leaves_is_whole_and_can_be_gone_on_from(clean):
    assert clean.operations > 50

    for at in range(1, clean.operations + 1):
        choose = (one_of_them, the_worst)[at % 2]
        assert cut(at, choose, clean) == 1


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_thousands_of_states_that_a_power_cut_can_leave_are_whole(clean, proven):
    states = sum(cut(at, lambda every: every, clean) for at in range(1, clean.operations + 1))

    proven(
        "Power cut before every operation on the disk: states that it may leave",
        f"{states:,} states after {clean.operations} operations, all while at most {FEW} names"
        f" wait to be flushed, {SAMPLES} draws and the ends of more; torn or lost checkpoints, torn"
        f" files in the output folder: 0 in {states:,}; each chain reached its target",
    )


class Careless(CutDisk):
    """A disk that forgets to flush what `forgets` says."""

    forgets = staticmethod(lambda path: False)

    def flush(self, path):
        if self.forgets(Path(path)):
            self._pass()
        else:
            super().flush(path)


@pytest.mark.parametrize(
    ("what", "forgets"),
    [
        ("files", lambda path: path.is_file()),
        ("the names in a checkpoint", lambda path: path.name == ".verified"),
        ("the names in the store", lambda path: path.name == "store"),
        ("the names in the output folder", lambda path: path.name == "output"),
        ("the names in the state folder", lambda path: path.name == "state"),
    ],
)
def test_without_any_of_the_flushes_something_is_torn_or_lost(what, forgets):
    careless = type("Careless", (Careless,), {"forgets": staticmethod(forgets)})
    clean = Clean(careless)

    def cut_everywhere():
        for at in range(1, clean.operations + 1):
            cut(at, two_of_them, clean, careless)

    with pytest.raises(AssertionError, match=r"torn|gone"):
        cut_everywhere()


def test_the_machines_own_disk_is_asked_for_the_same_operations():
    named = {name for name in vars(Disk) if not name.startswith("_")}

    assert named - {"make_folders"} == {name for name in vars(CutDisk) if name in named}
