"""How sessions are ended: time, memory, disk, and everything they started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.emulator.processes import memory_bytes

MB = 1_000_000


@pytest.fixture
def survivors(tmp_path):
    """Processes of this test's sessions that are alive: asked of their own environments."""
    mark = f"KCHAIN_WORKING_DIR={tmp_path}".encode()

    def look():
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = mark in (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if marked and state != "Z":
                found.append(int(folder.name))
        return found

    return look


@pytest.fixture
def working(tmp_path):
    return tmp_path / "state" / "sessions" / "200000001" / "working"


def test_a_killed_process_is_out_of_memory_and_loses_its_outputs(call):
    call.push("import os\nopen('half.bin', 'w').write('half')\nos.kill(os.getpid(), 9)")

    ended = call.ended()
    assert ended["status"] == "ERROR"
    assert "more memory than is available" in ended["failureMessage"]
    assert call.outputs() == {}


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep, start_new_session=True)
subprocess.Popen(sleep, process_group=0)
if os.fork() == 0:  # a daemon
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "600"])
    os._exit(0)
os.wait()
open("started", "w").write("x")
print("started", flush=True)
time.sleep(600)
"""


def test_at_the_time_limit_everything_is_killed_and_outputs_are_kept(call, survivors):
    call.push(STUBBORN, sessionTimeoutSeconds=2)

    ended = call.ended()
    assert ended["status"] == "CANCEL_ACKNOWLEDGED"
    assert "exceeded the max allowed execution duration" in ended["failureMessage"]
    assert "started\n" in call.log()
    assert call.outputs() == {"started": b"x"}
    assert survivors() == []


def test_closing_can_cancel_what_runs(start, wait_until, working, survivors):
    server, call = start()
    call.push(STUBBORN)
    wait_until((working / "started").exists)
    assert len(survivors()) == 4

    server.close(kill_sessions=True)

    assert survivors() == []
    server, call = start()
    assert call.status() == {"status": "CANCEL_ACKNOWLEDGED"}


def test_a_session_whose_supervisor_vanished_is_an_error_and_leaves_nothing(
    call, wait_until, working, survivors
):
    call.push(STUBBORN)
    wait_until((working / "started").exists)

    os.kill(int(working.parent.with_suffix(".alive").read_text()), signal.SIGKILL)

    assert call.ended() == {"status": "ERROR"}
    assert call.outputs() == {}
    assert survivors() == []


FORKING = """
import os, sys, time
open("forked", "w").close()
if STAYS and os.fork():
    time.sleep(600)
os.execvp("sh", ["sh", "-c", "again() { again & }; again"])  # gone before anybody has looked
"""


@pytest.mark.parametrize(("stays", "status"), [(True, "CANCEL_ACKNOWLEDGED"), (False, "COMPLETE")])
def test_a_process_that_forks_all_the_time_does_not_escape(call, survivors, stays, status):
    call.push(FORKING.replace("STAYS", str(stays)), sessionTimeoutSeconds=1)

    assert call.ended()["status"] == status
    assert list(call.outputs()) == ["forked"]
    assert survivors() == []


def test_a_notebooks_interpreter_dies_with_its_session(
    start, notebook, wait_until, working, survivors
):
    server, call = start()
    call.push(notebook("import time\nopen('started', 'w')\ntime.sleep(600)"), kernelType="notebook")
    wait_until((working / "started").exists)
    assert len(survivors()) == 2

    server.close(kill_sessions=True)

    assert survivors() == []


KEEPING_OPEN = """
import subprocess
for child in [subprocess.Popen(CHILD) for _ in range(4)]:
    while child.args[0].encode() not in open(f"/proc/{child.pid}/comm", "rb").read():
        pass  # it is not that program yet
print("done")
"""


@pytest.mark.parametrize("child", ["sleep 600", f"yes {'still' * 10}"])
def test_a_child_that_keeps_the_output_open_does_not_keep_the_session(call, survivors, child):
    call.push(KEEPING_OPEN.replace("CHILD", str(child.split())))

    assert call.ended() == {"status": "COMPLETE"}
    assert "done\n" in call.log()
    assert survivors() == []


GREEDY = """
import os, subprocess, sys, time
open("half.bin", "w").write("half")
print("started", flush=True)
hold = "import time; held = b'x' * 150_000_000; time.sleep(600)"
for _ in range(2):  # none of them is over the limit, the session is
    subprocess.Popen([sys.executable, "-c", hold], start_new_session=True)
time.sleep(600)
"""


def test_over_the_memory_limit_everything_is_killed_and_outputs_are_lost(start, survivors):
    _, call = start(memory_limit_bytes=250 * MB)
    call.push(GREEDY)

    ended = call.ended()
    assert ended["status"] == "ERROR"
    assert ended["failureMessage"] == (
        "Your notebook tried to allocate more memory than is available."
    )
    assert "started\n" in call.log()
    assert call.outputs() == {}
    assert survivors() == []


def test_outputs_may_be_told_to_survive_the_memory_limit(start):
    _, call = start(memory_limit_bytes=250 * MB, outputs_survive=frozenset({"out_of_memory"}))
    call.push(GREEDY)
    call.ended()

    assert call.outputs() == {"half.bin": b"half"}


HOLDING = """
import mmap, os, subprocess, sys
held = b"x" * 100_000_000
file = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, access=mmap.ACCESS_READ)
sum(file[i] for i in range(0, len(file), 4096))
for _ in range(4):
    if os.fork() == 0:
        sum(file[i] for i in range(0, len(file), 4096))
        os.write(1, b"ready\\n")  # in one piece, whatever the others write
        sys.stdin.read()
        os._exit(0)
for _ in range(4):
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only what is resident is known")
def test_shared_memory_counts_once_and_pages_of_files_do_not_count(tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * 100 * MB)
    root = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDING!r}, sys.argv[1]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", root, str(large)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        for _ in range(4):
            assert holder.stdout.readline() == b"ready\n"
        estimate, exact = (memory_bytes(holder.pid, enough) for enough in (10_000 * MB, 0))
        holder.stdin.close()

    assert estimate > 900 * MB
    assert 100 * MB < exact < 200 * MB


FILLING = """
import time
open("first.bin", "wb").write(b"x" * 400_000)
open("second.bin", "wb").write(b"x" * 900_000)
print("written", flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize("seconds", [600, 0], ids=["goes on", "ends at once"])
def test_a_full_disk_ends_the_session_and_keeps_what_fits(start, survivors, seconds):
    _, call = start(output_limit_bytes=MB)
    call.push(FILLING.format(seconds=seconds))

    assert call.ended() == {"status": "ERROR"}
    assert list(call.outputs()) == ["first.bin"]
    assert "the working folder holds more than 1,000,000 bytes" in call.log()
    assert survivors() == []


def test_files_outside_the_working_folder_fill_nothing(start):
    _, call = start(output_limit_bytes=MB)
    call.push("import tempfile; open(tempfile.mkstemp()[1], 'wb').write(b'x' * 2_000_000)")

    assert call.ended() == {"status": "COMPLETE"}
