"""Kaggle as the engine sees it: our verbs, our types, and every way an answer can go wrong.

A mutation returns Done, Refused, LandedBad or Unknown; a read returns its value, Gone or
Unreadable. Nothing here raises for what Kaggle says or fails to say. Two implementations
exist: `api.py` over the official client, and the simulated world of the tests.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from orchestrator.model import Quota, SessionStatus

T_co = TypeVar("T_co", covariant=True)


class Trouble(enum.StrEnum):
    """Why a call brought nothing, as far as a caller can act on it."""

    AUTH = "auth"  # the credential is wrong, revoked, or another account's
    CAPACITY = "capacity"  # too many sessions at once on this account
    QUOTA = "quota"  # the week's accelerator hours are used up
    RATE = "rate"  # too many requests
    BUSY = "busy"  # the dataset is still processing its previous version
    INVALID = "invalid"  # Kaggle will say no again
    NETWORK = "network"  # no connection; certainly nothing happened
    ODD = "odd"  # an answer that makes no sense


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """The mutation landed, as Kaggle's answer says."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Refused:
    """The mutation certainly had no effect."""

    trouble: Trouble
    message: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LandedBad:
    """The mutation landed, and is unusable."""

    version: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something was sent and no answer says what became of it. Settle it by reading."""

    message: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Kaggle says, credibly, that there is no such thing."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The read failed. Never evidence that something died or is absent."""

    trouble: Trouble
    message: str


@dataclass(frozen=True, slots=True)
class PushRequest:
    """One version of the training kernel; pushing it starts a session."""

    kernel: str
    title: str
    source: str
    dataset_sources: tuple[str, ...]
    machine_shape: str | None
    enable_internet: bool
    session_timeout_seconds: int


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """One dataset version: exactly `files` of `folder`, flat."""

    dataset: str
    title: str
    folder: Path
    files: tuple[str, ...]
    notes: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """Kaggle's answer to a push."""

    version: int
    url: str


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """A kernel's version, read back. `source` is the text of the version asked for."""

    current_version: int
    source: str
    is_private: bool | None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """How Kaggle sees the session of one kernel version."""

    status: SessionStatus
    failure_message: str


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that a session left behind. The URL expires: list again rather than keep it."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One version of a dataset, as listed."""

    number: int
    notes: str


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset, read back; `versions` may be incomplete on the real service."""

    current_version: int
    is_private: bool
    is_ready: bool
    has_failed: bool
    versions: tuple[DatasetVersion, ...]


class Sink(Protocol):
    """Where a download goes: a file that may already hold its first bytes."""

    @property
    def size_bytes(self) -> int: ...

    def write(self, chunk: bytes) -> None: ...

    def restart(self) -> None: ...


class Kaggle(Protocol):
    """The verbs. A `version` is always asked for by number, never 'the latest'."""

    def identity(self) -> str | Unreadable:
        """Return the user name that the credential belongs to."""
        ...

    def push(self, request: PushRequest) -> Done[Pushed] | Refused | LandedBad | Unknown:
        """Save a new kernel version and start its session."""
        ...

    def create_dataset(self, request: PublishRequest) -> Done[None] | Refused | Unknown:
        """Create a private dataset with its first version."""
        ...

    def publish_version(self, request: PublishRequest) -> Done[None] | Refused | Unknown:
        """Add a version to an existing dataset. Old versions are kept."""
        ...

    def kernel(self, kernel: str, version: int | None = None) -> KernelInfo | Gone | Unreadable:
        """Read a kernel's current version number and the source of `version`."""
        ...

    def session(self, kernel: str, version: int) -> SessionInfo | Gone | Unreadable:
        """Read the status of the session of one kernel version."""
        ...

    def outputs(self, kernel: str, version: int) -> tuple[OutputFile, ...] | Gone | Unreadable:
        """List all files of one version's session."""
        ...

    def log(self, kernel: str, version: int) -> str | Gone | Unreadable:
        """Read the log of an ended session: a JSON array of {stream_name, time, data}."""
        ...

    def download(self, file: OutputFile, sink: Sink, limit_bytes: int) -> int | Gone | Unreadable:
        """Bring one output file into `sink`, going on where it stands; return its size."""
        ...

    def dataset(self, dataset: str) -> DatasetInfo | Gone | Unreadable:
        """Read a dataset's current version, privacy, readiness and listed versions."""
        ...

    def dataset_files(self, dataset: str, version: int) -> Mapping[str, int] | Gone | Unreadable:
        """List one version's files: name to size in bytes."""
        ...

    def dataset_file(
        self, dataset: str, version: int, name: str, limit_bytes: int
    ) -> bytes | Gone | Unreadable:
        """Read one small file of a dataset version."""
        ...

    def dataset_address(
        self, dataset: str, version: int, name: str
    ) -> OutputFile | Gone | Unreadable:
        """Return where one file of a dataset version, of any size, can be downloaded."""
        ...

    def quota(self) -> Quota | Unreadable:
        """Read the week's GPU quota."""
        ...
