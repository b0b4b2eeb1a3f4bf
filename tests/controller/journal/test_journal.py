"""The journal: durable before it returns, and one writer."""

import json
import sqlite3
import threading

import pytest

from orchestrator.errors import (
    IllegalTransition,
    JournalConflict,
    JournalError,
    KchainError,
    NotNow,
)
from orchestrator.journal import Journal
from orchestrator.machine import Kind, State

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
