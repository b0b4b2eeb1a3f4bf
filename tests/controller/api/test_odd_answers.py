"""An answer that is none is unreadable, or unknown if the call may have changed something."""

import json

import pytest

from orchestrator.kaggle.port import Trouble, Unknown, Unreadable
from tests.controller.api.calls import NONSENSE, PUSH, READS

nonsense = pytest.mark.parametrize("args", NONSENSE.values(), ids=NONSENSE)
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
