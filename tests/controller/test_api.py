"""Every way an answer can go wrong becomes one of the port's outcomes, and nothing raises."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from orchestrator.kaggle import api, credentials
from orchestrator.kaggle.api import KaggleApi, parse_log
from orchestrator.kaggle.port import (
    DatasetInfo,
    DatasetVersion,
    Done,
    Gone,
    KernelInfo,
    LandedBad,
    OutputFile,
    PublishRequest,
    Pushed,
    PushRequest,
    Refused,
    SessionInfo,
    Trouble,
    Unknown,
    Unreadable,
)
from orchestrator.model import Quota, SessionStatus

KEY = "c0ffee" * 6
TOKEN = "KGAT_" + "canary" * 5
HTML = b"<!DOCTYPE html><html>Sign in to the hotel's network</html>"
PUSH = PushRequest(
    kernel="kchain-demo",
    title="kchain-demo",
    source="{}",
    dataset_sources=("local/kchain-demo-checkpoints",),
    machine_shape="NvidiaTeslaT4",
    enable_internet=True,
    session_timeout_seconds=600,
)
QUOTA = {"gpuQuota": {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}}


@pytest.fixture(scope="module")
def kaggle(module_server):
    """The real client in its worker, with a legacy key: it starts without asking anybody."""
    with KaggleApi(module_server.url, credentials.from_key("local", KEY, "the test")) as opened:
        yield opened


@pytest.fixture
def answers(scripted, reply):
    """Script one method's answers."""

    def script(method, *args, **options):
        scripted.script.on(method, reply(*args, **options))

    scripted.script.on("GetAcceleratorQuotaStatistics", reply(200, QUOTA))
    return script


@pytest.fixture
def asked(scripted):
    """Return the bodies that a method was called with."""
    return lambda method: [json.loads(request["body"]) for request in scripted.script.asked(method)]


@pytest.fixture
def publication(tmp_path):
    folder = tmp_path / "staging"
    folder.mkdir()
    for name in ("a.pt", "manifest.json"):
        (folder / name).write_bytes(name.encode())
    return PublishRequest(
        dataset="kchain-demo-checkpoints",
        title="kchain-demo-checkpoints",
        folder=folder,
        files=("a.pt", "manifest.json"),
        notes="kchain demo session 1",
    )


@pytest.fixture
def uploads(scripted, reply):
    """Let uploads succeed."""
    url = f"{scripted.url}/upload?upload_id=SECRETUPLOAD"
    scripted.script.on("StartBlobUpload", reply(200, {"token": "blob", "createUrl": url}))
    scripted.script.on("upload", reply(200))


# What every answer that is no answer becomes

FULL = "The dataset exceeds your remaining private storage quota."
NONSENSE = {
    "html": ((200, HTML, {"Content-Type": "text/html"}), {}),
    "html as json": ((200, HTML, {"Content-Type": "application/json"}), {}),
    "half of it": ((200, b'{"versionNumber": 7, "re', {"Content-Type": "application/json"}), {}),
    "cut": ((200, b'{"ver', {"Content-Type": "application/json", "Content-Length": 50}), {}),
    "reset": ((), {"then": "reset_first"}),
    "500": ((500, {"code": 500, "message": "Internal"}), {}),
    "502": ((502, HTML, {"Content-Type": "text/html"}), {}),
    "503": ((503, b""), {}),
    "504": ((504, b""), {}),
    "200 that says 500": ((200, {"code": 500, "message": "Internal"}), {}),
    "a code that is text": ((200, {"code": "500", "message": "Internal"}), {}),
    "null": ((200, b"null", {"Content-Type": "application/json"}), {}),
    "a list": ((200, []), {}),
    "a code without a message": ((200, {"code": 404}), {}),
    "a number": ((200, b"7", {"Content-Type": "application/json"}), {}),
    "odd version header": ((200, {}, {"X-Kaggle-APIVersion": "not a version"}), {}),
}
nonsense = pytest.mark.parametrize("args", NONSENSE.values(), ids=NONSENSE)

