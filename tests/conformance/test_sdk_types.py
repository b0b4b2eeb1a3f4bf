"""Every imitated endpoint, called through kagglesdk, decodes to what the world holds."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from orchestrator.emulator.api import IMITATED
from orchestrator.emulator.records import Draft, File, NewFile, Push

CALL = """
import datetime, enum, inspect, json, sys, typing
import requests
from kagglesdk import KaggleClient

def plain(value):
    if isinstance(value, requests.Response):
        return {"status": value.status_code, "content": value.content.decode("latin-1")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, datetime.timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, datetime.datetime):
        return {"date": value.isoformat(), "is_naive": value.tzinfo is None}
    if hasattr(value, "_fields"):
        return {f.field_name: plain(getattr(value, f.field_name)) for f in value._fields}
    return value

def call(client, method, fields):
    function = getattr(client, method)
    kind = inspect.signature(function).parameters["request"].annotation
    try:
        return plain(function(kind.from_dict(fields)))
    except requests.HTTPError as error:
        return {"refused": str(error), "status": error.response.status_code}

with KaggleClient() as kaggle:
    clients = {
        "kernels": kaggle.kernels.kernels_api_client,
        "datasets": kaggle.datasets.dataset_api_client,
        "blobs": kaggle.blobs.blob_api_client,
        "security": kaggle.security.oauth_client,
    }
    calls = json.load(open(sys.argv[1]))
    print(json.dumps([call(clients[package], method, fields) for package, method, fields in calls]))
