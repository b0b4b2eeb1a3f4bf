"""Fixtures: kchain's own worker with each version of the client, and a server that misbehaves."""

import json
import sys

import pytest

from orchestrator.kaggle import api, credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.child import Child
from orchestrator.kaggle.port import OutputFile, PublishRequest, PushRequest
from tests.probes.page import VERSIONS
from tests.scripted import Reply, Script, serving

KEY = "c0ffee" * 6
QUOTA = {"gpuQuota": {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}}
PUSH = PushRequest(
    kernel="kchain-demo",
    title="kchain-demo",
    source='{ "cells":[] }',
    dataset_sources=("local/kchain-demo-checkpoints",),
    machine_shape="NvidiaTeslaT4",
    enable_internet=False,
    session_timeout_seconds=600,
)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def command(version, client_versions):
    """kchain's worker, with one version of the client before all others on its path.

    Nothing that the client prints waits in a buffer, so that it can be looked through.
    """
    path = client_versions[version]["PYTHONPATH"]
    worker = (sys.executable, "-m", "orchestrator.kaggle.worker")
    return ("env", f"PYTHONPATH={path}", "PYTHONUNBUFFERED=1", *worker)


@pytest.fixture(scope="module")
def module_server():
    with serving() as start:
        yield start()


@pytest.fixture
def server(module_server):
    """The server, with a new script in which quota can be read."""
    module_server.script = Script()
    module_server.script.on("GetAcceleratorQuotaStatistics", Reply(200, QUOTA))
    yield module_server
    module_server.script.released.set()


@pytest.fixture(scope="module")
def _opened(module_server, command):
    credential = credentials.from_key("local", KEY, "the test")
    with KaggleApi(module_server.url, credential, command=command) as opened:
        yield opened


@pytest.fixture
def kaggle(server, _opened):
    """kchain's port with a legacy key; its worker stays from one test to the next."""
    return _opened


@pytest.fixture
def start(server, command):
    """Open ports with a credential of the test's own; all are closed in the end."""
    opened = []

    def make(credential):
        opened.append(KaggleApi(server.url, credential, command=command))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def start_child(server, command):
    """Start workers with a credential of the test's own; all are ended in the end."""
    children = []

    def make(credential):
        children.append(Child(server.url, credential, command=command))
        return children[-1]

    yield make
    for child in children:
        child.close()


@pytest.fixture
def on(server):
    """Script one method's answers: (status, body, headers) or a whole reply."""

    def script(name, *replies):
        server.script.on(name, *(r if isinstance(r, Reply) else Reply(*r) for r in replies))

    return script


@pytest.fixture
def asked(server):
    """Return the JSON bodies that a method was called with."""
    return lambda name: [json.loads(request["body"]) for request in server.script.asked(name)]


@pytest.fixture
def uploads(server, on):
    """Let uploads begin, and answer their bytes so."""

    def let(*replies, url=None):
        url = url or f"{server.url}/upload?upload_id=SECRETUPLOAD"
        on("StartBlobUpload", (200, {"token": "blob", "createUrl": url}))
        on("upload", *replies or [(200,)])

    return let


@pytest.fixture
def publication(tmp_path):
    """Files to publish, among them names that the client would leave out."""

    def make(**contents):
        folder = tmp_path / "staging"
        folder.mkdir(exist_ok=True)
        contents = contents or {"a.pt": b"a" * 100, "manifest.json": b"{}"}
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return PublishRequest(
            dataset="kchain-demo-checkpoints",
            title="kchain-demo-checkpoints",
            folder=folder,
            files=tuple(contents),
            notes="kchain demo session 1",
        )

    return make


@pytest.fixture
def hurry(monkeypatch, kaggle):
    """Let a call's deadline pass within the second, with a worker that has started already."""
    kaggle.quota()
    monkeypatch.setattr(api, "READ_SECONDS", 0.4)
    monkeypatch.setattr(api, "PUSH_SECONDS", 0.6)


@pytest.fixture
def output(server):
    """One output file of a session, at /<name> of the server."""
    return lambda name: OutputFile(name, f"{server.url}/{name}?X-Goog-Signature=SECRET")
