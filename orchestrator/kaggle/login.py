"""Logs the official client in with a credential that is in memory only.

The client's own `authenticate` reads variables and files, and writes a file. A file outlives a
worker that is killed together with its controller, and a variable is handed on to whatever is
started; so the client finds neither, and is given here what it would have made of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kagglesdk import KaggleCredentials


def log_in(client: Any, credential: Mapping[str, str]) -> None:
    """Give a client its credential, which is one of three kinds."""
    kind, content = credential["file"], credential["content"]
    client.config_values = {}
    if kind == "access_token":
        client.config_values = _from_token(client, content)
    elif kind == "kaggle.json":
        client.config_values = json.loads(content)
    else:
        client.config_values = _from_oauth(client, json.loads(content))
    client._authenticated = True


def _from_token(client: Any, token: str) -> dict[str, str]:
    client.config_values = {"token": token}
    if not (username := client._introspect_token(token)):
        raise SystemExit("it names nobody, or has expired")
    return {"token": token, "username": username}


def _from_oauth(client: Any, body: Mapping[str, Any]) -> dict[str, str]:
    """Ask for a fresh access token; the client's own way would save it, or delete the file."""
    if not (refresh_token := body.get("refresh_token")):
        raise SystemExit("it holds no refresh token")
    with client.build_kaggle_client() as asking:
        answer = KaggleCredentials(asking, refresh_token=refresh_token).generate_access_token()
    return {"token": answer.token, "username": body.get("username") or ""}
