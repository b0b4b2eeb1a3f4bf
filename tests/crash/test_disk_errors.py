"""ENOSPC and EIO at the n-th operation on the disk, for n = 1, 2, ... until a run is clean.

First in process, where every operation of ours can fail and thousands of chains take no time; then
with the system calls of the real command, journal and all.
"""

import errno
import shutil
import subprocess

import pytest

from orchestrator.errors import NotNow
from orchestrator.files import Files
from tests.crash.disks import OPERATIONS, FailingDisk
from tests.running import COMMAND
from tests.simulation.chain import Plan, Simulation
from tests.simulation.truth import check_reached

SESSIONS = 2


class OnDisk(Simulation):
    """A chain on a disk of ours; once its controller died, on the machine's own."""

    def use(self, disk):
        self._open_files(disk)

    def restart(self):
        self._start_controller()


def failure(call, *arguments):
    """What a call fails with; None if it comes back."""
    try:
        call(*arguments)
    except (OSError, NotNow) as error:
        return error
    return None


def run_with(disk):
    """Run a chain on a failing disk; who dies of it is started again, on a good one."""
    with OnDisk(Plan(), sessions=SESSIONS) as run:
        error = failure(run.use, disk) or failure(run.run)
        if error:
            assert error.errno == disk.errno
            assert error.filename, "the message could not say where"
            run.restart()
            run.run()
        check_reached(run, sessions=SESSIONS)


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        *(("ENOSPC", 1), ("EIO", 3), ("EDQUOT", 7), ("EROFS", 7)),
        *(pytest.param(name, 1, marks=pytest.mark.prove) for name in ("EIO", "EDQUOT", "EROFS")),
    ],
)
def test_whichever_operation_fails_the_chain_goes_on_when_the_disk_is_well(name, stride):
    failed = []
    for number in range(1, 1000, stride):
        disk = FailingDisk(number, getattr(errno, name))
        run_with(disk)
        if disk.failed is None:
            break
        failed.append(disk.failed)

    assert disk.failed is None
    assert len(failed) > 50 // stride
    if stride == 1:
        assert set(failed) == {*OPERATIONS} - {"empty"}


def test_a_flush_that_failed_once_is_not_believed_the_next_time(tmp_path):
    files = Files(tmp_path / "state", tmp_path / "output")
    folder = files.incoming("token")
    with files.partial(folder, "a.pt") as sink:
        sink.write(b"bytes")
    disk = FailingDisk(0, errno.EIO)
    failing = Files(tmp_path / "state", tmp_path / "output", disk)
    disk.at = disk.count + 3  # after the old promotion is removed and the new one's folder made

    with pytest.raises(OSError, match="Input/output"):
        failing.promote(folder, "5" * 64, ["a.pt"])

    assert disk.failed == "flush"
    assert files.size_bytes(folder, "a.pt") is None, "it would be believed"
    assert not files.stored("5" * 64).exists()


# A file system that is too small


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of so many bytes; unmount it in the end."""
    mounted = []

    def mount(size_bytes):
        folder = tmp_path / f"small{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("this machine does not let us mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def step(run):
    """Tick once, and sleep as long as it asks for."""
    wake = run.tick()
    if wake is not None:
        run.clock.sleep(wake - run.clock.now())


class Filled:
    """A file that leaves only so much room on its disk, until it is removed."""

    def __init__(self, folder, room_bytes):
        self.path = folder / "filler"
        free = shutil.disk_usage(folder).free
        self.path.write_bytes(bytes(max(0, free - room_bytes)))


@pytest.mark.parametrize("room_pages", [*range(0, 12, 2), 24, 48])
def test_on_a_full_disk_the_chain_waits_or_stops_and_goes_on_when_there_is_room(
    small_disk, monkeypatch, room_pages
):
    monkeypatch.setattr("tests.simulation.chain.MEMORY", str(small_disk(2 << 20)))
    with OnDisk(Plan(), sessions=SESSIONS) as run:
        filled = Filled(run.folder, room_pages * 4096)
        refused = []
        for _ in range(30):
            if error := failure(step, run):
                refused.append(getattr(error, "errno", errno.ENOSPC))
                run.restart()
        filled.path.unlink()
        waited = [event.data for event in run.events if event.data.get("reason") == "disk"]
        run.run()

        assert set(refused) <= {errno.ENOSPC}
        assert refused or waited or room_pages >= 12
        check_reached(run, sessions=SESSIONS)


# The real command


@pytest.mark.parametrize("part", ["state", "output"])
def test_the_command_on_a_full_disk_says_so_and_goes_on_when_there_is_room(place, small_disk, part):
    disk = small_disk(1 << 20)
    where = {"state": place.state_dir.parent, "output": place.output}[part]
    where.symlink_to(disk)
    filled = Filled(disk, 0)
    for _ in range(20):
        code, output = place.finish("tick")
        assert code == 3, output
        if "make room" in output:
            break

    assert "make room" in output
    filled.path.unlink()
    code, output = place.finish()
    assert code == 0, output
    place.check()


STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(
    not STRACE, reason="needs strace, which fails system calls for us"
)
CALLS = {  # the question mark: not every machine has the call
    "pwrite64": "ENOSPC",
    "write": "ENOSPC",
    "fdatasync": "EIO",
    "fsync": "EIO",
    "unlink,?unlinkat": "EIO",
    "?rename,?renameat,?renameat2": "EIO",
    "?link,linkat": "EIO",
    "?mkdir,mkdirat": "ENOSPC",
}


class Sweep:
    """Fails one system call after the other of the real command, and lets it go on each time."""

    def __init__(self, new_place):
        self._new_place = new_place
        self.place, self.is_fresh = new_place(), True
        self.failures = 0

    def fail(self, calls, number):
        """Fail the n-th of these calls of a run; tell whether there was one."""
        trace, inject = self.place.folder / "trace", f"{calls}:error={CALLS[calls]}:when={number}"
        options = ("-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={inject}")
        command = (STRACE, *options, *COMMAND)
        code, output = self.place.finish("run", command=command)
        has_failed = "(INJECTED)" in trace.read_text(errors="replace")
        self.failures += has_failed
        assert code == 0 or (code == 3 and has_failed), output
        assert "Traceback" not in output, output
        self.place.check_always()
        self.is_fresh = False
        if code == 0:
            self.close_chain()
        return has_failed

    def close_chain(self):
        self.place.check()
        self.place.close()
        self.place, self.is_fresh = self._new_place(), True

    def finish(self):
        code, output = self.place.finish()
        assert code == 0, output
        self.close_chain()


@needs_strace
def test_the_command_goes_on_after_a_system_call_that_failed(new_place):
    sweep = Sweep(new_place)

    for calls, number in (("fdatasync", 7), ("?link,linkat", 2)):
        assert sweep.fail(calls, number)

    sweep.finish()


@pytest.mark.prove
@pytest.mark.timeout(3600)
@needs_strace
def test_the_command_goes_on_whichever_system_call_failed(new_place, proven):
    sweep, counts = Sweep(new_place), {}
    for calls in CALLS:
        number, before = 1, sweep.failures
        while True:
            was_fresh = sweep.is_fresh
            if sweep.fail(calls, number):
                number += 1 + number // 4  # each at first; later ones are much like each other
            elif was_fresh:
                break
        counts[calls.split(",")[-1].strip("?")] = sweep.failures - before
    sweep.finish()

    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    proven(
        "ENOSPC and EIO for the n-th system call of the real command, until a run is clean:"
        " n = 1, 2, 3, 4, then a quarter more each time",
        f"{sweep.failures} failures ({told}); half states: 0 in {sweep.failures}",
    )
