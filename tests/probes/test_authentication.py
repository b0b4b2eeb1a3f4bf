"""C1 to C14 are contained: import, authentication, configuration."""

import ast
import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.kaggle import child as child_module
from orchestrator.kaggle import credentials
from orchestrator.kaggle.child import Answer
from orchestrator.kaggle.port import Trouble, Unreadable
from orchestrator.model import Quota
from tests.probes.conftest import KEY, PUSH, QUOTA
from tests.scripted import Reply

ROOT = Path(__file__).parents[2]
TOKEN = "KGAT_" + "canary" * 5
CALL = "GetAcceleratorQuotaStatistics"
NO = (401, {"code": 401, "message": "Unauthenticated"})


@pytest.fixture
def oauth(tmp_path):
    """The user's own OAuth file, whose access token ended ten minutes ago."""
    path = tmp_path / ".kaggle" / "credentials.json"
    path.parent.mkdir()
    ended = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    body = {"refresh_token": "r" * 40, "access_token": "a" * 40, "username": "local"}
    path.write_text(json.dumps({**body, "access_token_expiration": ended, "scopes": []}))
    path.chmod(0o600)
    return path


@pytest.fixture
def authorization(server):
    """Return the credentials that calls were made with."""
    return lambda: {
        request["headers"].get("Authorization") for request in server.script.asked(CALL)
    }


def test_c1_the_dependency_that_the_client_does_not_declare_is_declared_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert any(line.startswith("six>=") for line in project["dependencies"])


def test_c2_an_import_that_never_ends_is_given_up(start_child, on, server, monkeypatch):
    on("IntrospectToken", Reply(then="silent"))
    child = start_child(credentials.from_token(TOKEN, "t"))
    for seconds in (1.0, 5.0, 25.0):  # on a busy machine the import itself may take a while
        monkeypatch.setattr(child_module, "START_SECONDS", seconds)

        assert child.call("identity", {}, 30) == Answer(silent=True)
        if server.script.asked("IntrospectToken"):
            return
    raise AssertionError("the client never came to the call that hangs")


def test_c3_a_client_that_exits_is_a_matter_of_the_credential(start, on):
    on("IntrospectToken", (200, {"active": False}))

    kaggle = start(credentials.from_token(TOKEN, "t"))

    assert kaggle.push(PUSH).trouble is Trouble.AUTH
    assert kaggle.identity().trouble is Trouble.AUTH


def test_c4_a_home_that_cannot_be_written_does_not_matter(start, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/nowhere")

    assert start(credentials.from_key("local", KEY, "t")).identity() == "local"


def test_c5_a_token_that_ended_is_not_replaced_by_another_credential(start, on, asked, tmp_path):
    on("IntrospectToken", (200, {"active": False}))
    environ = {"KAGGLE_API_TOKEN": TOKEN, "KAGGLE_USERNAME": "local", "KAGGLE_KEY": KEY}

    answer = start(credentials.find(environ, tmp_path)).identity()

    assert answer.trouble is Trouble.AUTH
    assert {body["token"] for body in asked("IntrospectToken")} == {TOKEN}
    assert asked(CALL) == []


def test_c6_a_stray_variable_selects_no_other_account(start, asked, authorization, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)

    assert start(credentials.from_key("local", KEY, "t")).identity() == "local"
    assert asked("IntrospectToken") == []
    (sent,) = authorization()
    assert sent.startswith("Basic ")


def test_c7_a_401_deletes_no_credential(start, on, server, oauth, tmp_path):
    before = oauth.read_bytes()
    on("GenerateAccessToken", NO)

    answer = start(credentials.find({}, tmp_path)).identity()

    assert server.script.asked("GenerateAccessToken")
    assert answer.trouble is Trouble.AUTH
    assert oauth.read_bytes() == before


def test_c8_an_access_token_that_ended_is_never_sent_and_is_replaced_after_a_401(
    start, on, oauth, authorization, tmp_path
):
    tokens = [(200, {"token": name, "expiresIn": 43_200}) for name in ("first", "second")]
    on("GenerateAccessToken", *tokens)
    on(CALL, NO, (200, QUOTA))

    kaggle = start(credentials.find({}, tmp_path))

    assert kaggle.identity() == Unreadable(Trouble.AUTH, "Unauthenticated")
    assert kaggle.identity() == "local"
    assert authorization() == {"Bearer first", "Bearer second"}


def test_c9_no_credential_is_written_anywhere(start_child, on, oauth, authorization, tmp_path):
    before = oauth.read_bytes()
    on("GenerateAccessToken", (200, {"token": "fresh", "expiresIn": 43_200}))
    child = start_child(credentials.find({}, tmp_path))

    child.call("identity", {}, 30)

    assert authorization() == {"Bearer fresh"}
    assert [path for path in child._home.rglob("*") if path.is_file()] == []
    assert child._home.stat().st_mode & 0o077 == 0
    assert oauth.read_bytes() == before


def test_c10_a_token_longer_than_a_file_name_works(start, on, authorization, tmp_path):
    token = "KGAT_" + "x" * 5000
    on("IntrospectToken", (200, {"active": True, "username": "local"}))

    assert start(credentials.find({"KAGGLE_API_TOKEN": token}, tmp_path)).identity() == "local"
    assert authorization() == {f"Bearer {token}"}


@pytest.mark.parametrize("variable", ["VERBOSE", "VERBOSE_OUTPUT"])
def test_c11_a_verbose_environment_prints_no_secret(start_child, on, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    on("IntrospectToken", (200, {"active": True, "username": "local"}))
    child = start_child(credentials.from_token(TOKEN, "t"))

    assert child.call("identity", {}, 30).result == "local"
    child.close()
    assert "Authorization" not in child.captured
    assert TOKEN not in child.captured


@pytest.mark.parametrize(
    ("variable", "value"), [("KAGGLE_API_ENVIRONMENT", "LOCALHOST"), ("KAGGLE_USERNAME", "other")]
)
def test_c12_a_variable_is_no_configuration(start, asked, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)

    assert start(credentials.from_key("local", KEY, "t")).identity() == "local"
    assert len(asked(CALL)) == 1


def test_c13_what_the_client_prints_is_no_answer(start_child, on):
    on(CALL, (200, QUOTA, {"X-Kaggle-APIVersion": "99.0.0"}))
    child = start_child(credentials.from_key("local", KEY, "t"))

    answer = child.call("quota", {}, 30)

    assert answer.result["used_seconds"] == 3600
    child.close()
    assert "outdated" in child.captured


def test_c14_nothing_is_looked_up_below_the_instance(kaggle):
    tree = ast.parse((ROOT / "orchestrator" / "kaggle" / "client.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }

    assert not any(name.startswith("kaggle.") for name in imported)
    assert isinstance(kaggle.quota(), Quota)
