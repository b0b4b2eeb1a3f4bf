"""Kernels, sessions, quota and identity are read as they are, or not at all."""

import pytest

from orchestrator.kaggle.port import (
    DatasetInfo,
    Gone,
    KernelInfo,
    OutputFile,
    SessionInfo,
    Trouble,
    Unreadable,
)
from orchestrator.model import Quota, SessionStatus
from tests.controller.api.calls import READS


def test_a_kernel_is_read_by_version(kaggle, answers, asked):
    metadata = {"currentVersionNumber": 7, "isPrivate": True}
    answers("GetKernel", 200, {"metadata": metadata, "blob": {"source": "text"}})

    assert kaggle.kernel("kchain-demo", 3) == KernelInfo(7, "text", is_private=True)
    assert kaggle.kernel("kchain-demo") == KernelInfo(7, "text", is_private=True)
    first, second = asked("GetKernel")
    assert first == {"userName": "local", "kernelSlug": "kchain-demo", "versionLabel": "v3"}
    assert "versionLabel" not in second


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}},
        {"metadata": {"isPrivate": True}, "blob": {"source": "text"}},
        {"metadata": {"currentVersionNumber": 7, "isPrivate": True}},
        {"metadata": {"currentVersionNumber": 7}, "blob": {}},
        {"metadata": {"currentVersionNumber": 7}, "blob": {"source": ""}},
    ],
)
def test_a_kernel_without_version_or_source_is_unreadable(kaggle, answers, body):
    # Absent fields are the SDK's defaults; version 0 would mean that a push never landed.
    answers("GetKernel", 200, body)

    assert isinstance(kaggle.kernel("kchain-demo"), Unreadable)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, SessionStatus.QUEUED),
        ({"status": "QUEUED"}, SessionStatus.QUEUED),
        ({"status": "RUNNING"}, SessionStatus.RUNNING),
        ({"status": "running"}, SessionStatus.RUNNING),
        ({"status": "COMPLETE"}, SessionStatus.COMPLETE),
        ({"status": "ERROR"}, SessionStatus.ERROR),
        ({"status": "CANCEL_REQUESTED"}, SessionStatus.CANCEL_REQUESTED),
        ({"status": "CANCEL_ACKNOWLEDGED"}, SessionStatus.CANCEL_ACKNOWLEDGED),
        ({"status": "cancelAcknowledged"}, SessionStatus.CANCEL_ACKNOWLEDGED),
        ({"status": "NEW_SCRIPT"}, SessionStatus.NEW_SCRIPT),
    ],
)
def test_a_status_is_read_in_each_of_its_spellings(kaggle, answers, body, status):
    answers("GetKernelSessionStatus", 200, {**body, "failureMessage": "why"})

    assert kaggle.session("kchain-demo", 1) == SessionInfo(status, "why")


@pytest.mark.parametrize("status", ["MELTED", "", "E", "S", "T", "__class__", "name", None, 7, []])
def test_a_status_that_is_no_status_is_unreadable(kaggle, answers, status):
    answers("GetKernelSessionStatus", 200, {"status": status})

    assert isinstance(kaggle.session("kchain-demo", 1), Unreadable)


def test_outputs_are_read_to_the_last_page(kaggle, answers, scripted, reply, asked):
    scripted.script.on(
        "ListKernelSessionOutput",
        reply(200, {"files": [{"url": "u1", "fileName": "a/b"}], "nextPageToken": "p2"}),
        reply(200, {"files": [{"url": "u2", "fileName": "c"}]}),
    )

    assert kaggle.outputs("kchain-demo", 4) == (OutputFile("a/b", "u1"), OutputFile("c", "u2"))
    assert [body.get("pageToken", "") for body in asked("ListKernelSessionOutput")] == ["", "p2"]
    assert {body["versionLabel"] for body in asked("ListKernelSessionOutput")} == {"v4"}


def test_an_error_on_a_later_page_is_no_shorter_list(kaggle, scripted, reply):
    scripted.script.on(
        "ListKernelSessionOutput",
        reply(200, {"files": [{"url": "u1", "fileName": "a"}], "nextPageToken": "p2"}),
        reply(500, {"code": 500, "message": "Internal"}),
    )

    assert isinstance(kaggle.outputs("kchain-demo", 4), Unreadable)


