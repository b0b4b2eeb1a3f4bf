"""The nouns of a chain: frozen records without behaviour beyond reading and writing themselves."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


class SessionStatus(enum.StrEnum):
    """Kaggle's `KernelWorkerStatus`, in our own words."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    ERROR = "error"
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_ACKNOWLEDGED = "cancel_acknowledged"
    NEW_SCRIPT = "new_script"

    @property
    def is_terminal(self) -> bool:
        return self in {self.COMPLETE, self.ERROR, self.CANCEL_ACKNOWLEDGED}


@dataclass(frozen=True, slots=True)
class Record:
    """A dataclass that travels through a JSON event body."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        return cls(**body)

    def to_body(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Binding(Record):
    """What a chain is bound to by its first event, for ever."""

    endpoint: str
    owner: str
    kernel: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Parent(Record):
    """The checkpoint that a session continues from, as DESIGN's session contract names it."""

    file: str
    step: int
    bytes: int
    sha256: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint(Record):
    """A checkpoint of one session that passed verification on this machine.

    `manifest_sha256` names its folder in the store; `publish` is the exact set of files of the
    next dataset version, besides `manifest.json`. Sizes in bytes.
    """

    file: str
    epoch: int
    step: int
    bytes: int
    sha256: str
    manifest_sha256: str
    publish: list[str]
    first_step: int
    first_loss: float | None
    last_loss: float | None
    val_loss: float | None
    outcome: str
    reason: str | None
    training_complete: bool

    def as_parent(self) -> Parent:
        return Parent(self.file, self.step, self.bytes, self.sha256, self.manifest_sha256)


@dataclass(frozen=True, slots=True)
class Accelerator(Record):
    """What a session is to run on: Kaggle's machine shape, its devices, a word in their names."""

    shape: str | None
    count: int
    name: str | None = None

    @property
    def kind(self) -> str:
        return "gpu" if self.shape else "none"


@dataclass(frozen=True, slots=True)
class Quota(Record):
    """The week's accelerator quota, in seconds; `refresh_at` in Unix seconds."""

    used_seconds: float
    reserved_seconds: float
    total_seconds: float
    refresh_at: float | None

    @property
    def remaining_seconds(self) -> float:
        return max(0.0, self.total_seconds - self.used_seconds - self.reserved_seconds)
