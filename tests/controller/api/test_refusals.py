"""A refusal did nothing, and what may have landed is no refusal."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from orchestrator.kaggle import api, credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.port import Refused, Trouble, Unknown, Unreadable
from tests.controller.api.calls import KEY, PUSH

# What every refusal becomes


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (400, Trouble.INVALID),
        (401, Trouble.AUTH),
        (403, Trouble.AUTH),
        (404, Trouble.INVALID),
        (409, Trouble.INVALID),
        (412, Trouble.INVALID),
        (413, Trouble.INVALID),
        (429, Trouble.RATE),
    ],
)
def test_a_push_refused_by_status_did_nothing(kaggle, answers, status, trouble):
    answers("SaveKernel", status, {"code": status, "message": "No."})

    assert kaggle.push(PUSH) == Refused(trouble, "No.", None)


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        ("Maximum batch GPU session count of 2 reached.", Trouble.CAPACITY),
        ("Maximum batch CPU session count of 5 reached.", Trouble.CAPACITY),
        ("Maximum weekly GPU quota of 30.00 hours reached.", Trouble.QUOTA),
        ("Notebook not found", Trouble.INVALID),
    ],
)
def test_a_push_refused_with_http_200_did_nothing(kaggle, answers, error, trouble):
    answers("SaveKernel", 200, {"ref": "", "url": "", "versionNumber": 0, "error": error})

    assert kaggle.push(PUSH) == Refused(trouble, error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("86400", 900.0),
        ("1e300", 900.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 2100 23:59:59", 900.0),
        ("Fri, 31 Dec 2100 23:59:59 -0000", 900.0),
        ("Fri, 31 Dec 2100 23:59:59 +99999999999999999999", None),
        ("Fri, 99 Foo 2100 99:99:99 GMT", None),
    ],
)
def test_a_retry_after_is_read_and_capped_and_never_believed_blindly(
    kaggle, answers, header, seconds
):
    answers("SaveKernel", 429, {"code": 429, "message": "Slow down"}, {"Retry-After": header})

    assert kaggle.push(PUSH) == Refused(Trouble.RATE, "Slow down", seconds)


def test_a_retry_after_may_be_a_date(kaggle, answers):
    moment = datetime.now(UTC) + timedelta(seconds=120)
    answers("SaveKernel", 429, b"", {"Retry-After": format_datetime(moment, usegmt=True)})

    answer = kaggle.push(PUSH)

    assert 100 < answer.retry_after_seconds <= 120


def test_a_long_retry_after_delays_nothing_here(kaggle, answers, asked):
    answers("SaveKernel", 429, {"code": 429, "message": "No."}, {"Retry-After": "86400"})
    answers("GetKernelSessionStatus", 429, b"", {"Retry-After": "86400"})

    assert kaggle.push(PUSH).trouble is Trouble.RATE
    assert kaggle.session("kchain-demo", 1).trouble is Trouble.RATE
    assert len(asked("SaveKernel")) == len(asked("GetKernelSessionStatus")) == 1


@pytest.mark.parametrize("verb", ["push", "read", "publish"])
def test_where_nobody_listens_nothing_was_sent(closed_port, publication, verb):
    credential = credentials.from_key("local", KEY, "the test")
    with KaggleApi(f"http://127.0.0.1:{closed_port}", credential) as kaggle:
        calls = {
            "push": lambda: kaggle.push(PUSH),
            "publish": lambda: kaggle.publish_version(publication),
            "read": lambda: kaggle.session("kchain-demo", 1),
        }

        answer = calls[verb]()

    assert isinstance(answer, Unreadable if verb == "read" else Refused)
    assert answer.trouble is Trouble.NETWORK


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_push_that_was_answered_with_a_way_to_nowhere_may_have_landed(
    kaggle, answers, closed_port, status
):
    answers("SaveKernel", status, b"", {"Location": f"http://127.0.0.1:{closed_port}/x"})

    assert isinstance(kaggle.push(PUSH), Unknown)


# Time


def test_a_read_that_hangs_is_unreadable(kaggle, answers, monkeypatch):
    monkeypatch.setattr(api, "READ_SECONDS", 0.3)
    answers("GetKernelSessionStatus", then="silent")

    answer = kaggle.session("kchain-demo", 1)

    assert answer == Unreadable(Trouble.NETWORK, "Kaggle's client gave no answer in time")


def test_a_push_that_hangs_after_it_was_sent_is_unknown(kaggle, answers, asked, monkeypatch):
    kaggle.quota()  # started: the deadline is for the call alone
    monkeypatch.setattr(api, "PUSH_SECONDS", 0.5)
    answers("SaveKernel", then="silent")

    assert isinstance(kaggle.push(PUSH), Unknown)
    assert len(asked("SaveKernel")) == 1


@pytest.mark.usefixtures("uploads")
def test_a_version_that_hangs_before_it_was_sent_is_refused(
    kaggle, answers, asked, publication, monkeypatch
):
    kaggle.quota()
    monkeypatch.setattr(api, "PUSH_SECONDS", 0.5)
    answers("upload", then="silent")

    answer = kaggle.publish_version(publication)

    assert answer == Refused(Trouble.NETWORK, "Kaggle's client gave no answer in time", None)
    assert asked("CreateDatasetVersion") == []
