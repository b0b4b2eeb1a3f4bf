"""A log is followed while it is written, and read whatever it is."""

import json

import pytest

from orchestrator.kaggle.api import parse_log


def test_a_live_log_is_followed_to_its_end(kaggle, answers, asked):
    events = [{"stream_name": "stdout", "time": n, "data": f"line {n}\n"} for n in range(3)]
    lines = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    answers(
        "GetKernelSessionLogsStream",
        200,
        b": comment\n\n" + lines + b"data: END_OF_LOG\n\n",
        {"Content-Type": "text/event-stream"},
    )

    follower = kaggle.follow("kchain-demo", 7)
    followed = list(follower)
    follower.close()

    assert followed == events


def test_what_a_live_log_tells_of_secrets_is_blanked_out(kaggle, answers):
    answers(
        "GetKernelSessionLogsStream",
        200,
        b'data: {"data": "login with hf_' + b"aB3" * 12 + b'"}\n\ndata: 7\n\ndata: END_OF_LOG\n\n',
        {"Content-Type": "text/event-stream"},
    )

    follower = kaggle.follow("kchain-demo", 7)
    followed = list(follower)
    follower.close()

    assert followed == [{"data": "login with [redacted]"}]


def test_a_log_that_breaks_off_or_is_nonsense_simply_ends(kaggle, answers):
    answers(
        "GetKernelSessionLogsStream",
        200,
        b'data: {"data": "one"}\n\ndata: nonsense\n\n',
        {"Content-Type": "text/event-stream"},
    )

    follower = kaggle.follow("kchain-demo", 7)
    followed = list(follower)
    follower.close()

    assert followed == [{"data": "one"}]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", ()),
        ("[]", ()),
        ('[{"data": "x"}]', ({"data": "x"},)),
        ('[{"data": "x"}, 7, null]', ({"data": "x"},)),
        ("plain", ({"stream_name": "stdout", "time": 0.0, "data": "plain"},)),
        ("7", ({"stream_name": "stdout", "time": 0.0, "data": "7"},)),
        ('{"data": "x"}', ({"stream_name": "stdout", "time": 0.0, "data": '{"data": "x"}'},)),
    ],
)
def test_an_ended_sessions_log_is_read_whatever_it_is(text, entries):
    assert parse_log(text) == entries
