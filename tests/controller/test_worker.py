"""The worker process: confined, killed in time, and never outliving the controller."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from orchestrator.kaggle import child as child_module
from orchestrator.kaggle import credentials
from orchestrator.kaggle.child import Answer, Child, Credential
from tests.controller.workers import CREDENTIAL, TOKEN, script
from tests.running import ROOT, environment


def is_gone(pid, seconds=10):
    """Wait until a process has ended."""
    try:
        psutil.Process(pid).wait(seconds)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


# Deadlines and deaths


def test_a_call_that_hangs_is_killed_at_its_deadline_and_the_next_one_works(worker, server, reply):
    quota = "GetAcceleratorQuotaStatistics"
    server.script.on(quota, reply(200, {}), reply(then="silent"), reply(200, {}))
    worker.call("quota", {}, 30)
    process = worker._process

    hung = worker.call("quota", {}, 0.3)
    after = worker.call("quota", {}, 30)

    assert hung == Answer(silent=True)
    assert process.returncode == -signal.SIGKILL
    assert after.result["used_seconds"] == 0.0
    assert worker._process.pid != process.pid


def test_a_worker_that_never_greets_is_given_up(start, monkeypatch):
    monkeypatch.setattr(child_module, "START_SECONDS", 0.3)
    child = start(command=[sys.executable, "-c", "import sys; sys.stdin.read()"])

    assert child.call("quota", {}, 30) == Answer(silent=True)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "raise SystemExit(1)"],
        [sys.executable, "-c", "print('no JSON', flush=True); raise SystemExit(1)"],
    ],
)
def test_a_worker_that_dies_at_once_is_an_answer_not_an_exception(start, command):
    answer = start(command=command).call("quota", {}, 30)

    assert answer.result is None
    assert not answer.sent


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("os._exit(1)", False),
        ("say(id=call['id'], sending=True)\nos._exit(1)", True),
        ('sys.stdout.write(\'{"id": 1, "resu\'); sys.stdout.flush()\nos._exit(1)', False),
        (
            "say(id=call['id'], sending=True)\nsys.stdout.write('{'); sys.stdout.flush()\n"
            "os._exit(1)",
            True,
        ),
        ("print('Kaggle says hello', flush=True)\nos._exit(1)", False),
        ("os.kill(os.getpid(), 9)", False),
    ],
)
def test_a_worker_that_dies_in_a_call_leaves_what_it_had_said(start, body, sent):
    child = start(command=script(body))

    assert child.call("push", {}, 30) == Answer(silent=True, sent=sent)
    assert child.call("push", {}, 30) == Answer(silent=True, sent=sent)


class SlowToKill(Child):
    """Lets the worker say its last words between the deadline and its end."""

    def __init__(self, *args, folder, **options):
        super().__init__(*args, **options)
        self.folder = folder

    def kill(self):
        (self.folder / "deadline").touch()
        pause = threading.Event()
        for _ in range(1000):
            if self._process is None or (self.folder / "said").exists():
                break
            pause.wait(0.01)
        super().kill()


def test_a_request_that_leaves_after_the_deadline_counts_as_sent(start, tmp_path):
    body = (
        "folder = pathlib.Path(args['folder'])\n"
        "while not (folder / 'deadline').exists(): time.sleep(0.01)\n"
        "say(id=call['id'], sending=True)\n"
        "(folder / 'said').touch()\n"
        "time.sleep(60)"
    )
    child = start(command=script(body), kind=SlowToKill, folder=tmp_path)

    answer = child.call("push", {"folder": str(tmp_path)}, 0.5)

    assert (tmp_path / "said").exists()
    assert answer == Answer(silent=True, sent=True)


def test_answers_to_an_earlier_call_are_not_taken_for_this_ones(start):
    body = (
        "say(id=call['id'] - 1, result='stale')\n"
        "say(id=call['id'] - 1, sending=True)\n"
        "say(id=call['id'], result=name)"
    )
    child = start(command=script(body))

    assert child.call("quota", {}, 30) == Answer(result="quota")


def test_a_closed_child_starts_no_new_process(start):
    child = start(command=script("say(id=call['id'], result=1)"))
    assert child.call("quota", {}, 30).result == 1

    child.close()

    assert child.call("quota", {}, 30) == Answer(silent=True)
    assert list(child.stream("follow", {})) == []


def test_a_worker_that_was_killed_from_outside_is_started_again(start):
    child = start(command=script("say(id=call['id'], result=os.getpid())"))
    first = child.call("quota", {}, 30).result

    os.kill(first, signal.SIGKILL)
    assert is_gone(first)
    second = child.call("quota", {}, 30)
    third = child.call("quota", {}, 30)

    assert first not in {second.result, third.result}
    assert third.result is not None


# Confinement


def test_the_worker_sees_a_home_of_its_own_and_nothing_of_ours(start, monkeypatch):
    for name in ("VERBOSE", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "HTTPS_PROXY", "KCHAIN_X"):
        monkeypatch.setenv(name, "1")
    body = (
        "mode = lambda path: os.stat(path).st_mode & 0o777\n"
        "say(id=call['id'], result={'env': dict(os.environ), 'cwd': os.getcwd(),\n"
        "  'modes': [mode(os.environ['HOME']), mode(os.environ['TMPDIR'])]})"
    )
    child = start(command=script(body))

    seen = child.call("look", {}, 30).result
    home = Path(seen["env"]["HOME"])

    allowed = {"HOME", "TMPDIR", "PATH", "PYTHONPATH", "PYTHONUTF8", "TZ", "LC_ALL"}
    assert set(seen["env"]) - {"LC_CTYPE", "_"} == allowed
    assert seen["cwd"] == str(home)
    assert seen["env"]["TMPDIR"] == str(home / "tmp")
    assert seen["modes"] == [0o700, 0o700]
    assert home != Path.home()
    child.close()
    assert not home.exists()


def test_the_real_worker_leaves_nothing_behind(worker, server, reply):
    server.script.on("GetAcceleratorQuotaStatistics", reply(200, {}))
    worker.call("quota", {}, 30)
    home = worker._home
    assert home.is_dir()

    worker.close()

    assert not home.exists()


OAUTH = json.dumps({"refresh_token": "r" * 40, "username": "local"})
KINDS = {
    "token": (credentials.from_token(TOKEN, "t"), "Bearer "),
    "key": (CREDENTIAL, "Basic "),
    "oauth": (Credential("t", "credentials.json", OAUTH), "Bearer fresh"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_credential_is_in_no_file_no_variable_and_no_argument(start, server, reply, kind):
    credential, authorization = KINDS[kind]
    server.script.on("IntrospectToken", reply(200, {"active": True, "username": "local"}))
    server.script.on("GenerateAccessToken", reply(200, {"token": "fresh", "expiresIn": 43_200}))
    server.script.on("GetAcceleratorQuotaStatistics", reply(200, {}))
    child = start(server.url, credential)

    assert child.call("identity", {}, 30).result == "local"
    (request,) = server.script.asked("GetAcceleratorQuotaStatistics")
    assert request["headers"]["Authorization"].startswith(authorization)
    process = psutil.Process(child._process.pid)
    seen = [str(process.cmdline()), str(process.environ()), *map(str, child._home.rglob("*"))]
    seen += [path.read_text() for path in child._home.rglob("*") if path.is_file()]
    assert str(child._home) in seen[1]
    assert [secret for secret in credential.secrets if secret in "".join(seen)] == []
    assert process.children() == []


def test_what_the_client_starts_is_not_told_the_credential(start, server, reply, tmp_path):
    server.script.on("IntrospectToken", reply(200, {"active": True, "username": "local"}))
    server.script.on("GetAcceleratorQuotaStatistics", reply(200, {}))
    told = tmp_path / "told"
    script = (
        "import os, runpy, subprocess, sys\n"
        "from orchestrator.kaggle import client\n"
        "def identity(self):\n"
        f"    subprocess.run(['env'], stdout=open({str(told)!r}, 'w'), check=True)\n"
        "    return self.username\n"
        "client.Client.identity = identity\n"
        "runpy.run_module('orchestrator.kaggle.worker', run_name='__main__')"
    )
    child = start(
        server.url, credentials.from_token(TOKEN, "t"), command=[sys.executable, "-c", script]
    )

    assert child.call("identity", {}, 30).result == "local"
    assert str(child._home) in told.read_text()
    assert TOKEN not in told.read_text()


def test_variables_of_ours_change_nothing_for_the_client(worker, server, reply, monkeypatch):
    for name, value in {
        "VERBOSE": "1",
        "VERBOSE_OUTPUT": "true",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_API_TOKEN": TOKEN,
        "KAGGLE_USERNAME": "somebody-else",
        "KAGGLE_KEY": "another",
        "KAGGLE_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    server.script.on("GetAcceleratorQuotaStatistics", reply(200, {}))

    answer = worker.call("identity", {}, 30)

    assert answer.result == "local"
    (request,) = server.script.requests
    assert request["headers"]["Authorization"].startswith("Basic ")
    assert "Authorization" not in worker.captured


def test_the_worker_does_not_touch_a_home_that_is_not_its_own(tmp_path):
    hello = {
        "home": str(tmp_path / "elsewhere"),
        "endpoint": "http://127.0.0.1:1",
        "credential": {"file": "kaggle.json", "content": "{}"},
    }

    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.kaggle.worker"],
        input=json.dumps(hello) + "\n",
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_nobody_listens_to_stays_until_it_can_tidy_up(tmp_path, server):
    home = tmp_path / "kchain-worker-home"
    home.mkdir()
    hello = {
        "home": str(home),
        "endpoint": server.url,
        "credential": {"file": "access_token", "content": "KGAT_" + "a" * 32},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.kaggle.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(home), "PYTHONPATH": str(ROOT)},
        text=True,
    )
    process.stdout.close()  # its controller is being killed: first one pipe is gone,
    process.stdin.write(json.dumps(hello) + "\n")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5)
    assert home.is_dir()
    process.stdin.close()  # then the other

    process.wait(30)
    assert not home.exists()


CONTROLLER = """
import json, sys
from orchestrator.kaggle import credentials
from orchestrator.kaggle.child import Child
child = Child(sys.argv[1], credentials.from_key("local", "k" * 32, "test"))
child.call("log", {"kernel": "kchain-demo", "version": 1}, 30)
print(child._process.pid, child._home, flush=True)
child.call("push", json.loads(sys.argv[2]), 600)
"""
PUSH = {
    "kernel": "kchain-demo",
    "title": "kchain-demo",
    "source": "{}",
    "dataset_sources": [],
    "machine_shape": None,
    "enable_internet": True,
    "session_timeout_seconds": 600,
}


def test_the_worker_ends_in_the_middle_of_a_call_when_its_controller_is_killed(server, reply):
    server.script.on("ListKernelSessionOutput", reply(200, {}))
    server.script.on("SaveKernel", reply(then="silent"))
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, server.url, json.dumps(PUSH)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, home = controller.stdout.readline().split()
    worker = psutil.Process(int(pid))

    controller.kill()
    controller.wait()
    controller.stdout.close()

    assert is_gone(worker.pid)
    assert not Path(home).exists()
