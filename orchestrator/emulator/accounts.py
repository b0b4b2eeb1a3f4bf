"""The one account of a local Kaggle: its credentials, made once and kept beside the state."""

import base64
import binascii
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.emulator.records import Refusal

USER_ID = 1000001


@dataclass(frozen=True)
class Account:
    """A user with a bearer token, a legacy key, and the secret that signs links."""

    username: str
    token: str
    key: str
    link_secret: str

    def check(self, authorization: str) -> None:
        """Accept only credentials that this server issued."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self.token):
            return
        if scheme.lower() == "basic" and _same(_decoded(given), f"{self.username}:{self.key}"):
            return
        raise Refusal(401, "Unauthenticated")

    def knows(self, token: str) -> bool:
        return _same(token, self.token)


def load_account(path: Path, username: str) -> Account:
    """The credentials stored in `path`, made and stored first if there are none."""
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return Account(**{**stored, "username": username})
        except (TypeError, ValueError):
            raise ValueError(
                f"{path} does not hold the account's credentials; move it away, and others are made"
            ) from None
    account = Account(
        username=username,
        token=f"KGAT_{secrets.token_hex(16)}",
        key=secrets.token_hex(16),
        link_secret=secrets.token_hex(32),
    )
    draft = path.with_suffix(".tmp")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(account), file)
    draft.rename(path)
    return account


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _decoded(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
