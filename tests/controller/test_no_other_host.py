"""With a local endpoint no byte leaves this machine: not at import, not by any verb."""

import json
import sys

import pytest

from orchestrator.emulator.server import LocalKaggle, Settings
from orchestrator.kaggle import child as child_module
from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.child import Child
from orchestrator.kaggle.port import (
    DatasetInfo,
    Done,
    Gone,
    KernelInfo,
    PublishRequest,
    PushRequest,
    Unreadable,
)
from orchestrator.model import Quota, SessionStatus
from tests.running import wait_until

QUICK = Settings(queue_seconds=0.0, dataset_visible_seconds=0.05, dataset_processing_seconds=0.1)
# Runs the real worker, and notes every name it looks up and every address it connects to.
WATCHED = """
import json, runpy, sys
def note(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"):
        host = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        host = args[1][0] if isinstance(args[1], tuple) else None
    else:
        return
    if host is not None:
        with open({path!r}, "a") as file:
            file.write(json.dumps([event, host if isinstance(host, str) else host.decode()]) + "\\n")
sys.addaudithook(note)
runpy.run_module("orchestrator.kaggle.worker", run_name="__main__")
"""
SOURCE = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "id": "one",
                "metadata": {},
                "source": "open('left.txt', 'w').write('left'); print('kchain: {}')",
                "outputs": [],
                "execution_count": None,
            }
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
)
PUSH = PushRequest(
    kernel="kchain-demo",
    title="kchain-demo",
    source=SOURCE,
    dataset_sources=(),
    machine_shape=None,
    enable_internet=False,
    session_timeout_seconds=600,
)


@pytest.fixture
def watched(tmp_path):
    """The command of a worker under watch, and what it was seen to contact."""
    path = tmp_path / "contacts"

    def contacts():
        return [json.loads(line) for line in path.read_text().splitlines()]

    return [sys.executable, "-c", WATCHED.format(path=str(path))], contacts


@pytest.fixture
def local(tmp_path):
    with LocalKaggle(tmp_path / "local", settings=QUICK) as server:
        yield server
        server.close(kill_sessions=True)


def test_every_verb_asks_this_machine_alone(watched, local, files, tmp_path):
    command, contacts = watched
    credential = credentials.from_token(local.token, "the test")
    with KaggleApi(local.url, credential, command=command) as kaggle:
        assert kaggle.identity() == "local"
        at_import = contacts()
        assert isinstance(kaggle.quota(), Quota)
        assert isinstance(kaggle.kernel("kchain-demo"), Gone)
        drive_a_kernel(kaggle, files)
        drive_a_dataset(kaggle, tmp_path)
        all_told = contacts()

    assert at_import
    assert len(all_told) > len(at_import) + 10
    assert {host for _, host in all_told} == {"127.0.0.1"}


def drive_a_kernel(kaggle, files):
    pushed = kaggle.push(PUSH)
    assert isinstance(pushed, Done), pushed
    assert isinstance(kaggle.kernel("kchain-demo", 1), KernelInfo)
    follower = kaggle.follow("kchain-demo", 1)
    lines = list(follower)
    follower.close()
    assert any("kchain: {}" in str(line.get("data")) for line in lines)
    wait_until(lambda: kaggle.session("kchain-demo", 1).status.is_terminal)
    assert kaggle.session("kchain-demo", 1).status is SessionStatus.COMPLETE
    assert "kchain: {}" in kaggle.log("kchain-demo", 1)
    (left,) = [file for file in kaggle.outputs("kchain-demo", 1) if file.name == "left.txt"]
    folder = files.incoming("kc1.test")
    with files.partial(folder, "left.txt") as sink:
        assert kaggle.download(left, sink, 100) == 4


def drive_a_dataset(kaggle, folder):
    (folder / "file.bin").write_bytes(b"content")
    request = PublishRequest(
        dataset="kchain-demo-data",
        title="kchain-demo-data",
        folder=folder,
        files=("file.bin",),
        notes="kchain test",
    )
    assert kaggle.create_dataset(request) == Done(None)
    wait_until(lambda: is_at(1, kaggle.dataset("kchain-demo-data")))
    assert kaggle.publish_version(request) == Done(None)
    wait_until(lambda: is_at(2, kaggle.dataset("kchain-demo-data")))
    assert kaggle.dataset_files("kchain-demo-data", 2) == {"file.bin": 7}
    assert kaggle.dataset_file("kchain-demo-data", 2, "file.bin", 100) == b"content"


def is_at(version, info):
    return isinstance(info, DatasetInfo) and info.is_ready and info.current_version == version


@pytest.mark.parametrize("target", ["http://192.0.2.1/x", "https://example.invalid/x"])
@pytest.mark.parametrize("status", [302, 307])
def test_the_worker_refuses_to_be_sent_elsewhere(server, reply, watched, target, status):
    command, contacts = watched
    server.script.on("GetKernelSessionStatus", reply(status, b"", {"Location": target}))
    credential = credentials.from_key("local", "k" * 32, "the test")

    with KaggleApi(server.url, credential, command=command) as kaggle:
        answer = kaggle.session("kchain-demo", 1)

    assert isinstance(answer, Unreadable)
    assert contacts()[0][1] == "127.0.0.1"
    # The watch sees the attempt, too; the worker's own hook ends it before it is made.
    assert "refused to" in answer.message
    assert "the endpoint is local" in answer.message


@pytest.mark.parametrize("verb", ["create_connection", "gethostbyname", "sendto"])
def test_nothing_in_the_worker_can_reach_another_host(tmp_path, verb):
    code = (
        "import json, socket, sys\n"
        "from orchestrator.kaggle import worker\n"
        "worker._confine('http://127.0.0.1:1')\n"
        "sys.stdin.readline()\n"
        "print(json.dumps({'id': 0, 'result': {}}), flush=True)\n"
        "call = json.loads(sys.stdin.readline())\n"
        "try:\n"
        f"    {TRIES[verb]}\n"
        "except PermissionError as error:\n"
        "    print(json.dumps({'id': call['id'], 'result': str(error)}), flush=True)\n"
    )
    credential = credentials.from_key("local", "k" * 32, "the test")
    child = Child("http://127.0.0.1:1", credential, command=[sys.executable, "-c", code])

    answer = child.call("leave", {}, child_module.START_SECONDS)
    child.close()

    assert "the endpoint is local" in (answer.result or "")


TRIES = {
    "create_connection": "socket.create_connection(('192.0.2.1', 80), timeout=1)",
    "gethostbyname": "socket.gethostbyname('example.invalid')",
    "sendto": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
}
