"""What a publication uploads and sends, and how it can end."""

import json
import os

import pytest

from orchestrator.kaggle.port import Done, Refused, Trouble, Unknown
from tests.controller.api.calls import HTML

FULL = "The dataset exceeds your remaining private storage quota."


@pytest.mark.usefixtures("uploads")
def test_a_version_that_landed_is_done(kaggle, answers, asked, scripted, publication):
    answers("CreateDatasetVersion", 200, {"status": "Ok", "ref": "local/x"})

    assert kaggle.publish_version(publication) == Done(None)
    (body,) = asked("CreateDatasetVersion")
    assert (body["ownerSlug"], body["datasetSlug"]) == ("local", "kchain-demo-checkpoints")
    assert body["body"]["versionNotes"] == "kchain demo session 1"
    assert body["body"].get("deleteOldVersions", False) is False
    assert [file["token"] for file in body["body"]["files"]] == ["blob", "blob"]
    assert [request["body"] for request in scripted.script.asked("upload")] == [
        b"a.pt",
        b"manifest.json",
    ]


@pytest.mark.usefixtures("uploads")
def test_a_new_dataset_is_private(kaggle, answers, asked, publication):
    answers("CreateDataset", 200, {"status": "ok", "ref": "local/x"})

    assert kaggle.create_dataset(publication) == Done(None)
    (body,) = asked("CreateDataset")
    assert body["isPrivate"] is True
    assert (body["ownerSlug"], body["slug"]) == ("local", "kchain-demo-checkpoints")


@pytest.mark.usefixtures("uploads")
def test_the_same_files_are_uploaded_anew_each_time(kaggle, answers, scripted, publication):
    answers("CreateDatasetVersion", then="reset_first")
    kaggle.publish_version(publication)
    first = len(scripted.script.asked("upload"))

    kaggle.publish_version(publication)

    assert first == 2
    assert len(scripted.script.asked("upload")) == 4


@pytest.mark.usefixtures("uploads")
def test_an_upload_that_broke_off_is_not_continued_with_another_files_bytes(
    kaggle, answers, scripted, publication, reply
):
    path = publication.folder / "a.pt"
    for content, replies in ((b"A" * 10, [reply(500)]), (b"B" * 10, [reply(200)])):
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        scripted.script.on("upload", *replies)
        answers("CreateDatasetVersion", 200, {"status": "Ok"})
        kaggle.publish_version(publication)

    names = [json.loads(r["body"])["name"] for r in scripted.script.asked("StartBlobUpload")]
    assert names == ["a.pt", "a.pt", "manifest.json"]
    assert scripted.script.asked("upload")[1]["body"] == b"B" * 10


@pytest.mark.usefixtures("uploads")
@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_file_that_does_not_arrive_ends_the_publication_before_it_is_sent(
    kaggle, answers, asked, publication, status
):
    answers("upload", status, b"<Error/>")
    answers("CreateDatasetVersion", 200, {"status": "Ok"})

    answer = kaggle.publish_version(publication)

    assert answer == Refused(Trouble.NETWORK, "the upload of a.pt did not arrive", None)
    assert asked("CreateDatasetVersion") == []


@pytest.mark.parametrize(
    ("args", "trouble"),
    [
        ((500, {"code": 500, "message": "Internal"}), Trouble.NETWORK),
        ((429, {"code": 429, "message": "Slow down"}), Trouble.RATE),
        ((401, {"code": 401, "message": "Unauthenticated"}), Trouble.AUTH),
        ((200, HTML), Trouble.NETWORK),
        ((200, {}), Trouble.NETWORK),
    ],
)
def test_an_upload_that_cannot_begin_ends_the_publication_before_it_is_sent(
    kaggle, answers, asked, publication, args, trouble
):
    answers("StartBlobUpload", *args)

    answer = kaggle.publish_version(publication)

    assert isinstance(answer, Refused)
    assert answer.trouble is trouble
    assert asked("CreateDatasetVersion") == []


@pytest.mark.usefixtures("uploads")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((200, {"status": "error", "error": "No."}), Refused(Trouble.INVALID, "No.")),
        ((200, {"status": "error", "error": FULL}), Refused(Trouble.QUOTA, FULL)),
        ((403, {"code": 403, "message": "Processing"}), Refused(Trouble.BUSY, "Processing")),
        ((400, {"code": 400, "message": "No."}), Refused(Trouble.INVALID, "No.")),
        ((200, {"status": "queued"}), Unknown),
        ((200, {}), Unknown),
        ((200, []), Unknown),
    ],
)
def test_a_version_that_did_not_land_is_told_apart(kaggle, answers, publication, args, expected):
    answers("CreateDatasetVersion", *args)

    answer = kaggle.publish_version(publication)

    assert answer == expected or (expected is Unknown and isinstance(answer, Unknown))
