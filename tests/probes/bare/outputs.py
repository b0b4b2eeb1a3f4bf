"""C35 to C47: downloads of outputs and of datasets."""

import contextlib
import os
import resource
import time
import tracemalloc
import zipfile

import requests

from tests.probes.bare.bench import DATASET, KERNEL, Reply, caught

OLD, NEW = "Mon, 05 Jan 2026 00:00:00 GMT", "Mon, 05 Jan 2026 03:00:00 GMT"
DENIED = Reply(403, b"<Error>AccessDenied</Error>", {"Content-Type": "application/xml"})
LARGE_BYTES = 24 << 20


def _fetch(bench, **options):
    return bench.client().kernels_output(KERNEL, str(bench.target), **options)


def c35(bench):
    bench.lists("../escaped.pt")
    bench.on("escaped.pt", Reply(200, b"weights"))
    caught(_fetch, bench)
    return (bench.folder / "escaped.pt").exists()


def c36(bench):
    bench.lists("model.pt")
    bench.on("model.pt", DENIED)
    error = caught(_fetch, bench)
    return error is None and (bench.target / "model.pt").read_bytes() == DENIED.body


def c37(bench):
    bench.lists("model.pt")
    bench.on("model.pt", Reply(200, b"w" * LARGE_BYTES))
    tracemalloc.start()
    try:
        _fetch(bench)
        return tracemalloc.get_traced_memory()[1] > LARGE_BYTES / 2
    finally:
        tracemalloc.stop()


def c38(bench):
    (bench.folder / "precious").write_text("precious")
    (bench.target / "model.pt").symlink_to(bench.folder / "precious")
    bench.lists("model.pt", "torn.pt")
    bench.on("model.pt", Reply(200, b"weights"))
    bench.on("torn.pt", Reply(200, b"half", {"Content-Length": 8}, then="reset"))
    caught(_fetch, bench, file_pattern="model")
    caught(_fetch, bench, file_pattern="torn")
    followed = (bench.folder / "precious").read_text() != "precious"
    return followed or (bench.target / "torn.pt").exists()


def c39(bench):
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    try:
        bench.lists("model.pt")
        bench.on("model.pt", Reply(200, b"session 1", {"Last-Modified": OLD}))
        _fetch(bench)
        os.utime(bench.target / "model.pt", (1767574800, 1767574800))  # 10 min after OLD, UTC
        bench.on("model.pt", Reply(200, b"session 2", {"Last-Modified": NEW}))
        _fetch(bench)
        return (bench.target / "model.pt").read_bytes() == b"session 1"
    finally:
        os.environ["TZ"] = "UTC"
        time.tzset()


def c40(bench):
    bench.lists("model.pt")
    bench.on("model.pt", Reply(200, b"weights"))
    _fetch(bench)
    return bench.timeouts[-1] is None


def c41(bench):
    bench.lists("one.pt", "two.pt", nextPageToken="2")
    first = bench.server.script.next_for("ListKernelSessionOutput")
    bench.on("ListKernelSessionOutput", first, Reply(500, {"code": 500, "message": "Internal"}))
    for name in ("one.pt", "two.pt"):
        bench.on(name, Reply(200, b"weights"))
    error = caught(_fetch, bench)
    listed_once_for_both = len(bench.asked("ListKernelSessionOutput")) == 2
    return isinstance(error, requests.HTTPError) and listed_once_for_both


def c42(bench):
    bench.lists("train-loop.log", log="the log")
    bench.on("train-loop.log", Reply(200, b"an output"))
    _fetch(bench)
    return (bench.target / "train-loop.log").read_text() == "the log"


def c43(bench):
    cut = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    error = Reply(500, b"<Error/>", {"Content-Length": None})
    bench.on("model.pt", Reply(200, b"5\r\nweigh\r\n", cut, then="reset"), error)
    target = bench.target / "model.pt"
    answer = requests.get(f"{bench.server.url}/model.pt", stream=True, timeout=10)
    failed = caught(bench.client().download_file, answer, str(target), None, quiet=True)
    return failed is None and target.read_bytes() == b"<Error/>"


def c44(bench):
    _serve_dataset(bench, b"bytes")
    bench.client().dataset_download_files(DATASET, str(bench.target), force=True, quiet=True)
    return bench.timeouts[-1] is None


def c45(bench):
    bench.on("model.pt", Reply(200, b"w" * 5000))
    answer = requests.get(f"{bench.server.url}/model.pt", stream=True, timeout=10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # stands for a full disk
    try:
        target = str(bench.target / "model.pt")
        failed = caught(bench.client().download_file, answer, target, None, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return isinstance(failed, OSError) and len(bench.asked("model.pt")) > 1


def c46(bench):
    stale = bench.target / "my-data.zip"
    with zipfile.ZipFile(stale, "w") as archive:
        archive.writestr("model.pt", "stale")
    _serve_dataset(bench, b"fresh", {"Last-Modified": OLD})
    with contextlib.suppress(Exception):
        bench.client().dataset_download_files(DATASET, str(bench.target), unzip=True, quiet=True)
    extracted = bench.target / "model.pt"
    return extracted.exists() and extracted.read_text() == "stale"


def c47(bench):
    bench.lists("model.pt")
    bench.on("model.pt", DENIED)
    return "SECRET" in str(caught(_fetch, bench))


def _serve_dataset(bench, content, headers=None):
    bench.on("GetDatasetMetadata", Reply(200, {"info": {}}))
    bench.on("DownloadDataset", Reply(302, b"", {"Location": f"{bench.server.url}/storage/raw"}))
    bench.on("raw", Reply(200, content, headers))
