"""The worker process: confined, killed in time, and never outliving the controller."""

import base64
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
from orchestrator.leaks import redact
from tests.running import ROOT, environment

KEY = "c0ffee" * 6  # a legacy key that no pattern would recognise
TOKEN = "KGAT_" + "canary" * 5
CREDENTIAL = credentials.from_key("local", KEY, "the test")

# A worker of ten lines: greets, then does with each call what the test says.
WORKER = """
import json, os, pathlib, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
hello = json.loads(sys.stdin.readline())
say(id=0, result={"username": "local"})
for line in sys.stdin:
    call = json.loads(line)
    name, args = call["verb"], call["args"]
"""


def script(body):
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", WORKER + indented]


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


# Secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer [redacted]"),
        ("Authorization: Basic bG9jYWw6a2V5", "Authorization: Basic [redacted]"),
        (f'{{"token": "{TOKEN}"}}', '{"token": "KGAT_[redacted]"}'),
        (
            "https://x/y?X-Goog-Credential=a%2Fb&X-Goog-Signature=00ff&x=1",
            "https://x/y?X-Goog-Credential=[redacted]&X-Goog-Signature=[redacted]&x=1",
        ),
        ("PUT /u?uploadType=r&upload_id=ABC failed", "PUT /u?uploadType=r&upload_id=[redacted] failed"),
        ("https://x/y?token=abc'", "https://x/y?token=[redacted]'"),
        ("https://x/kf/12/eyJhbGciOiJkaXIiLCJ.x-y_z/model.pt", "https://x/kf/12/[redacted]/model.pt"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA", "[redacted] RSA"),
        ("HF_TOKEN=hf_" + "aB3" * 12, "HF_TOKEN=[redacted]"),
        ("a Basic question of the bearer", "a Basic question of the bearer"),
        ("nothing to hide", "nothing to hide"),
    ],
)  # fmt: skip
def test_known_secrets_are_blanked_out(text, expected):
    assert redact(text) == expected


def test_what_the_client_prints_is_captured_without_secrets(start):
    body = (
        f"print('Authorization: Bearer {TOKEN}', file=sys.stderr)\n"
        f"print('the key is {KEY}', file=sys.stderr)\n"
        "print('x' * 1_000_000, file=sys.stderr, flush=True)\n"
        "say(id=call['id'], error={'message': sys.argv[0] + 'the key is " + KEY + "', 'type': 'X'})"
    )
    child = start(command=script(body))

    answer = child.call("quota", {}, 30)
    child.close()

    assert "Authorization: Bearer [redacted]" in child.captured
    assert "the key is [redacted]" in child.captured
    assert TOKEN not in child.captured
    assert KEY not in child.captured
    assert KEY not in answer.error["message"]
    assert len(child.captured) < 10_000


def test_a_credential_is_not_shown_by_its_representation():
    assert KEY not in repr(CREDENTIAL)
    assert repr(CREDENTIAL) == "Credential(source='the test')"


def test_every_secret_of_a_credential_is_known():
    oauth = {
        "refresh_token": "r" * 40,
        "access_token": "a" * 40,
        "access_token_expiration": "2026-01-01T00:00:00",
        "username": "local",
        "scopes": [],
    }

    assert KEY in CREDENTIAL.secrets
    assert credentials.from_token(f" {TOKEN}\n", "t").secrets == (TOKEN,)
    secrets = Credential("file", "credentials.json", json.dumps(oauth)).secrets
    assert {"r" * 40, "a" * 40} <= set(secrets)
    assert "local" not in secrets


def test_a_long_user_name_is_no_secret():
    name = "a-name-of-twenty-one-x"

    assert name not in credentials.from_key(name, KEY, "t").secrets


def test_a_key_is_a_secret_as_it_travels_as_well():
    travelling = base64.b64encode(f"local:{KEY}".encode()).decode()

    assert CREDENTIAL.secrets == (KEY, travelling)


# Credentials that do not work


@pytest.fixture
def oauth(tmp_path):
    """The user's own OAuth file, whose access token has expired."""
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    path = folder / "credentials.json"
    path.touch(mode=0o600)
    path.write_text(
        json.dumps(
            {
                "refresh_token": "r" * 40,
                "access_token": "",
                "access_token_expiration": "",
                "username": "local",
                "scopes": [],
            }
        )
    )
    return path


def test_a_401_deletes_no_credential(start, server, reply, oauth, tmp_path):
    unauthorised = reply(401, {"code": 401, "message": "Unauthenticated"})
    server.script.on("GenerateAccessToken", unauthorised)
    before = oauth.read_bytes()

    answer = start(server.url, credentials.find({}, tmp_path)).call("identity", {}, 30)

    assert server.script.asked("GenerateAccessToken")
    assert answer.error["status"] == 401
    assert oauth.read_bytes() == before


def test_an_access_token_that_the_worker_asked_for_shows_in_no_message(
    start, server, reply, oauth, tmp_path
):
    made = "ya29-fresh-0123456789"
    server.script.on("GenerateAccessToken", reply(200, {"token": made, "expiresIn": 43_200}))
    echo = {"code": 500, "message": f"the token {made} is odd"}
    server.script.on("GetAcceleratorQuotaStatistics", reply(500, echo))

    answer = start(server.url, credentials.find({}, tmp_path)).call("identity", {}, 30)

    (request,) = server.script.asked("GetAcceleratorQuotaStatistics")
    assert request["headers"]["Authorization"] == f"Bearer {made}"
    assert answer.error["message"] == "the token [redacted] is odd"


def test_oauth_without_a_refresh_token_is_no_credential(start, server):
    credential = Credential("t", "credentials.json", '{"username": "local"}')

    answer = start(server.url, credential).call("identity", {}, 30)

    assert (answer.error["type"], answer.error["message"]) == (
        "SystemExit",
        "it holds no refresh token",
    )


@pytest.mark.parametrize("body", [{}, {"active": False}, {"active": True}])
def test_a_token_that_names_nobody_is_no_credential(start, server, reply, body):
    server.script.on("IntrospectToken", reply(200, body))

    answer = start(server.url, credentials.from_token(TOKEN, "t")).call("identity", {}, 30)

    assert answer.error["type"] == "SystemExit"


def test_a_token_shows_in_nothing_that_comes_back(start, server, reply):
    echo = {"code": 401, "message": f"bad token {TOKEN}, {TOKEN[5:]}"}
    server.script.on("IntrospectToken", reply(401, echo))
    child = start(server.url, credentials.from_token(TOKEN, "t"))

    answer = child.call("identity", {}, 30)

    assert answer.error["status"] == 401
    assert "canary" not in repr(answer).replace("canary" * 5, "")
    assert TOKEN not in repr(answer)
    assert TOKEN not in child.captured
