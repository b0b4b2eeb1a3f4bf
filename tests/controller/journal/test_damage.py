"""Damage is refused by name and left as it is, and so is what another kchain wrote."""

import hashlib
import json
import sqlite3

import pytest

from orchestrator.errors import JournalError
from orchestrator.machine import Kind


def change(path, statement, *values):
    """Change a journal behind its back."""
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


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
