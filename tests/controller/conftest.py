"""Fixtures: a clock that is set, a server that misbehaves as told, and what a session leaves."""

import hashlib
import json
import random
import shutil
import socket
import zipfile
from pathlib import Path

import pytest

from orchestrator import config, engine
from orchestrator.checkpoints import Expectation
from orchestrator.clock import Moment
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle.child import Child
from orchestrator.kaggle.port import OutputFile, Trouble, Unreadable
from orchestrator.machine import Kind, Phase
from orchestrator.model import Checkpoint, Parent
from tests import torchlike
from tests.controller.workers import CREDENTIAL
from tests.scripted import Reply, Script, serving

TOKEN = "kc1." + "a" * 26


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self, at=1_000_000.0):
        self.at = at

    def now(self):
        return self.at

    def moment(self):
        return Moment(self.at, "boot", self.at)

    def sleep(self, seconds):
        self.at += seconds


@pytest.fixture
def clock():
    return SetClock()


# A server whose every answer is told beforehand


@pytest.fixture
def reply():
    return Reply


@pytest.fixture
def serve():
    with serving() as start:
        yield start


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture(scope="session")
def shared_server():
    """One server for many tests; each of them gets it with a new script."""
    with serving() as start:
        yield start()


@pytest.fixture
def scripted(shared_server):
    shared_server.script = Script()
    yield shared_server
    shared_server.script.released.set()


@pytest.fixture
def closed_port():
    """A port of this machine on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


# What a session leaves


class Output:
    """The output of one session on disk, with a manifest that can be bent before it is sealed."""

    def __init__(self, folder, parent=None, step=10, members=None):
        self.folder, self.parent, self.override = folder, parent, None
        self.also, self.downloaded = [], []  # other names in the listing; what was asked for
        self.name = f"checkpoint_epoch1_step{step}.pt"
        members = members or torchlike.members(torchlike.STATE)
        self.write_archive(members)
        (folder / "training_history.json").write_text("{}")
        (folder / "latest_checkpoint.txt").write_text(self.name)
        checkpoint = {
            **self.entry(self.name, "checkpoint"),
            "epoch": 1,
            "step": step,
            "train_loss": 2.5,
            "val_loss": None,
            "members": [member(path, content) for path, content in members.items()],
        }
        self.body = {
            "contract": 1,
            "chain": "demo",
            "session": 2 if parent else 1,
            "attempt": 1,
            "token": TOKEN,
            "parent": parent.to_body() if parent else None,
            "created_at": 1_000_000.0,
            "training_complete": False,
            "latest": self.name,
            "files": [
                checkpoint,
                self.entry("training_history.json", "history"),
                self.entry("latest_checkpoint.txt", "pointer"),
            ],
            "publish": [self.name, "training_history.json", "latest_checkpoint.txt"],
        }

    @property
    def session(self):
        return self.body["session"]

    @property
    def checkpoint(self):
        return self.body["files"][0]

    @property
    def content(self):
        return json.dumps(self.body).encode()

    @property
    def expected(self):
        return Expectation("demo", 2 if self.parent else 1, 1, TOKEN, self.parent)

    def write_archive(self, members):
        """Write the checkpoint, and list it as it now is; members stay listed as they were."""
        write_archive(self.folder / self.name, members)
        if hasattr(self, "body"):
            self.relist()

    def add_older(self, step, members=None):
        """Leave an older checkpoint beside the newest, with other members; return its name."""
        name = f"checkpoint_epoch1_step{step}.pt"
        if members is None:
            shutil.copy(self.folder / self.name, self.folder / name)
            older = {**self.checkpoint, "name": name}
        else:
            write_archive(self.folder / name, members)
            listed = [member(path, content) for path, content in members.items()]
            older = {**self.checkpoint, **self.entry(name, "checkpoint"), "members": listed}
        self.body["files"].append({**older, "step": step})
        return name

    def list_members(self, members):
        """Let the manifest list these members of the checkpoint."""
        self.checkpoint["members"] = [member(path, content) for path, content in members.items()]

    def relist(self):
        self.checkpoint.update(self.entry(self.name, "checkpoint"))

    def entry(self, name, kind):
        content = (self.folder / name).read_bytes()
        return {"name": name, "kind": kind, **measured(content), "created_at": 1_000_000.0}


def write_archive(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)


def measured(content):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def member(path, content):
    return {"path": path, **measured(content)}


@pytest.fixture
def parent():
    return Parent("checkpoint_epoch1_step5.pt", 5, 100, "1" * 64, "2" * 64)


@pytest.fixture
def output(tmp_path):
    """Write what a session leaves into a folder of its own."""

    def write(folder="session-output", **arguments):
        folder = tmp_path / folder
        folder.mkdir()
        return Output(folder, **arguments)

    return write


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "state", tmp_path / "output")


@pytest.fixture
def checkpoint():
    """A verified checkpoint's record, as the machine knows it."""

    def make(step=10, **fields):
        return Checkpoint(
            **{
                "file": f"checkpoint_epoch1_step{step}.pt",
                "epoch": 1,
                "step": step,
                "bytes": 100,
                "sha256": f"{step:064x}",
                "manifest_sha256": f"{step + 1:064x}",
                "publish": [f"checkpoint_epoch1_step{step}.pt"],
                "first_step": 0,
                "first_loss": 3.0,
                "last_loss": 2.0,
                "val_loss": None,
                "outcome": "stopped",
                "reason": None,
                "training_complete": False,
                **fields,
            }
        )

    return make


