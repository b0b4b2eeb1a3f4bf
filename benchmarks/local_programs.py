"""The programs of `make bench-local`, each in a process of its own; each prints JSON.

    serve STATE SETTINGS      a local Kaggle, until its input ends
    plain FOLDER              a plain static HTTP server that also takes PUTs
    calls NAME SECONDS        the official SDK in a chain's calls, half of them changing state
    put FILE URL CLIENT       an upload by `requests`, or by the `official` client's own code
    get URL FILE CLIENT       a download

Clients run in the environment of `client_environment`, so that the SDK finds local Kaggle.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20
SCRIPT = "print('a line of a training script')\n" * 100  # 3.6 KB
CHAINS = 10  # of each client, with a kernel and a dataset each
WARM_UP_CALLS = 100
Call = Callable[[], object]


def serve(state: str, settings: str) -> None:
    from orchestrator.emulator.server import LocalKaggle, Settings

    with LocalKaggle(Path(state), settings=Settings(**json.loads(settings))) as local:
        print(json.dumps({"url": local.url, "token": local.token}), flush=True)
        sys.stdin.read()


class PlainHandler(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` does, and a PUT that copies the body into a file."""

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        with open(self.translate_path(self.path), "wb") as target:
            while left:
                left -= target.write(self.rfile.read(min(left, CHUNK_BYTES)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def plain(folder: str) -> None:
    os.chdir(folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PlainHandler) as server:
        print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
        server.serve_forever()


def calls(name: str, seconds: str) -> None:
    """Warm up, say so, wait for a line, then call for so long."""
    from kagglesdk import KaggleClient

    with KaggleClient() as client:
        chains = [_chain(client, f"{name}-chain-{number}") for number in range(CHAINS)]
        mix = itertools.cycle(call for chain in chains for call in chain)
        for _ in range(WARM_UP_CALLS):
            next(mix)()
        print("{}", flush=True)
        sys.stdin.readline()
        latencies = []
        begun = now = time.monotonic()
        while now < begun + float(seconds):
            next(mix)()
            before, now = now, time.monotonic()
            latencies.append(now - before)
    print(json.dumps({"seconds": now - begun, "latencies": latencies}))


def _chain(client: Any, slug: str) -> list[Call]:
    """Make a chain's kernel and dataset; returns its calls, every second one changing state."""
    from kagglesdk.blobs.types.blob_api_service import ApiStartBlobUploadRequest
    from kagglesdk.datasets.types import dataset_api_service as d
    from kagglesdk.kernels.types import kernels_api_service as k
    from kagglesdk.kernels.types.kernels_enums import KernelExecutionType

    blobs, datasets = client.blobs.blob_api_client, client.datasets.dataset_api_client
    kernels = client.kernels.kernels_api_client
    title, owner = slug.replace("-", " ").title(), {"owner_slug": "local"}
    upload = _filled(ApiStartBlobUploadRequest, name="model.pt", content_length=5)
    push = _filled(k.ApiSaveKernelRequest, slug=f"local/{slug}", new_title=title, text=SCRIPT)
    push.language, push.kernel_type, push.is_private = "python", "script", True
    kernels.save_kernel(push)  # queued for ever; the others are saved and not run
    push.kernel_execution_type = KernelExecutionType.QUICK_SAVE
    files = [_filled(d.ApiDatasetNewFile, token=_uploaded(blobs.start_blob_upload(upload)))]
    datasets.create_dataset(
        _filled(d.ApiCreateDatasetRequest, slug=slug, title=title, files=files, **owner)
    )
    notes = _filled(d.ApiCreateDatasetVersionRequestBody, version_notes="next", files=files)
    version = _filled(d.ApiCreateDatasetVersionRequest, dataset_slug=slug, body=notes, **owner)
    name = {"dataset_slug": slug, **owner}
    status = _filled(k.ApiGetKernelSessionStatusRequest, user_name="local", kernel_slug=slug)
    status.version_label = "v1"
    get_status = _filled(d.ApiGetDatasetStatusRequest, **name)
    get_dataset = _filled(d.ApiGetDatasetRequest, **name)
    get_quota = k.ApiGetAcceleratorQuotaStatisticsRequest()
    _patiently(lambda: datasets.create_dataset_version(version))
    return [
        lambda: blobs.start_blob_upload(upload),
        lambda: datasets.get_dataset_status(get_status),
        lambda: datasets.create_dataset_version(version),
        lambda: datasets.get_dataset(get_dataset),
        lambda: kernels.save_kernel(push),
        lambda: kernels.get_kernel_session_status(status),
        lambda: blobs.start_blob_upload(upload),
        lambda: kernels.get_accelerator_quota_statistics(get_quota),
    ]


def _filled(kind: Any, **fields: Any) -> Any:
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _uploaded(started: Any) -> str:
    import requests

    requests.put(started.create_url, data=b"model", timeout=60).raise_for_status()
    return str(started.token)


def _patiently(call: Call) -> None:
    """Call until it is not refused: a dataset takes a moment to be ready."""
    import requests

    for _ in range(500):
        with contextlib.suppress(requests.HTTPError):
            call()
            return
        time.sleep(0.02)
    call()


def put(file: str, url: str, client: str) -> None:
    import requests
    from kaggle.api.kaggle_api_extended import ResumableUploadResult

    api, begun = _api(client), time.monotonic()
    if api is not None:
        result = api.upload_complete(file, url, quiet=True)
        assert result == ResumableUploadResult.COMPLETE, result
    else:
        with open(file, "rb") as content:
            requests.put(url, data=content, timeout=600).raise_for_status()
    _say_speed(begun, file)


def get(url: str, file: str, client: str) -> None:
    import requests

    api, begun = _api(client), time.monotonic()
    answer = requests.get(url, stream=True, timeout=600)
    answer.raise_for_status()
    if api is not None:
        api.download_file(answer, file, None)
    else:
        with open(file, "wb") as target:
            for chunk in answer.iter_content(CHUNK_BYTES):
                target.write(chunk)
    _say_speed(begun, file)


def _api(client: str) -> Any:
    if client != "official":
        return None
    from kaggle.api.kaggle_api_extended import KaggleApi

    return KaggleApi()


def _say_speed(begun: float, file: str) -> None:
    seconds = time.monotonic() - begun
    print(json.dumps({"seconds": seconds, "bytes": Path(file).stat().st_size}))


if __name__ == "__main__":
    programs = {"serve": serve, "plain": plain, "calls": calls, "put": put, "get": get}
    programs[sys.argv[1]](*sys.argv[2:])