def test_pages_without_end_are_given_up(kaggle, answers):
    answers("ListKernelSessionOutput", 200, {"files": [], "nextPageToken": "again"})
    answers("ListDatasetFiles", 200, {"datasetFiles": [], "nextPageToken": "again"})

    assert isinstance(kaggle.outputs("kchain-demo", 4), Unreadable)
    assert isinstance(kaggle.dataset_files("kchain-demo-checkpoints", 1), Unreadable)


@pytest.mark.parametrize("ref", ["somebody/kchain-demo", "local/kchain-demo-2", "another"])
def test_an_answer_about_something_else_is_not_taken_for_ours(kaggle, answers, ref):
    facts = {"currentVersionNumber": 2, "isPrivate": True, "ref": ref}
    answers("GetKernel", 200, {"metadata": facts, "blob": {"source": "text"}})
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers("GetDataset", 200, facts)

    for answer in (kaggle.kernel("kchain-demo"), kaggle.dataset("kchain-demo")):
        assert isinstance(answer, Unreadable)
        assert answer.trouble is Trouble.ODD
        assert f"asked for local/kchain-demo, the answer is about {ref}" in answer.message


@pytest.mark.parametrize(
    "ref", ["local/kchain-demo", "Local/kchain-demo", "/code/local/kchain-demo"]
)
def test_an_answer_about_ours_is_taken_however_it_is_spelt(kaggle, answers, ref):
    facts = {"currentVersionNumber": 2, "isPrivate": True, "ref": ref}
    answers("GetKernel", 200, {"metadata": facts, "blob": {"source": "text"}})
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers("GetDataset", 200, facts)

    assert isinstance(kaggle.kernel("kchain-demo"), KernelInfo)
    assert isinstance(kaggle.dataset("kchain-demo"), DatasetInfo)


def test_a_missing_kernel_is_gone_only_while_the_credential_is_good(kaggle, answers):
    denied = {"code": 403, "message": "Permission 'kernels.get' was denied"}
    answers("GetKernel", 403, denied)
    assert kaggle.kernel("kchain-demo") == Gone(denied["message"])

    answers("GetAcceleratorQuotaStatistics", 401, {"code": 401, "message": "Unauthenticated"})
    assert kaggle.kernel("kchain-demo") == Unreadable(Trouble.AUTH, denied["message"])


@pytest.mark.parametrize("name", ["kernel", "session", "outputs", "dataset", "dataset files"])
def test_what_does_not_exist_is_gone(kaggle, answers, name):
    method, read = READS[name]
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers(method, 404, {"code": 404, "message": "Not found"})

    assert read(kaggle) == Gone("Not found")


def test_a_credential_that_is_revoked_is_never_taken_for_absence(kaggle, answers):
    unauthorised = (401, {"code": 401, "message": "Unauthenticated"})
    for method, read in READS.values():
        answers("GetDatasetStatus", 200, {"status": "READY"})
        answers(method, *unauthorised)

        assert read(kaggle) == Unreadable(Trouble.AUTH, "Unauthenticated")


def test_the_quota_is_read_in_seconds(kaggle, answers):
    answers(
        "GetAcceleratorQuotaStatistics",
        200,
        {
            "quotaRefreshTime": "1970-01-02T00:00:00Z",
            "gpuQuota": {
                "timeUsed": "90000.5s",
                "timeReserved": "60s",
                "totalTimeAllowed": "108000s",
            },
            "tpuQuota": {"totalTimeAllowed": "72000s"},
        },
    )

    assert kaggle.quota() == Quota(90000.5, 60.0, 108000.0, 86400.0)


def test_the_identity_is_proven_by_a_call(kaggle, answers):
    assert kaggle.identity() == "local"

    answers("GetAcceleratorQuotaStatistics", 401, {"code": 401, "message": "Unauthenticated"})
    assert kaggle.identity() == Unreadable(Trouble.AUTH, "Unauthenticated")
