"""Finds the user's Kaggle credential: one kind, in the official client's own order.

The files are read, never written; the client gets a copy in a folder of its own.
A file that others can read, or that somebody else owns, is refused: what is in it is not a secret,
or not the user's. A symbolic link is followed, and the file it leads to must be the user's alone.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.kaggle.child import Credential

_LIMIT_CHARACTERS = 100_000
HELP = (
    "create a token at https://www.kaggle.com/settings (API, Generate New Token) and save it as"
    " ~/.kaggle/access_token, or put kaggle.json there"
)


def find(environ: Mapping[str, str], home: Path) -> Credential:
    """Return the first credential there is.

    Raises:
        ConfigError: there is none, or the first one found cannot be used.
    """
    for credential in _candidates(environ, home):
        return credential
    raise ConfigError(f"no Kaggle credential was found; {HELP}")


def from_token(token: str, source: str) -> Credential:
    """Return a credential for an API token."""
    return Credential(source, "access_token", token.strip())


def from_key(username: str, key: str, source: str) -> Credential:
    """Return a credential for a user name with a legacy API key."""
    return Credential(source, "kaggle.json", json.dumps({"username": username, "key": key}))


def _candidates(environ: Mapping[str, str], home: Path) -> Iterator[Credential]:
    folder = home / ".kaggle"
    if token := environ.get("KAGGLE_API_TOKEN", "").strip():
        path = Path(token)
        is_path = len(token) < 256 and path.is_file()
        yield from_token(_read(path) if is_path else token, "KAGGLE_API_TOKEN")
    for name in ("access_token", "access_token.txt"):
        if (path := folder / name).is_file() and (token := _read(path).strip()):
            yield from_token(token, str(path))
    if environ.get("KAGGLE_USERNAME") and environ.get("KAGGLE_KEY"):
        yield from_key(environ["KAGGLE_USERNAME"], environ["KAGGLE_KEY"], "KAGGLE_USERNAME")
    if (path := _config_dir(environ, home) / "kaggle.json").is_file():
        yield _from_kaggle_json(path)
    if (path := folder / "credentials.json").is_file():
        yield _from_oauth(path)


def _config_dir(environ: Mapping[str, str], home: Path) -> Path:
    """Return where the client looks for kaggle.json; the other files are in ~/.kaggle only."""
    if given := environ.get("KAGGLE_CONFIG_DIR"):
        return Path(given)
    if (folder := home / ".kaggle").exists():
        return folder
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"


def _from_kaggle_json(path: Path) -> Credential:
    try:
        body = json.loads(_read(path))
        return from_key(body["username"].strip(), body["key"].strip(), str(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no user name and key; {HELP}") from error


def _from_oauth(path: Path) -> Credential:
    """Leave the access token out: the client would use it for half an hour after its end."""
    try:
        body = {**json.loads(_read(path)), "access_token": "", "access_token_expiration": ""}
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no OAuth credentials; {HELP}") from error
    return Credential(str(path), "credentials.json", json.dumps(body))


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            _refuse_shared(path, os.fstat(file.fileno()))
            return file.read(_LIMIT_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the credential {path} cannot be read: {error}") from error


def _refuse_shared(path: Path, facts: os.stat_result) -> None:
    """Raise ConfigError unless a credential's file is its user's own, and nobody else's."""
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"the credential {path} is not a regular file")
    if not hasattr(os, "getuid"):  # Windows has other means, which these numbers do not show
        return
    if facts.st_uid not in (os.getuid(), 0):
        raise ConfigError(f"the credential {path} belongs to another user; copy it, then chmod 600")
    if others := stat.S_IMODE(facts.st_mode) & 0o077:
        verb = "read" if others & 0o044 else "change"
        raise ConfigError(f"other users may {verb} the credential {path}; run: chmod 600 {path}")
