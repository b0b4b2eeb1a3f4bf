"""Fixtures: worlds with invented times, and local Kaggles that listen."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator.emulator import catalogue
from orchestrator.emulator.client_env import client_environment
from orchestrator.emulator.faults import Fault
from orchestrator.emulator.records import File, NewFile, Push, Session
from orchestrator.emulator.server import LocalKaggle, Settings
from orchestrator.emulator.world import World

QUICK = Settings(queue_seconds=0.0, dataset_visible_seconds=0.05, dataset_processing_seconds=0.1)


def _push(slug: str = "train-loop", **fields: Any) -> Push:
    fields.setdefault("title", slug.replace("-", " ").title())
    fields.setdefault("source", "print('hi')\n")
    return Push(owner="local", slug=slug, **fields)


@pytest.fixture
def push() -> Callable[..., Push]:
    return _push


class WorldDriver:
    """A world with the few steps that most of its tests begin with."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)

    def run(
        self, at: float, *, seconds: float = 60.0, ending: str = "complete", **push: Any
    ) -> Session:
        """Push at `at`, start when due, end after `seconds`."""
        session = self.start(at, **push)
        return self.world.end_session(
            session.started_at + seconds,
            session_id=session.session_id,
            ending=ending,
            files=[File("out.txt", f"key-{session.session_id}", 3)],
            log_key=f"log-{session.session_id}",
        )

    def start(self, at: float, **push: Any) -> Session:
        pushed = self.world.save_kernel(at, push=_push(**push))
        session = self.world.session(at, owner="local", slug=pushed.slug)
        return self.world.start_session(session.due_at, session_id=session.session_id)

    def upload(self, at: float, name: str = "a.bin", size_bytes: int = 3) -> NewFile:
        upload = self.world.start_upload(at, name=name, size_bytes=size_bytes)
        self.world.finish_upload(
            at,
            upload_id=upload.upload_id,
            files=[File(upload.name, f"key-{upload.upload_id}", size_bytes)],
        )
        return NewFile("", upload.token)


@pytest.fixture
def driver() -> Callable[..., WorldDriver]:
    def make(**settings: Any) -> WorldDriver:
        return WorldDriver(Settings(**settings))

    return make


@pytest.fixture
def quick() -> Settings:
    return QUICK


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalKaggle]:
    with LocalKaggle(tmp_path / "state", settings=QUICK) as server:
        yield server
        server.close(kill_sessions=True)


class Planter:
    """Plants faults, and wants every one of them to have fired in the end."""

    def __init__(self, server: LocalKaggle) -> None:
        self.server = server

    def __call__(self, fault: Fault | str, **changes: Any) -> Fault:
        planted = catalogue.plant(fault, **changes) if isinstance(fault, str) else fault
        self.server.faults.add(planted)
        return planted

    def check(self) -> None:
        rows = self.server.faults.to_json()
        self.server.faults.clear()
        idle = [row["name"] or row["effect"] for row in rows if not row["fired"]]
        assert not idle, f"planted and never fired: {idle}"


@pytest.fixture
def plant(local: LocalKaggle) -> Iterator[Planter]:
    planter = Planter(local)
    yield planter
    planter.check()


@pytest.fixture(scope="session")
def planter() -> type[Planter]:
    return Planter


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKaggle]:
    """A local Kaggle for the tests that change nothing."""
    with LocalKaggle(tmp_path_factory.mktemp("standing"), settings=QUICK) as server:
        yield server


