"""The journal: durable before it returns, one writer, and damage is refused, not repaired."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from orchestrator.errors import (
    ConfigError,
    IllegalTransition,
    JournalConflict,
    JournalError,
    KchainError,
    NotNow,
)
from orchestrator.journal import Journal
from orchestrator.machine import Kind, State

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def open_journal(path, clock):
    """Open the journal of chain `demo`; all are closed in the end."""
    opened = []

    def open_it(chain="demo", path=path, **options):
        journal = Journal(path, chain, clock, **options)
        opened.append(journal)
        return journal

    yield open_it
    for journal in opened:
        journal.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A journal that is written once: every event waits for the disk."""
    return tmp_path_factory.mktemp("whole") / "journal.db"


@pytest.fixture
def filled(path, whole, open_journal, binding, session_events):
    """A closed journal with one whole session in it."""
    if not whole.exists():
        journal = open_journal(path=whole)
        for kind, data in [("bound", binding), *session_events()]:
            journal.append(Kind(kind), **data)
        journal.close()
    shutil.copy(whole, path)
    return path


def change(path, statement, *values):
    """Change a journal behind its back."""
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


# What is written is what is read


def test_opened_again_a_journal_folds_to_the_state_it_had(open_journal, filled):
    first = open_journal()
    first.append(Kind.WAITING, reason="quota", message="für später, 待つ", until=2e6)

    second = open_journal()

    assert second.state == first.state
    assert second.events == first.events
    assert second.state.heads == 1


def test_an_append_tells_its_listener_after_it_is_durable(path, open_journal, binding):
    heard = []

    def listen(event, state):
        db = sqlite3.connect(path)
        heard.append((event.kind, state.seq, db.execute("SELECT max(seq) FROM events").fetchone()))
        db.close()

    open_journal(on_event=listen).append(Kind.BOUND, **binding)

    assert heard == [(Kind.BOUND, 1, (1,))]


def test_an_illegal_event_is_not_written(open_journal):
    journal = open_journal()

    with pytest.raises(IllegalTransition):
        journal.append(Kind.HEAD, version=1)

    assert journal.events == ()
    assert open_journal().state == State()


def test_a_file_belongs_to_one_chain(open_journal, filled):
    with pytest.raises(JournalError, match="it holds an event of chain 'demo'"):
        open_journal("other")


def test_an_event_carries_boot_id_and_monotonic_time(path, filled):
    db = sqlite3.connect(path)
    (body,) = db.execute("SELECT body FROM events WHERE seq = 1").fetchone()
    db.close()

    assert json.loads(body)["monotonic"] > 0
    assert json.loads(body)["boot_id"]


@pytest.mark.parametrize("name", ["50% done", "why?", "a#b", "ünï cödé", "plain"])
def test_any_folder_name_will_do(tmp_path, open_journal, binding, name):
    path = tmp_path / name / "journal.db"
    path.parent.mkdir()

    open_journal(path=path).append(Kind.BOUND, **binding)

    assert [entry.name for entry in path.parent.iterdir()] == ["journal.db"]
    assert open_journal(path=path).state.seq == 1


def test_commits_wait_for_the_disk(open_journal, monkeypatch):
    connections = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: connections.append(connect(*a, **k)) or connections[-1]
    )

    open_journal()

    (db,) = connections
    assert db.execute("PRAGMA synchronous").fetchone()[0] >= 2  # FULL, or more than that
    assert db.execute("PRAGMA user_version").fetchone() == (2,)


# Two controllers


def test_of_two_controllers_the_second_to_append_is_refused(open_journal, filled):
    first, second = open_journal(), open_journal()
    first.append(Kind.FINISHED, reason="done")
    before = second.state

    with pytest.raises(JournalConflict, match="another controller is driving chain 'demo'"):
        second.append(Kind.FINISHED, reason="done")

    assert second.state == before
    assert open_journal().state == first.state


