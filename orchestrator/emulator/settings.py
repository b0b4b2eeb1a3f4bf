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

    queue_seconds: float = 1.0  # push to RUNNING; 13 to 19 on a quiet day on Kaggle
    cpu_session_seconds: float = 12 * 3600
    gpu_session_seconds: float = 12 * 3600
    tpu_session_seconds: float = 9 * 3600
    cpu_sessions: int = 5
    gpu_sessions: int = 2
    layout: Layout | None = None  # None: drawn at random for each session
    outputs_survive: frozenset[str] = frozenset({"exception", "timeout"})

    gpu_quota_seconds: float = 30 * 3600
    tpu_quota_seconds: float = 20 * 3600
    quota_zero_omitted: bool = False  # leave `timeUsed` out when it is zero

    dataset_visible_seconds: float = 0.3  # 403, or the previous version, until then
    dataset_processing_seconds: float = 1.0  # from the call to READY
    unpack_archives: bool = True
    unpack_checkpoints: bool = False  # treat .pt and .pth as the zip files they are

    output_url_seconds: float = 3600.0
    upload_seconds: float = 7 * 86400.0

    def __post_init__(self) -> None:
        # JSON has no sets: a replayed record brings a list.
        object.__setattr__(self, "outputs_survive", frozenset(self.outputs_survive))

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "outputs_survive": sorted(self.outputs_survive)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Settings":
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
