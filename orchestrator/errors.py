"""Everything that can go wrong, by whose turn it is to act.

KchainError                exit code 1: a bug of ours if nothing below fits
├── ConfigError            2: the user's file, flag or credential; nothing was attempted
│   └── MissingExtra       2: a part of kchain that is not installed
├── NotNow                 3: not finished, try later (another controller, a waiting chain)
└── ChainError             4: the chain failed or halted
    ├── JournalError       4: the journal is corrupt, newer than this kchain, or another's
    └── CheckpointError    4: a session's output cannot be resumed from

Kaggle's own refusals and silences are values, not exceptions: see `kaggle/port.py`.
A message says what happened, to which chain, session and version, and what to do next.
"""

from __future__ import annotations


class KchainError(Exception):
    """Base of all errors that are told in one line."""

    exit_code = 1


class ConfigError(KchainError):
    """The user's configuration or flags cannot be used; nothing was attempted."""

    exit_code = 2


class MissingExtra(ConfigError):
    """A command needs packages of an extra that is not installed."""


class NotNow(KchainError):
    """Nothing is wrong, but it cannot go on at this moment."""

    exit_code = 3


class ChainError(KchainError):
    """The chain cannot go on without a person."""

    exit_code = 4


class JournalError(ChainError):
    """The journal cannot be read or written safely; the file is left as it is."""


class JournalConflict(JournalError):
    """Another controller appended an event first; read again before acting."""


class CheckpointError(ChainError):
    """A session's output cannot be accepted; `reason` is one word for the journal."""

    def __init__(self, message: str, reason: str = "rejected") -> None:
        super().__init__(message)
        self.reason = reason


class IllegalTransition(KchainError):
    """A bug: an event arrived in a phase that does not accept it. Nothing was recorded."""
