"""C48 to C60 are contained: uploads and publishing."""

import os

import pytest

from orchestrator.kaggle import credentials
from orchestrator.kaggle.port import DatasetInfo, Done, Refused, Trouble, Unknown, Unreadable
from tests.probes.conftest import KEY
from tests.scripted import Reply

DATASET, VERSION = "kchain-demo-checkpoints", "CreateDatasetVersion"
OK = (200, {"status": "Ok"})
NOWHERE = "nonsense://x/upload?upload_id=SECRETUPLOAD"


@pytest.mark.parametrize("reply", [(500,), (404,), (503,), (400, b"<Error/>")])
def test_c48_a_file_that_did_not_arrive_ends_the_publication(
    kaggle, uploads, on, asked, publication, reply
):
    uploads(reply)
    on(VERSION, OK)

    answer = kaggle.publish_version(publication())

    assert isinstance(answer, Refused)
    assert answer.trouble is Trouble.NETWORK
    assert asked(VERSION) == []


def publish_twice(kaggle, uploads, on, publication):
    """Publish two files of one name, size and time; the first one breaks off half way."""
    for content, reply in ((b"A" * 100, (500,)), (b"B" * 100, (200,))):
        request = publication(**{"a.pt": content})
        os.utime(request.folder / "a.pt", (1_700_000_000, 1_700_000_000))
        uploads(reply)
        on(VERSION, OK)
        answer = kaggle.publish_version(request)
    return answer


def test_c49_an_upload_that_broke_off_is_not_gone_on_with(
    kaggle, server, uploads, on, asked, publication
):
    assert publish_twice(kaggle, uploads, on, publication) == Done(None)
    assert len(asked("StartBlobUpload")) == 2
    assert server.script.asked("upload")[-1]["body"] == b"B" * 100


def test_c50_no_other_user_can_plant_an_upload_record(start_child, uploads, publication):
    uploads((500,))
    child = start_child(credentials.from_key("local", KEY, "t"))
    request = publication()
    args = {"dataset": DATASET, "title": DATASET, "notes": "", "files": list(request.files)}

    answer = child.call("publish_version", {**args, "folder": str(request.folder)}, 30)

    assert answer.error is not None
    assert not answer.sent
    assert child._home.stat().st_mode & 0o077 == 0
    assert list((child._home / "tmp").rglob("*.json")) == []


def test_c51_nothing_is_taken_up_again_though_it_cannot_be_switched_off(
    kaggle, uploads, on, asked, publication
):
    assert publish_twice(kaggle, uploads, on, publication) == Done(None)
    assert [body["contentLength"] for body in asked("StartBlobUpload")] == [100, 100]


def test_c52_a_printed_url_is_redacted(start_child, uploads, publication):
    uploads(url=NOWHERE)
    child = start_child(credentials.from_key("local", KEY, "t"))
    request = publication()
    args = {"dataset": DATASET, "title": DATASET, "notes": "", "files": list(request.files)}

    answer = child.call("publish_version", {**args, "folder": str(request.folder)}, 30)
    child.close()

    assert not answer.sent
    assert "upload_id=[redacted]" in child.captured
    assert "SECRETUPLOAD" not in child.captured + repr(answer)


def test_c53_attempts_without_a_pause_are_one_attempt_of_ours(kaggle, uploads, asked, publication):
    uploads(url=NOWHERE)

    answer = kaggle.publish_version(publication())

    assert isinstance(answer, Refused)
    assert len(asked("StartBlobUpload")) == 1
    assert asked(VERSION) == []


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "reply", [Reply(503, b"", {"Retry-After": "7200"}), Reply(then="silent")], ids=["wait", "hang"]
)
def test_c54_an_upload_that_stands_still_is_given_up(
    kaggle, server, uploads, asked, publication, reply
):
    uploads(reply)

    answer = kaggle.publish_version(publication())

    assert answer == Refused(Trouble.NETWORK, "Kaggle's client gave no answer in time")
    assert server.script.asked("upload")
    assert asked(VERSION) == []


def test_c55_exactly_the_files_that_are_named_are_uploaded(kaggle, uploads, on, asked, publication):
    uploads()
    on(VERSION, OK)
    names = ["kernel-metadata.json", "dataset-metadata.json", "model.pt", "dataset-cover-image.png"]
    request = publication(**{name: b"1" for name in names})
    (request.folder / "not-named").write_bytes(b"2")

    assert kaggle.publish_version(request) == Done(None)
    assert [body["name"] for body in asked("StartBlobUpload")] == names
    assert len(asked(VERSION)[0]["body"]["files"]) == len(names)


def test_c57_a_version_whose_answer_was_lost_is_asked_for_once(
    kaggle, uploads, on, asked, publication
):
    uploads()
    on(VERSION, Reply(then="reset_first"), Reply(*OK))

    assert isinstance(kaggle.publish_version(publication()), Unknown)
    assert len(asked(VERSION)) == 1


def test_c58_the_number_is_read_before_ready_so_that_ready_is_not_about_an_earlier_one(
    kaggle, server, on
):
    on("GetDataset", (200, {"currentVersionNumber": 2, "isPrivate": True}))
    on("GetDatasetStatus", (200, {"status": "READY"}))

    info = kaggle.dataset(DATASET)

    assert info == DatasetInfo(2, True, True, False, ())
    assert [request["name"] for request in server.script.requests][-2:] == [
        "GetDataset",
        "GetDatasetStatus",
    ]


def test_c60_files_are_listed_to_the_last_page_and_an_error_in_the_list_is_one(kaggle, on):
    pages = [{"datasetFiles": [{"name": name, "totalBytes": 1}]} for name in "ab"]
    on("ListDatasetFiles", (200, {**pages[0], "nextPageToken": "2"}), (200, pages[1]))
    assert kaggle.dataset_files(DATASET, 1) == {"a": 1, "b": 1}

    on("ListDatasetFiles", (200, {**pages[0], "errorMessage": "Not now"}))
    assert kaggle.dataset_files(DATASET, 1) == Unreadable(Trouble.ODD, "Not now")
