"""A disk that does not take it, and processes that die: no event is half there."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, NotNow
from orchestrator.machine import Kind
from tests.running import environment, run

# A disk that does not take it


@pytest.fixture
def read_only_folder(filled):
    """A folder with a journal in which this process may not write, even when it is root."""
    folder = Path(tempfile.mkdtemp(prefix="kchain-read-only-"))
    shutil.copy(filled, folder / "journal.db")
    for path, mode in ((folder / "journal.db", 0o444), (folder, 0o555)):
        path.chmod(mode)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["journal.db", "new.db"])
def test_a_read_only_folder_is_a_matter_of_permissions(open_journal, read_only_folder, name):
    with pytest.raises(ConfigError, match="permissions") as caught:
        open_journal(path=read_only_folder / name).append(Kind.FINISHED, reason="done")

    assert str(read_only_folder / name) in str(caught.value)


def test_a_journal_in_a_read_only_folder_can_be_read(open_journal, read_only_folder):
    journal = open_journal(path=read_only_folder / "journal.db", read_only=True)

    assert journal.state.heads == 1


def test_reading_a_journal_that_does_not_exist_makes_none(open_journal, path):
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_journal(read_only=True)

    assert not path.exists()


def test_reading_is_not_writing(open_journal, filled):
    journal = open_journal(read_only=True)
    before = filled.read_bytes()

    with pytest.raises(ConfigError):
        journal.append(Kind.FINISHED, reason="done")

    assert filled.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_means_try_later_and_leaves_no_half_event(small_disk, open_journal, binding):
    path = small_disk / "journal.db"
    journal = open_journal(path=path)
    journal.append(Kind.BOUND, **binding)
    refused = None
    for number in range(200):
        try:
            journal.append(Kind.WAITING, reason="quota", message="x" * 3000, until=float(number))
        except NotNow as error:
            refused = error
            break
    kept = journal.state

    assert refused is not None
    assert "make room" in str(refused)
    assert open_journal(path=path, read_only=True).state == kept

    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_limit_on_file_sizes_means_try_later(tmp_path, open_journal, binding):
    path = tmp_path / "limited.db"
    code = (
        "import resource, sys, pathlib;"
        "from orchestrator.clock import SystemClock;"
        "from orchestrator.errors import NotNow;"
        "from orchestrator.journal import Journal;"
        "from orchestrator.machine import Kind;"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "journal = Journal(pathlib.Path(sys.argv[1]), 'demo', SystemClock());"
        "journal.append(Kind.BOUND, endpoint='e', owner='o', kernel='k', dataset='d');"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    for n in range(100):\n"
        "        journal.append(Kind.WAITING, reason='r', message='x' * 3000, until=1.0)\n"
        "        print(journal.state.seq)\n"
        "except NotNow as error:\n"
        "    sys.exit(3)\n"
    )

    done = run([sys.executable, "-c", code, str(path)])

    assert done.returncode == 3, done.stderr
    assert open_journal(path=path).state.seq == int(done.stdout.split()[-1])


# Processes that die


DYING = """
import os, sqlite3, sys, pathlib
connect, left = sqlite3.connect, int(sys.argv[2])

class Dying(sqlite3.Connection):
    def execute(self, *args):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return super().execute(*args)

sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Dying)
from orchestrator.clock import SystemClock
from orchestrator.journal import Journal
Journal(pathlib.Path(sys.argv[1]), "demo", SystemClock())
"""


def test_a_controller_that_dies_while_it_makes_the_journal_leaves_one_to_go_on_with(
    tmp_path, open_journal, binding
):
    deaths = 0
    for statements in range(20):
        path = tmp_path / f"{statements}.db"
        done = run([sys.executable, "-c", DYING, str(path), str(statements)])
        open_journal(path=path).append(Kind.BOUND, **binding)
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
        deaths += 1

    assert deaths >= 3
    assert done.returncode == 0


APPENDING = """
import pathlib, sys
from orchestrator.clock import SystemClock
from orchestrator.journal import Journal
from orchestrator.machine import Kind
journal = Journal(pathlib.Path(sys.argv[1]), "demo", SystemClock())
if journal.state.seq == 0:
    journal.append(Kind.BOUND, endpoint="e", owner="o", kernel="k", dataset="d")
for _ in range(100_000):
    print(journal.append(Kind.WAITING, reason="r", message="m", until=1.0).seq, flush=True)
"""


def test_a_killed_controller_loses_no_event_that_was_acknowledged(path, open_journal):
    kills, before = 5, 0
    for kill in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(path)],
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        for _ in range(3 + 7 * kill):
            acknowledged = int(process.stdout.readline())
        process.kill()
        acknowledged = int(([acknowledged, *process.stdout.read().split()])[-1])
        process.wait()
        process.stdout.close()

        journal = open_journal()
        assert before < acknowledged <= journal.state.seq <= acknowledged + 1
        before = journal.state.seq
        journal.close()


TORN = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT INTO events VALUES ('demo', ?, 0, 'waiting', ?)",
               [(n, "x" * 3000) for n in range(100, 200)])
os._exit(9)
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_a_transaction_that_was_cut_short_is_as_if_it_had_never_been(
    open_journal, filled, read_only
):
    assert run([sys.executable, "-c", TORN, str(filled)]).returncode == 9
    assert filled.with_name("journal.db-journal").exists()

    journal = open_journal(read_only=read_only)

    assert (journal.state.seq, journal.state.heads) == (12, 1)
