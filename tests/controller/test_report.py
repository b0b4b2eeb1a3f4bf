"""Rows and summary: what the journal tells about each session."""

import json

import pytest

from orchestrator import fold, report
from orchestrator.machine import Event, Kind, State

SECONDS_APART = 10.0


@pytest.fixture
def journal(binding):
    """Turn pairs of kind and data into events ten seconds apart, after the binding."""

    def write(*sessions):
        pairs = [("bound", binding), *(pair for session in sessions for pair in session)]
        return [
            Event(seq, 1000.0 + SECONDS_APART * seq, Kind(kind), data)
            for seq, (kind, data) in enumerate(pairs, start=1)
        ]

    return write


def test_each_session_is_one_row_in_order(journal, session_events):
    rows = report.rows(journal(session_events(1), session_events(2)))

    assert [(row.session, row.last_step, row.dataset_version) for row in rows] == [
        (1, 10, 1),
        (2, 20, 2),
    ]
    assert [row.kernel_version for row in rows] == [1, 2]
    assert rows[1].checkpoint == "checkpoint_epoch1_step20.pt"
    assert (rows[0].first_loss, rows[0].last_loss, rows[0].val_loss) == (3.0, 2.0, None)


def test_a_journal_that_the_chain_left_behind_keeps_the_rows_it_had(journal, session_events):
    known = journal(session_events(1), session_events(2))
    verified = [event.data for event in known if event.kind is Kind.CHECKPOINT_VERIFIED]
    head = {"checkpoint": verified[1]["checkpoint"] | {"sha256": "9" * 64}, "version": 4}
    found = [("recovered", {"head": head, "heads": 4, "attempt": 1})]

    rows = report.rows(journal(session_events(1), session_events(2), found))

    assert [(row.session, row.dataset_version) for row in rows] == [(1, 1), (2, 2), (4, 4)]
    same = {"head": head | {"checkpoint": verified[1]["checkpoint"]}, "heads": 2, "attempt": 1}
    again = report.rows(journal(session_events(1), session_events(2), [("recovered", same)]))
    assert [(row.session, row.seconds != {}) for row in again] == [(1, True), (2, True)]


def test_a_row_tells_where_its_seconds_went(journal, session_events):
    (row,) = report.rows(journal(session_events()))

    assert row.seconds == {
        "push": 20.0,
        "queue": 10.0,
        "run": 10.0,
        "download": 10.0,
        "publish": 40.0,
        "live": 10.0,
    }
    assert tuple(row.seconds) == report.SPANS


def test_a_session_that_still_runs_has_what_is_known_so_far(journal, session_events):
    (row,) = report.rows(journal(session_events()[:4]))

    assert row.seconds == {"push": 20.0, "queue": 10.0}
    assert (row.last_step, row.dataset_version) == (None, None)


def test_attempts_of_one_session_are_one_row_that_counts_them(journal, session_events):
    lost = [*session_events()[:5], ("fruitless", {"reason": "failed", "message": "it raised"})]
    again = [dict_with_attempt(pair, 2) for pair in session_events(1, version=2)]

    (row,) = report.rows(journal(lost, again))

    assert (row.attempts, row.kernel_version, row.last_step) == (2, 2, 10)
    assert row.seconds["run"] == SECONDS_APART


def dict_with_attempt(pair, attempt):
    kind, data = pair
    return (kind, {**data, "attempt": attempt}) if kind == "push_intent" else pair


def test_the_summary_is_json_and_says_where_the_chain_stands(journal, session_events):
    events = journal(session_events(1), session_events(2)[:4])

    told = report.summary("demo", fold.fold(events), 3, events)

    assert json.loads(json.dumps(told)) == told
    assert (told["chain"], told["phase"]) == ("demo", "live")
    assert (told["sessions_done"], told["sessions_planned"], told["session"]) == (1, 3, 2)
    assert (told["kernel"], told["kernel_version"]) == ("local/kchain-demo", 2)
    assert (told["head"]["step"], told["head"]["dataset_version"]) == (10, 1)
    assert (told["finished"], told["halted"], told["waiting"]) == (None, None, None)
    assert told["last_event_at"] == events[-1].at


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            "finished",
            {"reason": "all 1 sessions are done"},
            {"finished": "all 1 sessions are done", "halted": None, "session": None},
        ),
        (
            "halted",
            {"code": "public", "message": "it is public"},
            {"halted": "public", "halt_message": "it is public", "finished": None},
        ),
        (
            "waiting",
            {"reason": "quota", "message": "no hours left", "until": 5000.0},
            {"waiting": "quota", "waiting_for": "no hours left", "wait_until_at": 5000.0},
        ),
    ],
)
def test_the_summary_tells_why_nothing_happens(journal, session_events, kind, data, expected):
    events = journal(session_events(), [(kind, data)])

    told = report.summary("demo", fold.fold(events), 1, events)

    assert {key: told[key] for key in expected} == expected


def test_a_chain_that_has_not_begun_has_a_summary():
    told = report.summary("demo", State(), 3, [])

    assert (told["phase"], told["kernel"], told["head"], told["rows"]) == (
        "unbound",
        None,
        None,
        [],
    )


def test_a_recovered_chain_has_the_rows_that_kaggle_could_tell(binding, checkpoint, session_events):
    body = {
        "head": {"checkpoint": checkpoint(20).to_body(), "version": 3},
        "heads": 2,
        "attempt": 2,
        "kernel_version": 5,
        "dataset_version": 3,
        "push": {"session": 3, "version": 5, "token": "kc1.t", "time_budget_seconds": 600},
    }
    pairs = [("recovering", binding), ("recovered_live", body), *session_events(3, version=4)[3:]]
    events = [
        Event(seq, 1000.0 + seq, Kind(kind), data) for seq, (kind, data) in enumerate(pairs, 1)
    ]

    second, third = report.rows(events)

    assert (second.session, second.last_step, second.dataset_version) == (2, 20, 3)
    assert (second.kernel_version, second.checkpoint) == (None, "checkpoint_epoch1_step20.pt")
    assert (third.session, third.attempts, third.kernel_version) == (3, 2, 5)
    assert (third.last_step, third.dataset_version) == (30, 4)
    assert third.seconds["run"] == 1.0


def test_a_summary_tells_whether_a_stop_is_asked_for(binding):
    for asked in (True, False):
        body = report.summary("demo", State(), 3, (), is_stop_asked=asked)
        assert body["stop_asked"] is asked


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        (1, "1 of 2 sessions done"),
        (2, "2 of 2 sessions done"),
        (5, "5 sessions done, more than the 2 of the configuration"),
    ],
)
def test_a_chain_that_was_asked_for_more_than_is_configured_is_not_done_of_less(heads, told):
    assert report.progress(heads, 2) == told
