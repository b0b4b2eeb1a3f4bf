"""C48 to C61: uploads and publishing."""

import os

from tests.probes.bare.bench import DATASET, Reply, caught, stdout

OK = Reply(200, {"status": "Ok"})
BROKEN = Reply(500, {"code": 500, "message": "Internal"})
SIZE = 1000
RESUME = Reply(308, b"", {"Range": f"bytes=0-{SIZE // 2 - 1}"})


def _publish(bench, **contents):
    folder = bench.files(**(contents or {"model": b"w" * SIZE}))
    return bench.client().dataset_create_version(str(folder), "notes", quiet=True)


def c48(bench):
    bench.uploads(Reply(500))
    bench.on("CreateDatasetVersion", OK)
    error = caught(_publish, bench)
    assert bench.asked("upload")
    bodies = bench.bodies("CreateDatasetVersion")
    return error is None and not bodies[0]["body"].get("files")


def c49(bench):
    bench.uploads(Reply(500), RESUME, Reply(200))
    bench.on("CreateDatasetVersion", BROKEN)
    client, path = bench.client(), bench.files(model=b"A" * SIZE) / "model"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert caught(client.dataset_create_version, str(path.parent), "one", quiet=True)
    bench.on("CreateDatasetVersion", OK)
    bench.files(model=b"B" * SIZE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    client.dataset_create_version(str(path.parent), "two", quiet=True)
    started, sent = bench.asked("StartBlobUpload"), bench.asked("upload")
    return len(started) == 1 and sent[-1]["body"] == b"B" * (SIZE // 2)


def c50(bench):
    os.umask(0o022)
    bench.uploads()
    bench.on("CreateDatasetVersion", OK)
    _publish(bench)
    shared = [path for path in (bench.folder / "tmp").iterdir() if path.name.startswith(".kaggle")]
    assert shared
    return any(path.stat().st_mode & 0o077 for path in shared)


def c51(bench):
    from kaggle.api.kaggle_api_extended import ResumableUploadContext  # noqa: PLC0415
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType  # noqa: PLC0415

    bench.uploads()
    client, path = bench.client(), bench.files(model=b"w") / "model"
    with ResumableUploadContext(no_resume=True) as context:
        upload = client._upload_file
        error = caught(upload, "model", str(path), ApiBlobType.DATASET, context, True, None)
    return isinstance(error, AttributeError)


def _nowhere(bench):
    """Uploads whose address nobody can send to: an exception that names the address."""
    nowhere = {"token": "blob", "createUrl": "nonsense://x/upload?upload_id=SECRETUPLOAD"}
    bench.on("StartBlobUpload", Reply(200, nowhere))
    bench.on("CreateDatasetVersion", OK)


def c52(bench):
    _nowhere(bench)
    with stdout() as text:
        caught(_publish, bench)
    return "SECRETUPLOAD" in text.getvalue()


def c53(bench):
    _nowhere(bench)
    with stdout() as text:
        caught(_publish, bench)
    return text.getvalue().count("SECRETUPLOAD") == 10 and bench.waits == []


def c54(bench):
    bench.uploads(Reply(503, b"", {"Retry-After": "7200"}), Reply(200))
    bench.on("CreateDatasetVersion", OK)
    _publish(bench)
    return 7200.0 in bench.waits and bench.timeouts[-2] is None


def c55(bench):
    folder = bench.files(**{"a.bin": b"1", "kernel-metadata.json": b"{}"})
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "b.bin").write_bytes(b"2")
    bench.uploads()
    bench.on("CreateDatasetVersion", OK)
    _publish(bench, **{"c.bin": b"3"})
    names = {body["name"] for body in bench.bodies("StartBlobUpload")}
    return names == {"a.bin", "c.bin"}


def c57(bench):
    bench.uploads()
    bench.on("CreateDatasetVersion", Reply(then="reset_first"), Reply(then="reset_first"), OK)
    answer = _publish(bench)
    bodies = bench.bodies("CreateDatasetVersion")
    return answer.status == "Ok" and len(bodies) == 3 and bodies[0] == bodies[2]


def c58(bench):
    bench.on("GetDatasetStatus", Reply(200, {"status": "READY"}))
    status = bench.client().dataset_status(f"{DATASET}/2")
    (body,) = bench.bodies("GetDatasetStatus")
    return status == "ready" and set(body) == {"ownerSlug", "datasetSlug"}


def c59(bench):
    bench.on("GetDatasetStatus", BROKEN)
    bench.uploads()
    bench.on("CreateDataset", OK)
    bench.client().dataset_create_new(str(bench.files(model=b"w")), quiet=True)
    return len(bench.asked("CreateDataset")) == 1


def c60(bench):
    page = {"datasetFiles": [{"name": "a"}], "nextPageToken": "2", "errorMessage": "Not now"}
    bench.on("ListDatasetFiles", Reply(200, page))
    answer = bench.client().dataset_list_files(DATASET)
    (body,) = bench.bodies("ListDatasetFiles")
    return body["pageSize"] == 20 and answer.error_message == "Not now"


def c61(bench):
    bench.uploads()
    bench.on("CreateDatasetVersion", OK)
    client, folder = bench.client(), bench.files(model=b"w")
    client.dataset_create_version(str(folder), "notes", quiet=True, delete_old_versions=True)
    (body,) = bench.bodies("CreateDatasetVersion")
    return body["body"]["deleteOldVersions"] is True