"""
SOURCE = "import sys\nprint('hello')\nopen('a.bin', 'w').write('abc')\nopen('b.txt', 'w')\n"
KERNEL = {"userName": "local", "kernelSlug": "train-loop"}
DATASET = {"ownerSlug": "local", "datasetSlug": "my-data"}
TOO_LONG = "Your notebook was stopped because it exceeded the max allowed execution duration."


def _upload(server, name, content):
    do, world = server.platform.ledger.do, server.platform.ledger.world
    upload = do(world.start_upload, name=name, size_bytes=len(content))
    key = f"key-{name}-{upload.token[:8]}"
    server.platform.blobs.path(key).write_text(content)
    files = [File(name, key, len(content))]
    do(world.finish_upload, upload_id=upload.upload_id, files=files)
    return upload.token


def _fill(server, wait_until):
    """A kernel with a run on a GPU, one cut short, one queued; a dataset with two versions."""
    do, ask = server.platform.ledger.do, server.platform.ledger.ask
    world = server.platform.ledger.world
    draft = Draft(
        "local", "my-data", "My Data", "MIT", subtitle="S" * 20, description="D", keywords=("nlp",)
    )
    first = [NewFile("", _upload(server, "a.csv", "1,2\n"))]
    do(world.create_dataset, draft=draft, files=first)
    named = {"owner": "local", "slug": "my-data"}
    wait_until(lambda: any(d.current for d in ask(world.datasets)))
    wait_until(lambda: ask(world.dataset_status, **named) == "READY")
    files = [NewFile("sub/", _upload(server, name, "xyz")) for name in ("b.csv", "c.csv")]
    do(world.create_dataset_version, **named, notes="second", files=files)
    wait_until(lambda: ask(world.dataset, **named).current.number == 2)
    wait_until(lambda: ask(world.dataset_status, **named) == "READY")
    pushes = {
        "train-loop": {"source": SOURCE, "machine_shape": "NvidiaTeslaT4", "is_private": False},
        "cut-short": {"source": "import time\ntime.sleep(600)", "timeout_seconds": 1},
    }
    for slug, fields in pushes.items():
        title = slug.replace("-", " ").title()
        push = Push("local", slug, title, dataset_sources=("local/my-data",), **fields)
        do(world.save_kernel, push=push)
    server.platform.wake.set()
    for slug in pushes:
        wait_until(lambda slug=slug: not ask(world.session, owner="local", slug=slug).is_open)


def _requests(server):
    """For each method its requests, those that change something last."""
    token = server.token
    return {
        "security.OAuthService/IntrospectToken": [{"token": token}, {"token": "KGAT_wrong"}],
        "kernels.KernelsApiService/GetKernel": [
            {**KERNEL, "versionLabel": "v1"},
            {**KERNEL, "kernelSlug": "missing"},
        ],
        "kernels.KernelsApiService/ListKernels": [
            {"group": "PROFILE", "pageSize": 1, "sortBy": "DATE_CREATED"},
            {"group": "PROFILE", "pageSize": 1, "pageToken": "1"},
        ],
        "kernels.KernelsApiService/ListKernelFiles": [{**KERNEL, "pageSize": 1}],
        "kernels.KernelsApiService/GetKernelSessionStatus": [
            KERNEL,
            {**KERNEL, "kernelSlug": "cut-short"},
        ],
        "kernels.KernelsApiService/ListKernelSessionOutput": [{**KERNEL, "pageSize": 1}],
        "kernels.KernelsApiService/DownloadKernelOutput": [
            {"ownerSlug": "local", "kernelSlug": "train-loop", "filePath": "a.bin"},
        ],
        "kernels.KernelsApiService/GetKernelSessionLogsStream": [KERNEL],
        "kernels.KernelsApiService/GetAcceleratorQuotaStatistics": [{}],
        "datasets.DatasetApiService/GetDataset": [DATASET],
        "datasets.DatasetApiService/GetDatasetStatus": [DATASET],
        "datasets.DatasetApiService/GetDatasetMetadata": [DATASET],
        "datasets.DatasetApiService/ListDatasets": [{"group": "DATASET_SELECTION_GROUP_MY"}],
        "datasets.DatasetApiService/ListDatasetFiles": [{**DATASET, "pageSize": 1}],
        "datasets.DatasetApiService/DownloadDataset": [
            {**DATASET, "fileName": "a.csv", "datasetVersionNumber": 1},
        ],
        "blobs.BlobApiService/StartBlobUpload": [
            {"type": "DATASET", "name": "x.bin", "contentLength": 7},
        ],
        "kernels.KernelsApiService/SaveKernel": [
            {
                "slug": "local/brand-new",
                "newTitle": "Brand New",
                "text": "1",
                "language": "python",
                "kernelType": "notebook",
                "kernelExecutionType": "QUICK_SAVE",
                "datasetDataSources": ["local/my-data", "local/no-such"],
                "kernelDataSources": ["local/none"],
                "competitionDataSources": ["titanic"],
                "modelDataSources": ["a/b/c/d/1"],
                "enableGpu": True,
                "enableInternet": False,
                "sessionTimeoutSeconds": 41400,
            },
            {"slug": "local/brand-new", "newTitle": "x", "language": "python", "text": ""},
        ],
        "datasets.DatasetApiService/CreateDataset": [
            {
                "ownerSlug": "local",
                "slug": "new-data",
                "title": "New Data",
                "licenseName": "CC0-1.0",
                "isPrivate": True,
                "files": [{"token": _upload(server, "n.bin", "new")}],
            },
            {"ownerSlug": "local", "slug": "tiny", "title": "Tiny", "files": []},
        ],
        "datasets.DatasetApiService/CreateDatasetVersion": [
            {**DATASET, "body": {"versionNotes": "3", "files": [_token(server, "three")]}},
            {**DATASET, "datasetSlug": "missing", "body": {"files": []}},
        ],
        "datasets.DatasetApiService/CreateDatasetVersionById": [
            {"id": 7000001, "body": {"versionNotes": "4", "files": [_token(server, "four")]}},
        ],
        "datasets.DatasetApiService/UpdateDatasetMetadata": [
            {
                **DATASET,
                "settings": {
                    "title": "Other Title",
                    "isPrivate": True,
                    "licenses": [{"name": "X"}],
                },
            },
        ],
        "kernels.KernelsApiService/CancelKernelSession": [{"kernelSessionId": 200000001}],
        "kernels.KernelsApiService/DeleteKernel": [{**KERNEL, "kernelSlug": "cut-short"}],
        "datasets.DatasetApiService/DeleteDataset": [DATASET],
    }


def _token(server, name):
    return {"token": _upload(server, f"{name}.bin", name)}


def _snake(method):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in method).removeprefix("_")


@pytest.fixture(scope="module")
def told(server, wait_until, tmp_path_factory, in_client):
    """What the SDK made of every answer, and what the world held before and after."""
    _fill(server, wait_until)
    ask, world = server.platform.ledger.ask, server.platform.ledger.world
    kernel = {"owner": "local", "slug": "train-loop"}
    dataset = {"owner": "local", "slug": "my-data"}
    before = SimpleNamespace(
        kernel=ask(world.kernel, **kernel),
        session=ask(world.session, **kernel),
        quotas=ask(world.quotas),
        dataset=ask(world.dataset, **dataset),
        versions=[seen.version for seen in ask(world.dataset_versions, **dataset)],
    )
    requests = _requests(server)
    calls = [
        (method.partition(".")[0], _snake(method.partition("/")[2]), fields)
        for method, asked in requests.items()
        for fields in asked
    ]
    path = tmp_path_factory.mktemp("calls") / "calls.json"
    path.write_text(json.dumps(calls))
    answers = iter(json.loads(in_client(CALL, path)))
    return SimpleNamespace(
        answers={method: [next(answers) for _ in asked] for method, asked in requests.items()},
        before=before,
        server=server,
    )


def _date(at):
    """How the SDK decodes a time: naive UTC, whole milliseconds."""
    text = datetime.fromtimestamp(int(at * 1000) / 1000, UTC).replace(tzinfo=None)
    return {"date": text.isoformat(), "is_naive": True}


def _close(told_date, at):
    given = datetime.fromisoformat(told_date["date"]).replace(tzinfo=UTC).timestamp()
    assert told_date["is_naive"]
    assert given == pytest.approx(at, abs=0.0011)


def _token_of(page):
    return page["next_page_token"]


def _holds(answer, **fields):
    assert {name: answer[name] for name in fields} == fields


def check_introspect_token(told, right, wrong):
    _holds(right, active=True, username="local", user_id=1000001)
    _holds(wrong, active=False, username="", user_id=0)


def check_get_kernel(told, answer, missing):
    kernel = told.before.kernel
    _holds(answer["blob"], source=SOURCE, language="python", kernel_type="script")
    _holds(answer["blob"], slug="train-loop")
    _holds(
        answer["metadata"],
        id=kernel.kernel_id,
        ref="local/train-loop",
        title="Train Loop",
        author="local",
        slug="train-loop",
        is_private=False,
        enable_gpu=False,
        enable_tpu=False,
        enable_internet=True,
        dataset_data_sources=["local/my-data"],
        kernel_data_sources=[],
        category_ids=[],
        current_version_number=1,
        machine_shape="NvidiaTeslaT4",
        total_votes=0,
    )
    _close(answer["metadata"]["last_run_time"], kernel.latest.created_at)
    _holds(missing, status=403, refused="Permission 'kernels.get' was denied")


def check_list_kernels(told, first, second):
    assert _token_of(first) == "1"
    assert _token_of(second) == ""
    slugs = [row["slug"] for page in (first, second) for row in page["kernels"]]
    assert slugs == ["cut-short", "train-loop"]


def check_list_kernel_files(told, answer):
    assert _token_of(answer) == "1"
    (file,) = answer["files"]
    _holds(file, name="a.bin", size=3)
    ended = datetime.fromisoformat(file["creation_date"]).timestamp()
    assert ended == pytest.approx(told.before.session.ended_at, abs=0.0011)


def check_get_kernel_session_status(told, complete, cut_short):
    assert complete == {"status": "COMPLETE", "failure_message": ""}
    assert cut_short == {"status": "CANCEL_ACKNOWLEDGED", "failure_message": TOO_LONG}


def check_list_kernel_session_output(told, answer):
    assert _token_of(answer) == "1"
    (file,) = answer["files"]
    _holds(file, file_name="a.bin")
    assert file["url"].startswith(f"{told.server.url}/kf/")
    (line,) = json.loads(answer["log"])
    _holds(line, stream_name="stdout", data="hello\n")
    assert line["time"] > 0


def check_download_kernel_output(told, answer):
    assert answer == {"status": 200, "content": "abc"}


def check_get_kernel_session_logs_stream(told, answer):
    assert answer["status"] == 200
    assert [line["data"] for line in json.loads(answer["content"])] == ["hello\n"]


def check_get_accelerator_quota_statistics(told, answer):
    refresh_at, gpu, _ = told.before.quotas
    assert answer["quota_refresh_time"] == _date(refresh_at)
    assert gpu.used_seconds > 0
    assert answer["gpu_quota"]["time_used"]["seconds"] == pytest.approx(gpu.used_seconds, abs=0.001)
    _holds(
        answer["gpu_quota"],
        time_reserved={"seconds": 0.0},
        total_time_allowed={"seconds": 108000.0},
        minimum_time_allowed=None,
        is_pay_to_scale_enabled=False,
        has_ever_run=True,
    )
    _holds(
        answer["tpu_quota"],
        time_used={"seconds": 0.0},
        total_time_allowed={"seconds": 72000.0},
        has_ever_run=False,
    )


def check_get_dataset(told, answer):
    dataset, versions = told.before.dataset, told.before.versions
    _holds(
        answer,
        id=dataset.dataset_id,
        ref="local/my-data",
        title="My Data",
        url="https://www.kaggle.com/datasets/local/my-data",
        owner_name="local",
        owner_ref="local",
        creator_name="local",
        subtitle="S" * 20,
        description="D",
        license_name="MIT",
        total_bytes=6,
        is_private=True,
        current_version_number=2,
        download_count=0,
    )
    _close(answer["last_updated"], dataset.current.created_at)
    told_versions = [
        (v["version_number"], v["version_notes"], v["status"], v["creator_ref"])
        for v in answer["versions"]
    ]
    assert told_versions == [
        (2, "second", "ready", "local"),
        (1, "Initial release", "ready", "local"),
    ]
    for row, version in zip(answer["versions"], versions, strict=True):
        _close(row["creation_date"], version.created_at)


def check_get_dataset_status(told, answer):
    assert answer == {"status": "READY"}


def check_get_dataset_metadata(told, answer):
    _holds(
        answer["info"],
        dataset_id=told.before.dataset.dataset_id,
        dataset_slug="my-data",
        owner_user="local",
        title="My Data",
        subtitle="S" * 20,
        description="D",
        is_private=True,
        keywords=["nlp"],
        licenses=[{"name": "MIT"}],
        total_views=0,
    )
    assert not answer["error_message"]


def check_list_datasets(told, answer):
    (row,) = answer["datasets"]
    _holds(row, ref="local/my-data", title="My Data", total_bytes=6, current_version_number=2)
    assert _token_of(answer) == ""
    _close(row["last_updated"], told.before.dataset.current.created_at)


def check_list_dataset_files(told, answer):
    assert _token_of(answer) == "1"
    assert not answer["error_message"]
    (file,) = answer["dataset_files"]
    _holds(file, name="sub/b.csv", total_bytes=3, dataset_ref="local/my-data")
    _close(file["creation_date"], told.before.dataset.current.created_at)


def check_download_dataset(told, answer):
    assert answer == {"status": 200, "content": "1,2\n"}


def check_start_blob_upload(told, answer):
    uploads = {upload["token"]: upload for upload in told.server.state()["uploads"]}
    upload = uploads[answer["token"]]
    _holds(upload, name="x.bin", size_bytes=7)
    assert answer["create_url"].startswith(f"{told.server.url}/upload/")
    assert answer["create_url"].endswith(f"upload_id={upload['upload_id']}")


def check_save_kernel(told, saved, refused):
    _holds(
        saved,
        ref="/code/local/brand-new",
        url="https://www.kaggle.com/code/local/brand-new",
        version_number=1,
        kernel_id=told.before.kernel.kernel_id + 2,
        invalid_tags=[],
        invalid_dataset_sources=["local/no-such"],
        invalid_kernel_sources=["local/none"],
        invalid_competition_sources=["titanic"],
        invalid_model_sources=["a/b/c/d/1"],
    )
    assert not saved["error"]
    version = told.server.platform.ledger.ask(
        told.server.platform.ledger.world.kernel_version, owner="local", slug="brand-new"
    )
    push = version.push
    assert (version.session_id, version.dataset_sources) == (None, ("local/my-data",))
    assert (push.kernel_type, push.enable_gpu, push.enable_internet) == ("notebook", True, False)
    assert (push.timeout_seconds, push.source) == (41400, "1")
    _holds(refused, ref="", url="", version_number=0, kernel_id=0)
    assert refused["error"] == "The title must be between 5 and 50 characters long"


def check_create_dataset(told, made, refused):
    _holds(made, ref="local/new-data", status="Ok", invalid_tags=[])
    _holds(made, url="https://www.kaggle.com/datasets/local/new-data")
    assert not made["error"]
    _holds(refused, ref="", url="", status="error")
    assert refused["error"] == "The dataset slug must be between 6 and 50 characters"


def check_create_dataset_version(told, made, refused):
    _holds(made, ref="local/my-data", status="Ok")
    assert not made["error"]
    _holds(refused, ref="", status="error")
    assert refused["error"] == "Failed to resolve the necessary information from the request."


def check_create_dataset_version_by_id(told, made):
    _holds(made, ref="local/my-data", status="Ok")
    published = _deleted(told)["versions"]
    assert [version["notes"] for version in published][2:] == ["3", "4"]


def check_update_dataset_metadata(told, answer):
    assert answer == {"errors": []}
    draft = _deleted(told)["draft"]
    _holds(draft, title="Other Title", license_name="X", is_private=True, subtitle="")


def check_cancel_kernel_session(told, answer):
    _holds(answer, status=403, refused="Permission 'kernelSessions.cancel' was denied")


def check_delete_kernel(told, answer):
    assert answer == {"error_message": ""}
    kernels = [kernel["slug"] for kernel in told.server.state()["kernels"]]
    assert "cut-short" not in kernels


def check_delete_dataset(told, answer):
    assert answer == {"error": ""}
    assert _deleted(told)["is_deleted"]


def _deleted(told):
    datasets = told.server.state()["datasets"]
    return next(d for d in datasets if d["dataset_id"] == told.before.dataset.dataset_id)


@pytest.mark.parametrize("method", sorted(IMITATED))
def test_the_sdk_decodes_what_the_world_holds(told, method):
    assert method in told.answers, f"{method} is imitated, and nothing calls it here"
    check = globals()[f"check_{_snake(method.partition('/')[2])}"]

    check(told, *told.answers[method])
