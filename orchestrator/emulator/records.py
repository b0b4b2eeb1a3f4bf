"""The nouns of local Kaggle: frozen records that the rules replace and never change.

Files are (name, key, bytes): the key names a blob in a store that the rules never open.
Every `*_at` is Unix seconds, UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.emulator.settings import Layout

RAN_TOO_LONG = "Your notebook was stopped because it exceeded the max allowed execution duration."
OUT_OF_MEMORY = "Your notebook tried to allocate more memory than is available."


class Refusal(Exception):
    """Kaggle said no: with an HTTP status, or (status 200) in the `error` field of an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def denied(permission: str) -> Refusal:
    """What Kaggle answers for something foreign and for something missing alike."""
    return Refusal(403, f"Permission '{permission}' was denied")


class Accelerator(StrEnum):
    """What a session occupies: each has its own limits, and all but CPU a weekly quota."""

    CPU = "CPU"
    GPU = "GPU"
    TPU = "TPU"


class SessionStatus(StrEnum):
    """Kaggle's KernelWorkerStatus."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCEL_ACKNOWLEDGED = "CANCEL_ACKNOWLEDGED"


class Ending(StrEnum):
    """Why a session ended; it decides status, message and what is kept."""

    COMPLETE = "complete"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    VANISHED = "vanished"  # the machine under the session was lost


STATUS_OF_ENDING: Mapping[Ending, tuple[SessionStatus, str]] = {
    Ending.COMPLETE: (SessionStatus.COMPLETE, ""),
    Ending.EXCEPTION: (SessionStatus.ERROR, ""),
    Ending.TIMEOUT: (SessionStatus.CANCEL_ACKNOWLEDGED, RAN_TOO_LONG),
    Ending.OUT_OF_MEMORY: (SessionStatus.ERROR, OUT_OF_MEMORY),
    Ending.CANCELLED: (SessionStatus.CANCEL_ACKNOWLEDGED, ""),
    Ending.VANISHED: (SessionStatus.ERROR, ""),
}


class DatasetStatus(StrEnum):
    """Kaggle's DatabundleVersionStatus, in the order in which a version passes through it."""

    NOT_YET_PERSISTED = "NOT_YET_PERSISTED"
    BLOBS_RECEIVED = "BLOBS_RECEIVED"
    BLOBS_DECOMPRESSED = "BLOBS_DECOMPRESSED"
    BLOBS_COPIED_TO_SDS = "BLOBS_COPIED_TO_SDS"
    INDIVIDUAL_BLOBS_COMPRESSED = "INDIVIDUAL_BLOBS_COMPRESSED"
    READY = "READY"
    FAILED = "FAILED"
    DELETED = "DELETED"
    REPROCESSING = "REPROCESSING"


class File(NamedTuple):
    """A stored file: its name with sub-folders, the key of its blob, its size."""

    name: str
    key: str
    size_bytes: int


class NewFile(NamedTuple):
    """A file of a dataset version to be: the folder it goes to ("" or "a/b/"), its upload."""

    folder: str
    token: str


@dataclass(frozen=True)
class Push:
    """What SaveKernel was asked to do."""

    owner: str
    slug: str
    title: str
    source: str
    kernel_id: int = 0
    language: str = "python"
    kernel_type: str = "script"
    is_private: bool = True
    enable_gpu: bool = False
    enable_tpu: bool = False
    enable_internet: bool = True
    machine_shape: str = ""
    docker_image: str = ""
    timeout_seconds: int = 0
    runs: bool = True  # false for a quick save
    dataset_sources: tuple[str, ...] = ()
    kernel_sources: tuple[str, ...] = ()
    competition_sources: tuple[str, ...] = ()
    model_sources: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pushed:
    """What SaveKernel answers when it made a version."""

    owner: str
    slug: str
    kernel_id: int
    version: int
    invalid_dataset_sources: tuple[str, ...] = ()
    invalid_kernel_sources: tuple[str, ...] = ()
    invalid_competition_sources: tuple[str, ...] = ()
    invalid_model_sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelVersion:
    """One saved version; its sources are those that Kaggle accepted."""

    number: int
    push: Push
    created_at: float
    dataset_sources: tuple[str, ...]
    kernel_sources: tuple[str, ...]
    session_id: int | None


@dataclass(frozen=True)
class Kernel:
    """A notebook or script with all its versions, oldest first."""

    kernel_id: int
    owner: str
    slug: str
    title: str
    versions: tuple[KernelVersion, ...]

    @property
    def latest(self) -> KernelVersion:
        return self.versions[-1]


@dataclass(frozen=True)
class Mount:
    """Files that a session finds at `path` below its input folder."""

    path: str
    source: str
    version: int
    files: tuple[File, ...]


@dataclass(frozen=True)
class Session:
    """One execution of one kernel version."""

    session_id: int
    owner: str
    slug: str
    version: int
    accelerator: Accelerator
    queued_at: float
    due_at: float
    status: SessionStatus = SessionStatus.QUEUED
    started_at: float | None = None
    limit_seconds: float = 0.0
    layout: Layout | None = None
    mounts: tuple[Mount, ...] = ()
    ended_at: float | None = None
    ending: Ending | None = None
    failure_message: str = ""
    outputs: tuple[File, ...] = ()
    log_key: str = ""

    @property
    def is_open(self) -> bool:
        return self.ending is None

    def used_seconds(self, after: float, now: float) -> float:
        """The wall-clock seconds billed to this session since `after`."""
        if self.started_at is None:
            return 0.0
        until = now if self.ended_at is None else self.ended_at
        return max(0.0, until - max(self.started_at, after))

    def reserved_seconds(self, now: float) -> float:
        if self.started_at is None or not self.is_open:
            return 0.0
        return max(0.0, self.started_at + self.limit_seconds - now)


@dataclass(frozen=True)
class Upload:
    """A file on its way in; `files` is what it turned into once all of it arrived."""

    token: str
    upload_id: str
    name: str
    size_bytes: int
    expires_at: float
    files: tuple[File, ...] | None = None


@dataclass(frozen=True)
class Draft:
    """What CreateDataset was asked to make, apart from its files."""

    owner: str
    slug: str
    title: str
    license_name: str = "unknown"
    is_private: bool = True
    subtitle: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetVersion:
    """One version: always a full snapshot."""

    number: int
    notes: str
    files: tuple[File, ...]
    created_at: float
    status: DatasetStatus = DatasetStatus.NOT_YET_PERSISTED
    deletes_older: bool = False  # once it is ready

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Dataset:
    """A dataset; readers see nothing newer than `current`, whatever has been published."""

    dataset_id: int
    draft: Draft
    versions: tuple[DatasetVersion, ...]
    current: int = 0

    @property
    def ref(self) -> str:
        return f"{self.draft.owner}/{self.draft.slug}"

    @property
    def visible(self) -> tuple[DatasetVersion, ...]:
        return self.versions[: self.current]


@dataclass(frozen=True)
class Quota:
    """One accelerator's week."""

    used_seconds: float
    reserved_seconds: float
    total_seconds: float
    has_ever_run: bool

    @property
    def remaining_seconds(self) -> float:
        return max(0.0, self.total_seconds - self.used_seconds - self.reserved_seconds)


def from_json(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    """Make a record from its JSON form, in which tuples are lists."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return kind(**values)
