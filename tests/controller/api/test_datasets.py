"""Datasets and their files are read as they are, or not at all."""

import pytest

from orchestrator.kaggle.port import DatasetInfo, DatasetVersion, OutputFile, Trouble, Unreadable
from tests.controller.api.calls import HTML


def test_a_dataset_is_read_with_its_versions(kaggle, answers):
    answers("GetDatasetStatus", 200, {"status": "READY"})
    versions = [{"versionNumber": 2, "versionNotes": "two"}, {"versionNumber": 1}]
    answers("GetDataset", 200, {"currentVersionNumber": 2, "isPrivate": True, "versions": versions})

    assert kaggle.dataset("kchain-demo-checkpoints") == DatasetInfo(
        current_version=2,
        is_private=True,
        is_ready=True,
        has_failed=False,
        versions=(DatasetVersion(2, "two"), DatasetVersion(1, "")),
    )


@pytest.mark.parametrize(
    ("status", "is_ready", "has_failed"),
    [
        ({"status": "READY"}, True, False),
        ({"status": "ready"}, True, False),
        ({"status": "FAILED"}, False, True),
        ({"status": "BLOBS_RECEIVED"}, False, False),
        ({}, False, False),
    ],
)
def test_a_dataset_is_ready_only_when_it_says_so(kaggle, answers, status, is_ready, has_failed):
    answers("GetDatasetStatus", 200, status)
    answers("GetDataset", 200, {"currentVersionNumber": 2, "isPrivate": True})

    info = kaggle.dataset("kchain-demo-checkpoints")

    assert (info.is_ready, info.has_failed) == (is_ready, has_failed)


@pytest.mark.parametrize("body", [{}, [], {"isPrivate": True}, {"currentVersionNumber": 0}])
def test_a_dataset_without_version_is_unreadable(kaggle, answers, body):
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers("GetDataset", 200, body)

    assert isinstance(kaggle.dataset("kchain-demo-checkpoints"), Unreadable)


def test_a_dataset_that_does_not_say_it_is_private_is_public(kaggle, answers):
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers("GetDataset", 200, {"currentVersionNumber": 1})

    info = kaggle.dataset("kchain-demo-checkpoints")

    assert isinstance(info, Unreadable) or info.is_private is False


def test_a_datasets_files_are_read_to_the_last_page(kaggle, scripted, reply, asked):
    scripted.script.on(
        "ListDatasetFiles",
        reply(200, {"datasetFiles": [{"name": "a", "totalBytes": 3}], "nextPageToken": "2"}),
        reply(200, {"datasetFiles": [{"name": "b"}]}),
    )

    assert kaggle.dataset_files("kchain-demo-checkpoints", 5) == {"a": 3, "b": 0}
    assert {body["datasetVersionNumber"] for body in asked("ListDatasetFiles")} == {5}


def test_a_list_of_files_that_carries_an_error_is_unreadable(kaggle, answers):
    answers("ListDatasetFiles", 200, {"errorMessage": "Not now", "datasetFiles": []})

    answer = kaggle.dataset_files("kchain-demo-checkpoints", 5)

    assert isinstance(answer, Unreadable)
    assert answer.message == "Not now"


def test_one_file_of_a_dataset_is_read_byte_for_byte(kaggle, answers, scripted, asked):
    content = bytes(range(256))
    answers("DownloadDataset", 302, b"", {"Location": f"{scripted.url}/storage/raw"})
    answers("raw", 200, content)

    assert kaggle.dataset_file("kchain-demo-checkpoints", 5, "manifest.json", 256) == content
    (body,) = asked("DownloadDataset")
    assert (body["datasetVersionNumber"], body["fileName"]) == (5, "manifest.json")


def test_where_a_file_of_a_dataset_can_be_downloaded_is_its_redirection(
    kaggle, answers, scripted, asked
):
    signed = f"{scripted.url}/storage/raw?signature=1"
    answers("DownloadDataset", 302, b"", {"Location": signed})
    answers("raw", 200, b"x" * 300_000)

    answer = kaggle.dataset_address("kchain-demo-checkpoints", 5, "a.pt")

    assert answer == OutputFile("a.pt", signed)
    (body,) = asked("DownloadDataset")
    assert (body["datasetVersionNumber"], body["fileName"]) == (5, "a.pt")


def test_a_download_that_is_not_redirected_has_no_address(kaggle, answers):
    answers("DownloadDataset", 200, b"content")

    answer = kaggle.dataset_address("kchain-demo-checkpoints", 5, "a.pt")

    assert isinstance(answer, Unreadable)
    assert "not redirected" in answer.message


def test_a_file_of_a_dataset_that_is_too_large_is_unreadable(kaggle, answers):
    answers("DownloadDataset", 200, b"x" * 300_000)

    answer = kaggle.dataset_file("kchain-demo-checkpoints", 5, "manifest.json", 1000)

    assert isinstance(answer, Unreadable)


@pytest.mark.parametrize(
    "args", [(200, HTML, {"Content-Type": "text/html; charset=utf-8"}), (302, b""), (204, b"")]
)
def test_a_web_page_is_no_file_of_a_dataset(kaggle, answers, args):
    answers("DownloadDataset", *args)

    answer = kaggle.dataset_file("kchain-demo-checkpoints", 5, "manifest.json", 1000)

    assert answer == Unreadable(Trouble.ODD, "a web page instead of manifest.json")
