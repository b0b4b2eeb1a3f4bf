"""Facts about Kaggle that only a server shows, some of them to the official client only."""

import json
import re

import pytest
import requests

from orchestrator.emulator.faults import Fault

QUOTA = "GetAcceleratorQuotaStatistics"
# What the official client makes of four answers to the same question.
ASK_FOUR_TIMES = """
from kaggle.api.kaggle_api_extended import KaggleApi
api = KaggleApi()
api.authenticate()
for _ in range(4):
    try:
        print("total", api.quota_view().gpu_quota.total_time_allowed)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_request_of_many_megabytes_is_answered_without_json(standing, caller):
    answer = caller(standing).post("KernelsApiService/SaveKernel", text="x" * 12_900_000)

    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/json")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "kernels/push"),
        ("GET", "kernels/output"),
        ("GET", "kernels/quota"),
        ("GET", "kernels/pull"),
        ("POST", "blobs/upload"),
        ("POST", "datasets/create/new"),
        ("POST", "datasets/create/version/local/my-data"),
        ("GET", "datasets/status/local/my-data"),
        ("GET", "datasets/view/local/my-data"),
        ("POST", "datasets/upload/file/3/1795470950"),
    ],
)
def test_an_older_address_is_not_imitated_and_says_so(standing, caller, verb, path):
    answer = requests.request(
        verb, f"{standing.url}/api/v1/{path}", headers=caller(standing).headers, timeout=30
    )

    assert answer.status_code == 501
    assert answer.json()["message"] == f"{path} is not imitated by local Kaggle"


def test_an_upload_is_announced_and_sent_without_a_credential(local, call):
    started = call.post(
        "BlobApiService/StartBlobUpload",
        type="DATASET",
        name="model.bin",
        contentLength=3,
        lastModifiedEpochSeconds=1795470950,
    ).json()

    sent = requests.put(started["createUrl"], data=b"abc", timeout=30)

    assert sorted(started) == ["createUrl", "token"]
    assert re.search(r"/o\?uploadType=resumable&upload_id=[0-9A-Za-z]+$", started["createUrl"])
    assert sent.status_code == 200


def test_outputs_and_log_have_kaggles_fields_and_no_others(call):
    call.push("import os, sys\nos.mkdir('sub')\nopen('sub/a', 'w').write('abc')\nprint('hi')")
    call.ended()

    listing = call.listing()
    files = call.kernels("ListKernelFiles", userName="local", kernelSlug="train-loop")["files"]

    assert [sorted(file) for file in listing["files"]] == [["fileName", "url"]]
    assert [(file["name"], file["size"]) for file in files] == [("sub/a", 3)]
    assert files[0]["creationDate"].endswith("Z")
    [entry] = json.loads(listing["log"])
    assert (entry["stream_name"], entry["data"]) == ("stdout", "hi\n")
    assert 0 <= entry["time"] < 60


def test_the_official_client_reads_errors_in_answers_both_rate_limits_and_a_newer_version(
    local, in_client
):
    limited = {"code": 429, "message": "Too many requests", "status": "RESOURCE_EXHAUSTED"}
    answers = [
        (200, {"code": 500, "message": "An error after all"}, {}),
        (429, {"code": 429, "message": "TooManyRequests"}, {}),
        (429, {"error": limited}, {}),
        (200, {"gpuQuota": {"totalTimeAllowed": "3600s"}}, {"X-Kaggle-APIVersion": "99.0"}),
    ]
    for nth, (status, body, headers) in enumerate(answers, 1):
        text = json.dumps(body)
        local.faults.add(Fault(QUOTA, "status", nth=nth, status=status, body=text, headers=headers))

    lines = in_client(local, "-c", ASK_FOUR_TIMES).stdout.splitlines()

    assert local.faults.fired == [1, 1, 1, 1]
    assert lines[0] == "HTTPError An error after all"
    assert lines[1] == "HTTPError TooManyRequests"
    assert lines[2].startswith("HTTPError 429 Client Error: Too Many Requests for url: ")
    assert "outdated `kaggle` version" in lines[3]
    assert lines[4] == "total 1:00:00"


@pytest.mark.parametrize(("status", "told"), [(404, "Authentication required"), (503, "HTTPError")])
def test_a_token_that_cannot_be_introspected_is_ignored_or_an_error(local, in_client, status, told):
    local.faults.add(Fault("IntrospectToken", "status", status=status, times=9))

    result = in_client(local, "-m", "kaggle", "quota")

    assert local.faults.fired[0] >= 1
    assert result.returncode != 0
    assert told in result.stdout + result.stderr
