"""A credential is proven, replaced, and never shown or sent."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.port import Refused, Trouble, Unreadable
from tests.controller.api.calls import KEY, PUSH, QUOTA

TOKEN = "KGAT_" + "canary" * 5


def test_a_token_that_is_wrong_is_a_matter_of_the_credential(scripted, reply):
    scripted.script.on("IntrospectToken", reply(200, {"active": False}))

    with KaggleApi(scripted.url, credentials.from_token(TOKEN, "t")) as kaggle:
        identity = kaggle.identity()
        pushed = kaggle.push(PUSH)

    assert identity.trouble is Trouble.AUTH
    assert pushed.trouble is Trouble.AUTH
    assert scripted.script.asked("SaveKernel") == []


def test_an_access_token_that_ended_is_replaced_by_the_next_worker(scripted, reply, tmp_path):
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    oauth = {"refresh_token": "r" * 40, "username": "local", "access_token": "a" * 40}
    expired = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    oauth |= {"access_token_expiration": expired, "scopes": []}
    (folder / "credentials.json").touch(mode=0o600)
    (folder / "credentials.json").write_text(json.dumps(oauth))
    fresh = [reply(200, {"token": name, "expiresIn": 43_200}) for name in ("first", "second")]
    scripted.script.on("GenerateAccessToken", *fresh)
    unauthorised = reply(401, {"code": 401, "message": "Unauthenticated"})
    quota = "GetAcceleratorQuotaStatistics"
    scripted.script.on(quota, reply(200, QUOTA), unauthorised, reply(200, QUOTA))

    with KaggleApi(scripted.url, credentials.find({}, tmp_path)) as kaggle:
        told = [kaggle.identity() for _ in range(3)]

    assert told == ["local", Unreadable(Trouble.AUTH, "Unauthenticated"), "local"]
    sent = [request["headers"]["Authorization"] for request in scripted.script.asked(quota)]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


def test_no_message_ever_shows_the_credential(scripted, reply, publication):
    scripted.script.on("IntrospectToken", reply(200, {"active": True, "username": "local"}))
    signed = f"https://x/y?X-Goog-Signature=0123&token={TOKEN}"
    echo = {"code": 400, "message": f"Bearer {TOKEN} is bad for {signed}"}
    told = []

    with KaggleApi(scripted.url, credentials.from_token(TOKEN, "t")) as kaggle:
        for status in (400, 401, 403, 429, 500):
            scripted.script.default = reply(status, {**echo, "code": status})
            told += [kaggle.push(PUSH), kaggle.publish_version(publication), kaggle.identity()]
            told += [kaggle.session("kchain-demo", 1), kaggle.dataset("kchain-demo-checkpoints")]
        scripted.script.default = reply(200, {"error": echo["message"]})
        told.append(kaggle.push(PUSH))

    assert all(answer.message for answer in told)
    assert "canary" not in repr(told)
    assert "0123" not in repr(told)
    sent = {request["headers"].get("Authorization") for request in scripted.script.requests}
    assert f"Bearer {TOKEN}" in sent


@pytest.mark.parametrize("held", [KEY, "KGAT_" + "0a1b2c3d" * 4])
def test_a_notebook_with_a_secret_is_never_sent(kaggle, answers, asked, held):
    answers("SaveKernel", 200, {"versionNumber": 7, "hasVersionNumber": True})

    refused = kaggle.push(replace(PUSH, source=f'{{"cells": ["{held}"]}}'))

    assert isinstance(refused, Refused)
    assert refused.trouble is Trouble.INVALID
    assert refused.message.startswith("not sent: the notebook holds")
    assert held not in refused.message
    assert asked("SaveKernel") == []