def test_a_journal_that_stays_locked_means_try_later(open_journal, filled, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    journal = open_journal()
    other = connect(filled)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(NotNow, match="end the other program"):
        journal.append(Kind.FINISHED, reason="done")
    with pytest.raises(NotNow, match="end the other program"):
        open_journal()

    other.close()
    assert journal.append(Kind.FINISHED, reason="done").finish_reason == "done"


def test_controllers_that_start_at_once_all_find_a_whole_journal(tmp_path, clock):
    failures = []

    def start(path, barrier):
        barrier.wait(30)
        try:
            Journal(path, "demo", clock).close()
        except KchainError as error:
            failures.append(error)

    for turn in range(20):
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=start, args=(tmp_path / f"{turn}.db", barrier))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert failures == []


# Damage


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:50])


def fill_with_garbage(path):
    path.write_bytes(b"\x00garbage" * 600)


def tear_a_page(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 512 * 512
    content[middle : middle + 512] = b"\xff" * 512
    path.write_bytes(content)


def put_another_database_there(path):
    path.unlink()
    change(path, "CREATE TABLE songs (name TEXT)")


def put_another_database_of_the_same_format_there(path):
    put_another_database_there(path)
    change(path, "PRAGMA user_version = 2")


def change_a_body(path):
    change(path, "UPDATE events SET body = replace(body, 'demo', 'dema') WHERE seq = 1")


def change_a_checksum(path):
    change(path, "UPDATE events SET body = json_set(body, '$.sha256', '00') WHERE seq = 3")


def empty_a_body(path):
    change(path, "UPDATE events SET body = '{}' WHERE seq = 3")


def break_a_body(path):
    change(path, "UPDATE events SET body = substr(body, 1, 20) WHERE seq = 3")


def turn_back_a_time(path):
    change(path, "UPDATE events SET at = at - 3600 WHERE seq = 3")


def spoil_a_time(path):
    change(path, "UPDATE events SET at = 'noon' WHERE seq = 3")


def swap_two_kinds(path):
    change(path, "UPDATE events SET kind = 'publish_sent' WHERE kind = 'push_sent'")


def change_a_boot(path):
    change(path, "UPDATE events SET body = json_set(body, '$.boot_id', 'other') WHERE seq = 3")


def change_a_steady_time(path):
    change(path, "UPDATE events SET body = json_set(body, '$.monotonic', 1000001.0) WHERE seq = 3")


def add_to_a_body(path):
    change(path, "UPDATE events SET body = json_set(body, '$.more', 1) WHERE seq = 3")


def nest_a_body(path):
    change(path, "UPDATE events SET body = replace(printf('%.100000c', 'x'), 'x', '[')")


def spoil_a_text(path):
    change(path, "UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 3")


def spoil_a_kind(path):
    change(path, "UPDATE events SET kind = CAST(x'ff' AS TEXT) WHERE seq = 3")


def turn_a_kind_into_bytes(path):
    change(path, "UPDATE events SET kind = CAST(kind AS BLOB) WHERE seq = 3")


def change_the_chain_of_the_last_event(path):
    change(path, "UPDATE events SET chain = 'demn' WHERE seq = 12")


def spoil_the_chain_of_the_last_event(path):
    change(path, "UPDATE events SET chain = CAST(x'ff' AS TEXT) WHERE seq = 12")


def give_it_no_format(path):
    change(path, "PRAGMA user_version = 0")


def lose_the_table_and_the_format(path):
    change(path, "DROP TABLE events")
    give_it_no_format(path)


def put_another_table_there(path):
    change(path, "ALTER TABLE events RENAME TO old")
    change(path, "CREATE TABLE events AS SELECT * FROM old")
    change(path, "DROP TABLE old")


def lose_the_first_event(path):
    change(path, "DELETE FROM events WHERE seq = 1")


def lose_an_event(path):
    change(path, "DELETE FROM events WHERE seq = 5")


DAMAGES = [
    cut_in_half,
    cut_in_the_header,
    fill_with_garbage,
    tear_a_page,
    put_another_database_there,
    put_another_database_of_the_same_format_there,
    change_a_body,
    change_a_checksum,
    empty_a_body,
    break_a_body,
    turn_back_a_time,
    spoil_a_time,
    swap_two_kinds,
    change_a_boot,
    change_a_steady_time,
    add_to_a_body,
    nest_a_body,
    spoil_a_text,
    spoil_a_kind,
    turn_a_kind_into_bytes,
    change_the_chain_of_the_last_event,
    spoil_the_chain_of_the_last_event,
    give_it_no_format,
    lose_the_table_and_the_format,
    put_another_table_there,
    lose_the_first_event,
    lose_an_event,
]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_journal_is_refused_by_name_and_left_alone(
    open_journal, filled, damage, read_only
):
    damage(filled)
    before = filled.read_bytes()

    with pytest.raises(JournalError) as caught:
        open_journal(read_only=read_only)

    assert str(filled) in str(caught.value)
    assert "not touched" in str(caught.value)
    assert filled.read_bytes() == before


def teleport(path):
    """Write the last event as a kchain does that knows one more kind."""
    db = sqlite3.connect(path)
    *columns, body = db.execute("SELECT * FROM events WHERE seq = 12").fetchone()
    db.close()
    content = json.loads(body)
    del content["sha256"]
    columns[3] = "teleported"
    text = json.dumps([*columns, content], sort_keys=True)
    content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    change(
        path, "UPDATE events SET kind = ?, body = ? WHERE seq = 12", columns[3], json.dumps(content)
    )


def set_a_newer_format(path):
    change(path, "PRAGMA user_version = 3")


def set_an_older_format(path):
    change(path, "PRAGMA user_version = 1")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (set_a_newer_format, ("newer kchain", "upgrade kchain")),
        (set_an_older_format, ("older kchain", "end the chain with that kchain")),
        (teleport, ("'teleported'", "upgrade kchain")),
    ],
)
def test_what_another_kchain_wrote_is_refused_by_name_and_left_alone(
    open_journal, filled, edit, said
):
    edit(filled)
    before = filled.read_bytes()

    with pytest.raises(JournalError) as caught:
        open_journal()

    for part in (str(filled), *said, "not touched", "kchain recover"):
        assert part in str(caught.value)
    assert filled.read_bytes() == before


