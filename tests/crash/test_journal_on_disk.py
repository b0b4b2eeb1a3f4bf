"""What SQLite does to the disk for us: flushed before an append returns, whole after a power cut."""

import random
import re
import shutil
import sqlite3
import sys

import pytest

from orchestrator.clock import SystemClock
from orchestrator.journal import Journal
from orchestrator.machine import Kind
from tests.running import run

BINDING = {"endpoint": "e", "owner": "o", "kernel": "k", "dataset": "d"}
APPENDING = """
import pathlib, sys
from orchestrator.clock import SystemClock
from orchestrator.journal import Journal
from orchestrator.machine import Kind
journal = Journal(pathlib.Path(sys.argv[1]), "demo", SystemClock())
print("opened", flush=True)
journal.append(Kind.BOUND, endpoint="e", owner="o", kernel="k", dataset="d")
print("appended", flush=True)
journal.append(Kind.WAITING, reason="r", message="m", until=1.0)
print("appended", flush=True)
"""
TORN = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA synchronous = EXTRA")
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT INTO events VALUES ('demo', ?, 0, 'waiting', ?)",
               [(n, "x" * 3000) for n in range(100, 140)])
os._exit(9)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def filled(path):
    """A closed journal of some pages."""
    path.parent.mkdir()
    with Journal(path, "demo", SystemClock()) as journal:
        journal.append(Kind.BOUND, **BINDING)
        for number in range(12):
            journal.append(Kind.WAITING, reason="r", message="x" * 2000, until=float(number))
    return path


def test_the_connection_waits_for_the_disk_and_keeps_a_rollback_journal(path, monkeypatch):
    made, connect = [], sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: made.append(connect(*a, **k)) or made[-1]
    )
    path.parent.mkdir()

    with Journal(path, "demo", SystemClock()):
        (db,) = made
        found = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "locking_mode", "user_version")
        }

    assert found == {
        "synchronous": 3,  # EXTRA
        "journal_mode": "delete",
        "locking_mode": "normal",
        "user_version": 2,
    }


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to see the system calls")
def test_an_append_returns_after_journal_file_and_folder_are_flushed(path, tmp_path):
    path.parent.mkdir()
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,fsync,fdatasync,?unlink,?unlinkat,write"
    options = ("strace", "-y", "-qq", "-o", str(trace), "-e", calls)

    done = run([*options, sys.executable, "-c", APPENDING, str(path)])

    assert done.returncode == 0, done.stderr
    text = trace.read_text()
    if ".db-journal>" not in text:
        pytest.skip("this strace does not name files")
    _, *appends = re.split(r'write\(1<[^>]*>, "(?:opened|appended)', text)
    assert len(appends) == 3
    for append in appends[:2]:
        steps = [kind for line in append.splitlines() if (kind := _step(line, path))]
        deduplicated = [kind for n, kind in enumerate(steps) if n == 0 or steps[n - 1] != kind]
        told = " ".join(deduplicated)
        # The old pages are safe before the new ones are written; the commit is the removal of
        # the rollback journal, and that is safe before we go on.
        assert re.fullmatch(
            r"(write-journal flush-journal (flush-folder )?)+"
            r"(write-journal flush-journal )?write-database flush-database remove flush-folder",
            told,
        ), told


def _step(line, path):
    names = {f"{path}-journal": "journal", str(path): "database", str(path.parent): "folder"}
    call = line.partition("(")[0]
    if call.startswith("unlink"):
        return "remove" if "-journal" in line else None
    found = re.search(r"\(\d+<([^>]*)>", line)
    name = names.get(found[1]) if found else None
    verb = {"pwrite64": "write", "fsync": "flush", "fdatasync": "flush"}.get(call)
    return f"{verb}-{name}" if name and verb else None


def states_after_a_cut(before, after, rollback, draw):
    """What a power cut may leave of a transaction: (database, rollback journal or None)."""
    for size in {*range(0, len(rollback), 512), len(rollback) - 1}:
        yield before, rollback[:size]  # it was still being written: the database was not touched
        yield before, rollback[:size] + bytes(len(rollback) - size)
    pages = range(0, max(len(before), len(after)), 512)  # sectors, so that pages are torn too
    for _ in range(60):  # it was safe; of the new pages any may have arrived
        content = bytearray(before.ljust(len(after), b"\0"))
        for start in pages:
            if draw.random() < 0.5:
                content[start : start + 512] = after[start : start + 512]
        yield bytes(content), rollback
    yield before, None


@pytest.mark.parametrize("read_only", [False, True])
def test_whatever_a_power_cut_leaves_of_a_transaction_the_events_before_are_there(
    filled, read_only
):
    before = filled.read_bytes()
    with Journal(filled, "demo", SystemClock(), read_only=True) as journal:
        kept = journal.events
    assert run([sys.executable, "-c", TORN, str(filled)]).returncode == 9
    rollback_path = filled.with_name("journal.db-journal")
    after, rollback = filled.read_bytes(), rollback_path.read_bytes()
    assert after != before
    assert len(rollback) > 4096
    states = list(states_after_a_cut(before, after, rollback, random.Random(1)))  # noqa: S311

    for database, left in states:
        filled.write_bytes(database)
        rollback_path.unlink(missing_ok=True)
        if left is not None:
            rollback_path.write_bytes(left)
        with Journal(filled, "demo", SystemClock(), read_only=read_only) as journal:
            assert journal.events == kept

    assert len(states) > 80


def test_a_journal_that_was_never_begun_reads_as_empty(path):
    path.parent.mkdir()
    path.touch()

    with Journal(path, "demo", SystemClock(), read_only=True) as journal:
        assert journal.events == ()

    assert path.read_bytes() == b""


def test_the_command_refuses_a_journal_with_a_damaged_page_and_keeps_it(place):
    code, output = place.finish("tick")
    assert code == 3, output
    journal = place.state_dir / "journal.db"
    content = bytearray(journal.read_bytes())
    content[4096:4608] = b"\xff" * 512
    journal.write_bytes(content)

    for command in ("tick", "run", "status"):
        code, output = place.finish(command)
        assert (code, "Traceback" in output) == (4, False), output
        assert str(journal) in output
        assert "not touched" in output

    assert journal.read_bytes() == content
    (kernel,) = place.local.state()["kernels"]
    assert len(kernel["versions"]) == 1
