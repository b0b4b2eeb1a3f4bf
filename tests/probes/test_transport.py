"""C15 to C24 are contained: requests and answers."""

import random
from datetime import UTC, datetime

import pytest

from orchestrator.config import Settings
from orchestrator.kaggle.port import (
    Gone,
    Refused,
    SessionInfo,
    Trouble,
    Unknown,
    Unreadable,
)
from orchestrator.model import Quota, SessionStatus
from orchestrator.phases.context import Context
from tests.probes.conftest import PUSH, QUOTA
from tests.scripted import Reply

STATUS, QUOTA_CALL = "GetKernelSessionStatus", "GetAcceleratorQuotaStatistics"
HTML = (200, b"<!DOCTYPE html><html>Sign in</html>", {"Content-Type": "text/html"})
JSON = {"Content-Type": "application/json", "Content-Length": 1000}
SLUG, DATASET = "kchain-demo", "kchain-demo-checkpoints"


@pytest.fixture
def reads(kaggle):
    """Every read that the engine makes."""
    return lambda: [
        kaggle.kernel(SLUG, 1),
        kaggle.session(SLUG, 1),
        kaggle.outputs(SLUG, 1),
        kaggle.log(SLUG, 1),
        kaggle.dataset(DATASET),
        kaggle.dataset_files(DATASET, 1),
        kaggle.dataset_file(DATASET, 1, "manifest.json", 1000),
        kaggle.quota(),
        kaggle.identity(),
    ]


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "reply", [Reply(then="silent"), Reply(200, b"{", JSON, then="drip")], ids=["silent", "drip"]
)
def test_c15_a_server_that_never_ends_its_answer_is_given_up(kaggle, on, asked, reply):
    on(STATUS, reply)

    answer = kaggle.session(SLUG, 1)

    assert answer == Unreadable(Trouble.NETWORK, "Kaggle's client gave no answer in time")
    assert len(asked(STATUS)) == 1


@pytest.mark.usefixtures("hurry")
def test_c15_a_push_that_is_never_answered_is_unknown(kaggle, on, asked):
    on("SaveKernel", Reply(then="silent"))

    assert isinstance(kaggle.push(PUSH), Unknown)
    assert len(asked("SaveKernel")) == 1


@pytest.mark.parametrize("body", [{"code": 404}, {"code": "404"}, [], [1]])
def test_c16_what_is_no_answer_is_none(kaggle, server, reads, body):
    server.script.replies.clear()
    server.script.default = Reply(200, body)

    is_list = isinstance(body, list)  # which a file may hold

    assert all(
        isinstance(answer, Unreadable) or (is_list and isinstance(answer, bytes))
        for answer in reads()
    )
    assert isinstance(kaggle.push(PUSH), Unknown)


def test_c17_a_web_page_is_never_an_answer(kaggle, server, reads, uploads, publication):
    server.script.replies.clear()
    server.script.default = Reply(*HTML)
    uploads()

    assert all(isinstance(answer, Unreadable) for answer in reads())
    assert isinstance(kaggle.push(PUSH), Unknown)
    assert isinstance(kaggle.publish_version(publication()), Unknown)


def test_c18_an_odd_version_header_leaves_it_open_what_landed(kaggle, on, asked):
    odd = {"X-Kaggle-APIVersion": "not a version"}
    on("SaveKernel", (200, {"ref": f"/code/local/{SLUG}", "versionNumber": 1}, odd))
    on(STATUS, (200, {"status": "COMPLETE"}, odd))

    assert isinstance(kaggle.push(PUSH), Unknown)
    assert isinstance(kaggle.session(SLUG, 1), Unreadable)
    assert len(asked("SaveKernel")) == 1


