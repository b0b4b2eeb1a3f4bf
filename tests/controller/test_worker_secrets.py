"""Secrets and a worker: none is told, and a credential that does not work is kept."""

import base64
import json

import pytest

from orchestrator.kaggle import credentials
from orchestrator.kaggle.child import Credential
from orchestrator.leaks import redact
from tests.controller.workers import CREDENTIAL, KEY, TOKEN, script


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