READS = {
    "kernel": ("GetKernel", lambda kaggle: kaggle.kernel("kchain-demo", 7)),
    "session": ("GetKernelSessionStatus", lambda kaggle: kaggle.session("kchain-demo", 7)),
    "outputs": ("ListKernelSessionOutput", lambda kaggle: kaggle.outputs("kchain-demo", 7)),
    "log": ("ListKernelSessionOutput", lambda kaggle: kaggle.log("kchain-demo", 7)),
    "dataset": ("GetDataset", lambda kaggle: kaggle.dataset("kchain-demo-checkpoints")),
    "dataset status": (
        "GetDatasetStatus",
        lambda kaggle: kaggle.dataset("kchain-demo-checkpoints"),
    ),
    "dataset files": (
        "ListDatasetFiles",
        lambda kaggle: kaggle.dataset_files("kchain-demo-checkpoints", 2),
    ),
    "quota": ("GetAcceleratorQuotaStatistics", lambda kaggle: kaggle.quota()),
    "identity": ("GetAcceleratorQuotaStatistics", lambda kaggle: kaggle.identity()),
}
reads = pytest.mark.parametrize(("method", "read"), READS.values(), ids=READS)


@nonsense
@reads
def test_a_read_that_brings_nonsense_is_unreadable(kaggle, answers, method, read, args):
    positional, options = args
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers("GetDataset", 200, {"currentVersionNumber": 2, "isPrivate": True})
    answers(method, *positional, **options)

    answer = read(kaggle)

    assert isinstance(answer, Unreadable)
    assert answer.trouble in {Trouble.ODD, Trouble.NETWORK}


@nonsense
def test_a_push_that_brings_nonsense_is_unknown_and_was_sent_once(kaggle, answers, asked, args):
    positional, options = args
    answers("SaveKernel", *positional, **options)

    assert isinstance(kaggle.push(PUSH), Unknown)
    assert len(asked("SaveKernel")) == 1


@nonsense
@pytest.mark.usefixtures("uploads")
def test_a_version_that_brings_nonsense_is_unknown_and_was_sent_once(
    kaggle, answers, asked, publication, args
):
    positional, options = args
    answers("CreateDatasetVersion", *positional, **options)

    assert isinstance(kaggle.publish_version(publication), Unknown)
    assert len(asked("CreateDatasetVersion")) == 1


@nonsense
@pytest.mark.usefixtures("uploads")
def test_a_creation_that_brings_nonsense_is_unknown_and_was_sent_once(
    kaggle, answers, asked, publication, args
):
    positional, options = args
    answers("CreateDataset", *positional, **options)

    assert isinstance(kaggle.create_dataset(publication), Unknown)
    assert len(asked("CreateDataset")) == 1


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


# Push


def test_a_push_that_landed_is_done(kaggle, answers, asked):
    url = "https://www.kaggle.com/code/local/kchain-demo"
    answers(
        "SaveKernel",
        200,
        {
            "ref": "/code/local/kchain-demo",
            "url": url,
            "versionNumber": 7,
            "hasVersionNumber": True,
        },
    )

    assert kaggle.push(PUSH) == Done(Pushed(7, url))
    (body,) = asked("SaveKernel")
    assert body == {
        "slug": "local/kchain-demo",
        "newTitle": "kchain-demo",
        "text": "{}",
        "language": "python",
        "kernelType": "notebook",
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": True,
        "machineShape": "NvidiaTeslaT4",
        "datasetDataSources": ["local/kchain-demo-checkpoints"],
        "sessionTimeoutSeconds": 600,
    }


@pytest.mark.parametrize("body", [{}, [], {"ref": "/code/local/kchain-demo"}, {"versionNumber": 0}])
def test_a_push_whose_answer_names_no_version_is_unknown(kaggle, answers, body):
    answers("SaveKernel", 200, body)

    assert isinstance(kaggle.push(PUSH), Unknown)


