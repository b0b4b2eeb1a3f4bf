"""Fixtures: the real client in its worker, and a Kaggle whose answers are scripted."""

import json

import pytest

from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.port import PublishRequest
from tests.controller.api.calls import KEY, QUOTA


@pytest.fixture(scope="session")
def kaggle(shared_server):
    """The real client in its worker, with a legacy key: it starts without asking anybody."""
    with KaggleApi(shared_server.url, credentials.from_key("local", KEY, "the test")) as opened:
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
