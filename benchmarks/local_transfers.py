"""Big files through local Kaggle and through a plain static server, by the same client programs."""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from local_programs import CHUNK_BYTES
from local_servers import Served, client_env, hear, local_kaggle, plain_server, program

SAMPLE_SECONDS = 0.02
SCRIPT = """
import random
chunk = random.randbytes(1 << 20)
with open("model.pt", "wb") as file:
    for _ in range({megabytes}):
        file.write(chunk)
"""


@dataclass(frozen=True)
class Transfer:
    """One kind of transfer: bytes per second beside the plain server, and what it cost."""

    title: str
    speeds: list[float]
    plain_speeds: list[float]
    resident_bytes: int
    worst_call_seconds: float
    is_one_file: bool

    @property
    def share(self) -> float:
        return statistics.median(self.speeds) / statistics.median(self.plain_speeds)


class Watch:
    """Samples the server's resident memory, and times calls to it, while something else runs."""

    def __init__(self, server: Served) -> None:
        self.resident_bytes = 0
        self.worst_call_seconds = 0.0
        self._server = server

    def __enter__(self) -> Watch:
        self._done = threading.Event()
        self._threads = [threading.Thread(target=look) for look in (self._sample, self._call)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _sample(self) -> None:
        process = psutil.Process(self._server.pid)
        while not self._done.wait(SAMPLE_SECONDS):
            self.resident_bytes = max(self.resident_bytes, process.memory_info().rss)

    def _call(self) -> None:
        with requests.Session() as session:
            while not self._done.wait(SAMPLE_SECONDS):
                begun = time.monotonic()
                call(
                    self._server, "kernels.KernelsApiService/GetAcceleratorQuotaStatistics", session
                )
                self.worst_call_seconds = max(self.worst_call_seconds, time.monotonic() - begun)


def call(server: Served, method: str, session: Any = requests, **fields: object) -> Any:
    answer = session.post(
        f"{server.url}/v1/{method}",
        json=fields,
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=60,
        allow_redirects=False,
    )
    answer.raise_for_status()
    return answer.headers["location"] if answer.is_redirect else answer.json()


def transfers(folder: Path, megabytes: int, rounds: int) -> Iterator[Transfer]:
    source = folder / "model.pt"
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(CHUNK_BYTES))
    (folder / "static").mkdir()
    quick = {
        "queue_seconds": 0.0,
        "dataset_visible_seconds": 0.0,
        "dataset_processing_seconds": 0.0,
    }
    shutil.copy(source, folder / "static")
    with plain_server(folder / "static") as plain, local_kaggle(folder, **quick) as server:
        place = Place(folder, source, plain, server, rounds)
        yield place.compare("upload, by requests", "put", "requests", place.upload_url)
        yield place.compare("upload, by the official client", "put", "official", place.upload_url)
        place.publish()
        output = place.run_kernel(megabytes)
        yield place.compare("kernel output, by requests", "get", "requests", lambda: output)
        yield place.compare(
            "kernel output, by the official client", "get", "official", lambda: output
        )
        yield place.compare("dataset file, by requests", "get", "requests", place.dataset_url)
        yield place.compare(
            "dataset as a zip that is made first", "get", "requests", place.bundle_url
        )


class Place:
    """Where the transfers happen: both servers, the file, the client's environment."""

    def __init__(self, folder: Path, source: Path, plain: str, server: Served, rounds: int) -> None:
        self._folder = folder
        self._source = source
        self._plain = plain
        self._server = server
        self._rounds = rounds
        self._env = client_env(server, folder / "home")
        self._upload_token = ""

    def compare(self, title: str, verb: str, client: str, url: Callable[[], str]) -> Transfer:
        """Transfer by turns to, or from, either server."""
        ours, plain = [], []
        watch = Watch(self._server)
        for number in range(self._rounds):
            name = f"{client}-{number}" if verb == "put" else self._source.name
            plain.append(self._speed(verb, client, f"{self._plain}/{name}"))
            with watch:
                ours.append(self._speed(verb, client, url()))
        return Transfer(
            title, ours, plain, watch.resident_bytes, watch.worst_call_seconds, "zip" not in title
        )

    def _speed(self, verb: str, client: str, url: str) -> float:
        target = self._folder / "received"
        target.unlink(missing_ok=True)
        os.sync()  # so that nobody pays for writing what another left in memory
        ends = [str(self._source), url] if verb == "put" else [url, str(target)]
        with program(verb, *ends, client, env=self._env) as process:
            said = hear(process)
        assert said["bytes"] >= self._source.stat().st_size, said
        return float(said["bytes"] / said["seconds"])

    def upload_url(self) -> str:
        started = call(
            self._server,
            "blobs.BlobApiService/StartBlobUpload",
            name=self._source.name,
            contentLength=self._source.stat().st_size,
        )
        self._upload_token = started["token"]
        return str(started["createUrl"])

    def publish(self) -> None:
        call(
            self._server,
            "datasets.DatasetApiService/CreateDataset",
            ownerSlug="local",
            slug="bench-data",
            title="Bench Data",
            files=[{"token": self._upload_token}],
        )

    def dataset_url(self, file: str = "model.pt") -> str:
        name = {"ownerSlug": "local", "datasetSlug": "bench-data", "fileName": file}
        return str(call(self._server, "datasets.DatasetApiService/DownloadDataset", **name))

    def bundle_url(self) -> str:
        """The whole dataset; what an earlier request left of it is gone."""
        for bundle in (self._folder / "state" / "scratch").glob("bundle-*.zip"):
            bundle.unlink()
        return self.dataset_url("")

    def run_kernel(self, megabytes: int) -> str:
        """Run a script that leaves a file of that size; returns the file's link."""
        call(
            self._server,
            "kernels.KernelsApiService/SaveKernel",
            slug="local/bench-run",
            newTitle="Bench Run",
            text=SCRIPT.format(megabytes=megabytes),
            language="python",
            kernelType="script",
        )
        kernel = {"userName": "local", "kernelSlug": "bench-run"}
        for _ in range(600):
            status = call(
                self._server, "kernels.KernelsApiService/GetKernelSessionStatus", **kernel
            )
            if status.get("status") == "COMPLETE":
                break
            time.sleep(0.1)
        listed = call(self._server, "kernels.KernelsApiService/ListKernelSessionOutput", **kernel)
        return next(str(f["url"]) for f in listed["files"] if f["fileName"] == self._source.name)
