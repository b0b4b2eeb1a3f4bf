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


class Twist(StrEnum):
    """What the platform can do wrong once, by itself, in one operation."""

    # of a push
    DROP_SOURCES = "drop_sources"  # calls every source invalid; the session runs without them
    LAND_ELSEWHERE = "land_elsewhere"  # makes the kernel at another address
    QUEUE_LONG = "queue_long"  # finds no machine for six hours
    # of a publication
    LOSE_FILE = "lose_file"  # leaves the last file out of the version
    LOSE_ALL_FILES = "lose_all_files"
    STICK_PROCESSING = "stick_processing"  # the version appears and never becomes ready
    FAIL_PROCESSING = "fail_processing"  # it appears and ends as FAILED
    HIDE_VERSION = "hide_version"  # it never appears
    # of a session's start
    NO_ACCELERATOR = "no_accelerator"  # gives a CPU instead of what was asked for
    OLD_MOUNTS = "old_mounts"  # mounts the version before the latest ready one
    # of a session's end
    VANISH = "vanish"  # the machine was lost before the end
    CANCEL = "cancel"  # somebody stopped it before the end
    OUT_OF_MEMORY = "out_of_memory"
    LOSE_OUTPUTS = "lose_outputs"
    LOSE_LOG = "lose_log"
    REPORT_CANCELLED = "report_cancelled"  # calls a complete session cancelled
    WEDGE = "wedge"  # goes on calling it running for hours


PUSH_TWISTS = frozenset({Twist.DROP_SOURCES, Twist.LAND_ELSEWHERE, Twist.QUEUE_LONG})
PUBLISH_TWISTS = frozenset(
    {
        Twist.LOSE_FILE,
        Twist.LOSE_ALL_FILES,
        Twist.STICK_PROCESSING,
        Twist.FAIL_PROCESSING,
        Twist.HIDE_VERSION,
    }
)
START_TWISTS = frozenset({Twist.NO_ACCELERATOR, Twist.OLD_MOUNTS})
END_TWISTS = frozenset(Twist) - PUSH_TWISTS - PUBLISH_TWISTS - START_TWISTS


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
    visible_at: float  # until then readers are answered as if it were not there
    dataset_sources: tuple[str, ...]
    dataset_versions: tuple[int, ...]  # that were ready at the push; 0 for none
    kernel_sources: tuple[str, ...]
    session_id: int | None


@dataclass(frozen=True)
class Kernel:
    """A notebook or script, with its latest version."""

    kernel_id: int
    owner: str
    slug: str
    title: str
    latest: KernelVersion


@dataclass(frozen=True)
class Mount:
    """Files that a session finds at `path` below its input folder."""

    path: str
    source: str
    version: int
    files: tuple[File, ...]
    session_id: int | None = None  # the session whose output this is; None for a dataset


@dataclass(frozen=True)
class Machine:
    """What a session runs on: the names of its GPUs (pretended), internet, limits."""

    gpus: tuple[str, ...] = ()
    has_internet: bool = False
    memory_limit_bytes: int | None = None
    output_limit_bytes: int | None = None


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
    machine: Machine = Machine()
    mounts: tuple[Mount, ...] = ()
    ended_at: float | None = None
    ending: Ending | None = None
    failure_message: str = ""
    outputs: tuple[File, ...] = ()
    log_key: str = ""
    reported_at: float = 0.0  # from then on readers are told that it has ended
    listed_at: float = 0.0  # from then on its outputs are listed in full
    logged_at: float = 0.0  # from then on its log is there

    @property
    def is_open(self) -> bool:
        return self.ending is None


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
    """One version: always a full snapshot. A time that is None never comes."""

    number: int
    notes: str
    files: tuple[File, ...]
    created_at: float
    visible_at: float | None
    processed_at: float | None
    readable_at: float | None = None  # its files can be listed and downloaded
    mountable_at: float | None = None  # a session that starts finds it
    last_status: DatasetStatus = DatasetStatus.READY
    deletes_older: bool = False  # once it is ready

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class SeenVersion(NamedTuple):
    """A version together with the status that readers are told."""

    version: DatasetVersion
    status: DatasetStatus


@dataclass(frozen=True)
class Dataset:
    """A dataset as readers see it: nothing newer than `current`, whatever has been published."""

    dataset_id: int
    draft: Draft
    current: DatasetVersion

    @property
    def ref(self) -> str:
        return f"{self.draft.owner}/{self.draft.slug}"


@dataclass(frozen=True)
class Published:
    """What CreateDataset and CreateDatasetVersion made; Kaggle's answer leaves the number out."""

    owner: str
    slug: str
    number: int

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}"


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