@pytest.fixture
def session_events(checkpoint):
    """The events of one session that goes well, as (kind, data) pairs."""

    def make(session=1, *, step=None, version=None):
        step, version = step or 10 * session, version or session
        token = {"token": TOKEN, "base_version": version - 1}
        return [
            ("push_intent", {**token, "session": session, "attempt": 1, "parent": None,
                             "time_budget_seconds": 600, "source_sha256": "0" * 64}),
            ("push_sent", {}),
            ("push_done", {"version": version, "url": "", "adopted": False}),
            ("session_seen", {"status": "running"}),
            ("session_ended", {"status": "complete", "message": ""}),
            ("checkpoint_verified", {"checkpoint": checkpoint(step).to_body()}),
            ("publish_intent", {**token, "create": session == 1, "manifest_sha256": "3" * 64}),
            ("publish_sent", {}),
            ("publish_done", {}),
            ("publish_seen", {"version": version}),
            ("head", {"version": version}),
        ]  # fmt: skip

    return make


@pytest.fixture
def binding():
    return {
        "endpoint": "http://127.0.0.1:1",
        "owner": "local",
        "kernel": "kchain-demo",
        "dataset": "kchain-demo-checkpoints",
    }


# Collecting it

NOWHERE = "http://127.0.0.1:1"


class LeftBehind:
    """A Kaggle that only has one session's output, and cuts downloads at their limit."""

    def __init__(self, left):
        self.left, self.folder = left, left.folder

    def identity(self):
        return "local"

    def outputs(self, _kernel, _version):
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = (path.relative_to(self.folder).as_posix() for path in paths)
        return (
            *(
                OutputFile(name if name == "session.json" else f"checkpoints/{name}", str(path))
                for name, path in zip(names, paths, strict=True)
            ),
            *(OutputFile(name, "nowhere") for name in self.left.also),
        )

    def download(self, file, sink, limit_bytes):
        path = Path(file.url)
        self.left.downloaded.append(file.name)
        if (size := path.stat().st_size) > limit_bytes:
            return Unreadable(Trouble.ODD, f"{size} bytes announced")
        sink.write(path.read_bytes()[sink.size_bytes :])
        return sink.size_bytes

    def dataset(self, _dataset):
        return Unreadable(Trouble.NETWORK, "collecting ends here")

    def kernel(self, _kernel):
        return Unreadable(Trouble.NETWORK, "collecting ends here")


@pytest.fixture
def collect(tmp_path, clock, files, session_events, binding):
    """Let the engine collect what a session left, an hour long; return the journal's state."""
    path = tmp_path / "kchain.toml"
    path.write_text('[chain]\nname = "demo"\n[training]\npreset = "rehearsal"\n')
    settings = config.load(path, {"KCHAIN_KAGGLE_ENDPOINT": NOWHERE}).settings

    def run(left, before=()):
        content = left.content if left.override is None else left.override
        (left.folder / "manifest.json").write_bytes(content)
        with Journal(tmp_path / "journal.db", "demo", clock) as journal:
            for kind, data in [("bound", binding), *before, *session_events(left.session)[:5]]:
                journal.append(Kind(kind), **data)
            for _ in range(60):
                rng = random.Random(1)  # noqa: S311 - the same on every run
                kaggle = LeftBehind(left)
                engine.tick(settings, journal, kaggle, files, clock, rng, endpoint=NOWHERE)
                if journal.state.phase is not Phase.ENDED:
                    break
                clock.sleep(60.0)
            return journal.state

    return run


@pytest.fixture
def start():
    """Start children; all are ended in the end."""
    children = []

    def make(endpoint="http://127.0.0.1:1", credential=CREDENTIAL, kind=Child, **options):
        children.append(kind(endpoint, credential, **options))
        return children[-1]

    yield make
    for child in children:
        child.close()


@pytest.fixture
def worker(start, server):
    """The real worker, with a legacy key, so that it starts without asking anybody."""
    return start(server.url)