@pytest.mark.parametrize("call", ["SaveKernel", "CreateDataset", "CreateDatasetVersion"])
def test_c19_a_mutation_whose_connection_broke_is_sent_once(
    kaggle, on, asked, uploads, publication, call
):
    uploads()
    on(call, Reply(then="reset_first"))
    mutate = {
        "SaveKernel": lambda: kaggle.push(PUSH),
        "CreateDataset": lambda: kaggle.create_dataset(publication()),
        "CreateDatasetVersion": lambda: kaggle.publish_version(publication()),
    }

    assert isinstance(mutate[call](), Unknown)
    assert len(asked(call)) == 1


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "reply",
    [Reply(then="reset_first"), Reply(429, {}, {"Retry-After": "86400"})],
    ids=["reset", "rate"],
)
def test_c19_an_upload_that_cannot_begin_is_asked_for_once_and_waits_for_nothing(
    kaggle, on, asked, publication, reply
):
    on("StartBlobUpload", reply)

    answer = kaggle.publish_version(publication())

    assert isinstance(answer, Refused)
    assert answer.message != "Kaggle's client gave no answer in time"
    assert len(asked("StartBlobUpload")) == 1


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    ("header", "seconds"), [("86400", 900.0), ("inf", None), ("Fri, 01 Jan 2036 00:00:00 GMT", 900)]
)
def test_c20_a_retry_after_is_capped_and_holds_nothing_up(kaggle, on, asked, header, seconds):
    on("SaveKernel", (429, {"code": 429, "message": "Slow down"}, {"Retry-After": header}))

    assert kaggle.push(PUSH) == Refused(Trouble.RATE, "Slow down", seconds)
    assert len(asked("SaveKernel")) == 1


class Standing:
    """A clock that stands still."""

    def now(self):
        return 1_000_000.0


def test_c21_a_poll_has_jitter_and_a_5xx_is_looked_at_again(kaggle, on):
    clock = Standing()
    context = Context(
        settings=Settings(chain={"name": "demo"}, timing={"poll_seconds": 100.0}),
        **dict.fromkeys(("template", "endpoint", "journal", "files")),
        kaggle=kaggle,
        clock=clock,
        rng=random.Random(0),  # noqa: S311 - jitter
    )
    waits = [context.poll() - clock.now() for _ in range(50)]
    on(STATUS, (503,), (200, {"status": "RUNNING"}))

    assert len(set(waits)) == 50
    assert all(90 <= wait <= 110 for wait in waits)
    assert isinstance(kaggle.session(SLUG, 1), Unreadable)
    assert kaggle.session(SLUG, 1) == SessionInfo(SessionStatus.RUNNING, "")


@pytest.mark.parametrize("status", ["", "E", "MELTED", None, 7, [], "__class__"])
def test_c22_a_status_that_is_none_is_unreadable(kaggle, on, status):
    on(STATUS, (200, {"status": status}))
    on("GetDataset", (200, {"currentVersionNumber": 2, "isPrivate": True}))
    on("GetDatasetStatus", (200, {"status": status}))

    assert isinstance(kaggle.session(SLUG, 1), Unreadable)
    assert isinstance(kaggle.dataset(DATASET), Unreadable)


def test_c22_a_status_that_is_missing_is_at_most_not_yet(kaggle, on):
    on(STATUS, (200, {}))
    on("GetDataset", (200, {"currentVersionNumber": 2, "isPrivate": True}))
    on("GetDatasetStatus", (200, {}))

    assert kaggle.session(SLUG, 1) == SessionInfo(SessionStatus.QUEUED, "")
    assert not kaggle.dataset(DATASET).is_ready


@pytest.mark.parametrize("moment", ["2030-01-01T00:00:00Z", "2030-01-01T02:00:00+02:00"])
def test_c23_a_moment_is_the_same_however_it_is_written(kaggle, on, moment):
    on(QUOTA_CALL, (200, {**QUOTA, "quotaRefreshTime": moment}))

    refresh_at = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert kaggle.quota() == Quota(3600.0, 0.0, 108_000.0, refresh_at)


def test_c24_a_bad_credential_and_a_missing_kernel_are_told_apart(kaggle, on):
    for status, expected in (
        (401, Unreadable(Trouble.AUTH, "No.")),
        (403, Gone("No.")),
        (404, Gone("No.")),
    ):
        on(STATUS, (status, {"code": status, "message": "No."}))

        assert kaggle.session(SLUG, 1) == expected