class Caller:
    """Calls a local Kaggle's methods by plain HTTP."""

    def __init__(self, server: LocalKaggle, wait_until: Callable[..., Any]) -> None:
        self.server = server
        self.wait_until = wait_until
        self.headers = {"Authorization": f"Bearer {server.token}"}

    def post(self, method: str, **fields: Any) -> requests.Response:
        packages = {"KernelsApiService": "kernels", "DatasetApiService": "datasets"}
        service = method.partition("/")[0]
        package = packages.get(service) or {"BlobApiService": "blobs"}.get(service, "security")
        url = f"{self.server.url}/v1/{package}.{method}"
        return requests.post(url, json=fields, headers=self.headers, timeout=30)

    def kernels(self, method: str, **fields: Any) -> Any:
        answer = self.post(f"KernelsApiService/{method}", **fields)
        answer.raise_for_status()
        return answer.json()

    def datasets(self, method: str, **fields: Any) -> Any:
        answer = self.post(f"DatasetApiService/{method}", **fields)
        answer.raise_for_status()
        return answer.json()

    def push(self, source: str, slug: str = "train-loop", **fields: Any) -> Any:
        body = {
            "slug": f"local/{slug}",
            "newTitle": slug.replace("-", " ").title(),
            "text": source,
            "language": "python",
            "kernelType": "script",
        }
        return self.kernels("SaveKernel", **{**body, **fields})

    def status(self, slug: str = "train-loop", **fields: Any) -> Any:
        return self.kernels("GetKernelSessionStatus", userName="local", kernelSlug=slug, **fields)

    def ended(self, slug: str = "train-loop", **fields: Any) -> Any:
        """Wait for the end of a session; returns its status."""

        def has_ended() -> Any:
            status = self.status(slug, **fields)
            return status if status.get("status", "QUEUED") not in ("QUEUED", "RUNNING") else None

        return self.wait_until(has_ended)

    def outputs(self, slug: str = "train-loop", **fields: Any) -> dict[str, bytes]:
        listing = self.listing(slug, **fields)
        return {
            file["fileName"]: requests.get(file["url"], timeout=30).content
            for file in listing.get("files", [])
        }

    def log(self, slug: str = "train-loop") -> str:
        """What the session printed."""
        return "".join(entry["data"] for entry in json.loads(self.listing(slug).get("log", "[]")))

    def listing(self, slug: str = "train-loop", **fields: Any) -> Any:
        return self.kernels(
            "ListKernelSessionOutput", userName="local", kernelSlug=slug, pageSize=200, **fields
        )

    def start_upload(self, name: str, size_bytes: int) -> Any:
        answer = self.post(
            "BlobApiService/StartBlobUpload", type="DATASET", name=name, contentLength=size_bytes
        )
        return answer.json()

    def upload(self, name: str, content: bytes) -> str:
        started = self.start_upload(name, len(content))
        answer = requests.put(started["createUrl"], data=content, timeout=30)
        assert answer.status_code == 200
        return str(started["token"])

    def create_dataset(self, files: dict[str, bytes], slug: str = "my-data") -> Any:
        """Create a dataset and wait until it is ready."""
        tokens = [{"token": self.upload(name, content)} for name, content in files.items()]
        answer = self.datasets(
            "CreateDataset",
            ownerSlug="local",
            slug=slug,
            title=slug.replace("-", " ").title(),
            isPrivate=True,
            files=tokens,
        )
        self.ready(1, slug)
        return answer

    def create_version(
        self, files: dict[str, bytes], slug: str = "my-data", notes: str = ""
    ) -> Any:
        tokens = [{"token": self.upload(name, content)} for name, content in files.items()]
        body = {"versionNotes": notes, "files": tokens}
        return self.datasets("CreateDatasetVersion", ownerSlug="local", datasetSlug=slug, body=body)

    def ready(self, number: int, slug: str = "my-data") -> None:
        def is_ready() -> bool:
            state = self.server.state()["datasets"]
            versions = next(d["versions"] for d in state if d["draft"]["slug"] == slug)
            return bool(versions[number - 1]["status"] == "READY")

        self.wait_until(is_ready)


@pytest.fixture(scope="session")
def caller(wait_until: Callable[..., Any]) -> Callable[[LocalKaggle], Caller]:
    return lambda server: Caller(server, wait_until)


@pytest.fixture
def call(local: LocalKaggle, caller: Callable[[LocalKaggle], Caller]) -> Caller:
    return caller(local)


@pytest.fixture
def start(
    tmp_path: Path, quick: Settings, caller: Callable[[LocalKaggle], Caller]
) -> Iterator[Callable[..., tuple[LocalKaggle, Caller]]]:
    """Start servers on one state folder, one after the other."""
    started = []

    def start_one(**settings: Any) -> tuple[LocalKaggle, Caller]:
        server = LocalKaggle(
            tmp_path / "state", settings=Settings(**{**quick.to_json(), **settings})
        )
        started.append(server)
        return server, caller(server)

    yield start_one
    for server in started:
        server.close(kill_sessions=True)


@pytest.fixture
def full_disk() -> Callable[[int], Any]:
    """Let no file of this process grow beyond so many bytes: writing more fails."""

    @contextmanager
    def limit(size_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def notebook() -> Callable[..., str]:
    """A notebook of the given cells, with the metadata that Kaggle asks for."""

    def make(*cells: str, kernelspec: bool = True) -> str:
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "id": f"cell-{index}",
                        "metadata": {},
                        "source": cell,
                        "outputs": [],
                        "execution_count": None,
                    }
                    for index, cell in enumerate(cells)
                ],
                "metadata": {"kernelspec": spec} if kernelspec else {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )

    return make


@pytest.fixture
def in_client(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with arguments, as a client of a local Kaggle."""

    def run(server: LocalKaggle, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=client_environment(server.url, server.token, tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