@pytest.mark.parametrize("version", ["7", None, 7.5, -1, [7]])
def test_a_version_that_is_no_number_is_unknown(kaggle, answers, version):
    answers("SaveKernel", 200, {"ref": "/code/local/kchain-demo", "versionNumber": version})

    assert isinstance(kaggle.push(PUSH), Unknown)


ODD_FIELDS = [7, ["x"], {"x": 1}, True]


@pytest.mark.parametrize("value", ODD_FIELDS)
@pytest.mark.parametrize("field", ["ref", "url", "error", "invalidDatasetSources"])
def test_an_answer_to_a_push_with_an_odd_field_is_unknown(kaggle, answers, field, value):
    body = {"ref": "/code/local/kchain-demo", "versionNumber": 7, "url": "u", field: value}
    if field == "invalidDatasetSources":
        body[field] = [value]
    answers("SaveKernel", 200, body)

    assert isinstance(kaggle.push(PUSH), Unknown)


@pytest.mark.usefixtures("uploads")
@pytest.mark.parametrize("value", ODD_FIELDS)
@pytest.mark.parametrize("field", ["status", "error"])
def test_an_answer_to_a_version_with_an_odd_field_is_unknown(
    kaggle, answers, publication, field, value
):
    answers("CreateDatasetVersion", 200, {"status": "Ok", field: value})

    assert isinstance(kaggle.publish_version(publication), Unknown)


TEXTS = [
    ("kernel", {"metadata": {"currentVersionNumber": 7}, "blob": {"source": "$"}}),
    ("session", {"status": "RUNNING", "failureMessage": "$"}),
    ("outputs", {"files": [{"fileName": "$", "url": "u"}]}),
    ("outputs", {"files": [{"fileName": "f", "url": "$"}]}),
    ("outputs", {"files": "$"}),
    ("outputs", {"files": ["$"]}),
    ("outputs", {"nextPageToken": "$"}),
    ("log", {"log": "$"}),
    ("dataset", {"currentVersionNumber": 1, "versions": [{"versionNotes": "$"}]}),
    ("dataset files", {"datasetFiles": [{"name": "$", "totalBytes": 1}]}),
]
NUMBERS = [
    ("kernel", {"metadata": {"currentVersionNumber": "$"}, "blob": {"source": "text"}}),
    ("dataset", {"currentVersionNumber": "$", "isPrivate": True}),
    ("dataset", {"currentVersionNumber": 1, "versions": [{"versionNumber": "$"}]}),
    ("dataset files", {"datasetFiles": [{"name": "a", "totalBytes": "$"}]}),
]


@pytest.mark.parametrize(
    ("read", "value"),
    [
        *((text, value) for text in TEXTS for value in (7, ["x"], {"x": 1}, True)),
        *((number, value) for number in NUMBERS for value in ("7", 7.5, [7], {"x": 1}, True)),
    ],
)
def test_a_read_with_an_odd_field_is_unreadable(kaggle, answers, read, value):
    name, body = read
    method, call = READS[name]
    answers("GetDatasetStatus", 200, {"status": "READY"})
    answers(method, 200, json.loads(json.dumps(body).replace('"$"', json.dumps(value))))

    assert isinstance(call(kaggle), Unreadable)


@pytest.mark.parametrize("kind", ["Dataset", "Kernel", "Competition", "Model"])
def test_a_push_without_one_of_its_inputs_landed_bad(kaggle, answers, kind):
    answers(
        "SaveKernel",
        200,
        {"ref": "/code/local/kchain-demo", "versionNumber": 7, f"invalid{kind}Sources": ["a/b"]},
    )

    assert kaggle.push(PUSH) == LandedBad(7, "the session runs without its input a/b")


@pytest.mark.parametrize(
    "ref", ["/code/local/another", "local/another/", "/code/local/kchain-demo-2"]
)
def test_a_push_that_was_saved_elsewhere_landed_bad(kaggle, answers, ref):
    answers("SaveKernel", 200, {"ref": ref, "versionNumber": 1})

    answer = kaggle.push(PUSH)

    assert isinstance(answer, LandedBad)
    assert answer.version is None
    assert ref.strip("/").rpartition("/")[2] in answer.message