def test_damage_under_an_open_journal_is_told_as_damage(open_journal, filled):
    journal = open_journal()
    fill_with_garbage(filled)

    with pytest.raises(JournalError, match="damaged"):
        journal.append(Kind.FINISHED, reason="done")


def test_events_that_do_not_follow_from_each_other_are_damage(open_journal, filled, binding):
    finished = open_journal(path=filled.with_name("finished.db"))
    finished.append(Kind.BOUND, **binding)
    finished.append(Kind.FINISHED, reason="done")
    db = sqlite3.connect(filled)
    db.execute("ATTACH ? AS other", (str(finished.path),))
    with db:
        db.execute("REPLACE INTO events SELECT * FROM other.events")
    db.close()

    with pytest.raises(JournalError, match="event 3: push_sent cannot happen in phase done"):
        open_journal()


def test_the_events_of_one_chain_are_not_another_ones(open_journal, filled):
    change(filled, "UPDATE events SET chain = 'other'")

    with pytest.raises(JournalError, match="event 1 does not match its checksum"):
        open_journal("other")


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

    done = run_python(code, path)

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
        done = run_python(DYING, path, statements)
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
            env=ENVIRONMENT,
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
    assert run_python(TORN, filled).returncode == 9
    assert filled.with_name("journal.db-journal").exists()

    journal = open_journal(read_only=read_only)

    assert (journal.state.seq, journal.state.heads) == (12, 1)


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        check=False,
    )
