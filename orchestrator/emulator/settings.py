"""What a local Kaggle can be told about its platform: times, limits and habits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Layout = Literal["old", "new"]


@dataclass(frozen=True)
class Settings:
    """Shaped like the real platform, but quick: waits are seconds instead of minutes.

    Seconds of the platform's own clock are measured against the time given to the world,
    so a simulation with an invented clock may use the real platform's figures.
    """

    username: str = "local"
    seed: int = 0
    token_can_write: bool = True  # a token can be limited to reading
    phone_verified: bool = True  # without it neither accelerator nor internet, silently

    queue_seconds: float = 1.0  # push to RUNNING; 13 to 19 on a quiet day on Kaggle
    cpu_session_seconds: float = 12 * 3600
    gpu_session_seconds: float = 12 * 3600
    tpu_session_seconds: float = 9 * 3600
    cpu_sessions: int = 5
    gpu_sessions: int = 2
    layout: Layout | None = None  # None: drawn at random for each session
    outputs_survive: frozenset[str] = frozenset({"exception", "timeout"})
    memory_limit_bytes: int | None = None  # about 30 GB on Kaggle; None: what this machine has
    output_limit_bytes: int | None = 21_000_000_000  # of the working folder
    internet: bool = False  # let sessions that ask for it reach this machine's network
    gpus_instead: tuple[str, ...] | None = None  # what GPU sessions get, whatever they ask for

    # How late readers learn of what happened
    kernel_visible_seconds: float = 0.0  # of a push: until then all reads answer as before
    status_stale_seconds: float = 0.0  # of a push: a status without label is the previous one's
    end_reported_seconds: float = 0.0  # of an end: until then it is called running
    outputs_listed_seconds: float = 0.0  # of an end: until then the list of outputs grows
    log_written_seconds: float = 0.0  # of an end: until then the log is empty

    gpu_quota_seconds: float = 30 * 3600
    tpu_quota_seconds: float = 20 * 3600
    quota_zero_omitted: bool = False  # leave `timeUsed` out when it is zero

    dataset_visible_seconds: float = 0.3  # 403, or the previous version, until then
    dataset_processing_seconds: float = 1.0  # from the call to READY
    dataset_readable_seconds: float = 0.0  # from READY to its files; until then 404
    dataset_mountable_seconds: float = 0.0  # from READY to being mounted
    storage_bytes: int = 200 * 10**9  # of one account; more is accepted and never appears
    top_level_files: int = 50  # of a dataset version, before archives are unpacked
    unpack_archives: bool = True
    unpack_checkpoints: bool = False  # treat .pt and .pth as the zip files they are

    output_url_seconds: float = 3600.0
    upload_seconds: float = 7 * 86400.0

    def __post_init__(self) -> None:
        # JSON has neither sets nor tuples: a replayed record brings lists.
        object.__setattr__(self, "outputs_survive", frozenset(self.outputs_survive))
        if self.gpus_instead is not None:
            object.__setattr__(self, "gpus_instead", tuple(self.gpus_instead))

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "outputs_survive": sorted(self.outputs_survive)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Settings":
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