def test_an_accelerator_is_asked_for_only_where_one_is_wanted(kaggle, answers, asked):
    answers("SaveKernel", 200, {"ref": "/code/local/kchain-demo", "versionNumber": 1})
    request = PushRequest(
        **{name: getattr(PUSH, name) for name in PUSH.__slots__} | {"machine_shape": None}
    )

    kaggle.push(request)

    (body,) = asked("SaveKernel")
    assert body["enableGpu"] is False
    assert "machineShape" not in body


# Publish


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


# Reads


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


# Logs


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


# Credentials


def test_a_token_that_is_wrong_is_a_matter_of_the_credential(scripted, reply):
    scripted.script.on("IntrospectToken", reply(200, {"active": False}))

    with KaggleApi(scripted.url, credentials.from_token(TOKEN, "t")) as kaggle:
        identity = kaggle.identity()
        pushed = kaggle.push(PUSH)

    assert identity.trouble is Trouble.AUTH
    assert pushed.trouble is Trouble.AUTH
    assert scripted.script.asked("SaveKernel") == []


def test_an_access_token_that_ended_is_replaced_by_the_next_worker(scripted, reply, tmp_path):
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    oauth = {"refresh_token": "r" * 40, "username": "local", "access_token": "a" * 40}
    expired = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    oauth |= {"access_token_expiration": expired, "scopes": []}
    (folder / "credentials.json").touch(mode=0o600)
    (folder / "credentials.json").write_text(json.dumps(oauth))
    fresh = [reply(200, {"token": name, "expiresIn": 43_200}) for name in ("first", "second")]
    scripted.script.on("GenerateAccessToken", *fresh)
    unauthorised = reply(401, {"code": 401, "message": "Unauthenticated"})
    quota = "GetAcceleratorQuotaStatistics"
    scripted.script.on(quota, reply(200, QUOTA), unauthorised, reply(200, QUOTA))

    with KaggleApi(scripted.url, credentials.find({}, tmp_path)) as kaggle:
        told = [kaggle.identity() for _ in range(3)]

    assert told == ["local", Unreadable(Trouble.AUTH, "Unauthenticated"), "local"]
    sent = [request["headers"]["Authorization"] for request in scripted.script.asked(quota)]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


def test_no_message_ever_shows_the_credential(scripted, reply, publication):
    scripted.script.on("IntrospectToken", reply(200, {"active": True, "username": "local"}))
    signed = f"https://x/y?X-Goog-Signature=0123&token={TOKEN}"
    echo = {"code": 400, "message": f"Bearer {TOKEN} is bad for {signed}"}
    told = []

    with KaggleApi(scripted.url, credentials.from_token(TOKEN, "t")) as kaggle:
        for status in (400, 401, 403, 429, 500):
            scripted.script.default = reply(status, {**echo, "code": status})
            told += [kaggle.push(PUSH), kaggle.publish_version(publication), kaggle.identity()]
            told += [kaggle.session("kchain-demo", 1), kaggle.dataset("kchain-demo-checkpoints")]
        scripted.script.default = reply(200, {"error": echo["message"]})
        told.append(kaggle.push(PUSH))

    assert all(answer.message for answer in told)
    assert "canary" not in repr(told)
    assert "0123" not in repr(told)
    sent = {request["headers"].get("Authorization") for request in scripted.script.requests}
    assert f"Bearer {TOKEN}" in sent


@pytest.mark.parametrize("held", [KEY, "KGAT_" + "0a1b2c3d" * 4])
def test_a_notebook_with_a_secret_is_never_sent(kaggle, answers, asked, held):
    answers("SaveKernel", 200, {"versionNumber": 7, "hasVersionNumber": True})

    refused = kaggle.push(replace(PUSH, source=f'{{"cells": ["{held}"]}}'))

    assert isinstance(refused, Refused)
    assert refused.trouble is Trouble.INVALID
    assert refused.message.startswith("not sent: the notebook holds")
    assert held not in refused.message
    assert asked("SaveKernel") == []
