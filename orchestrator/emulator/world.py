"""The whole of local Kaggle's rules and state: no I/O, no threads, no clock.

Every call takes the time as `now` and first lets everything happen that was due by then;
nothing changes because somebody looked. The same calls with the same times and the same seed
lead to the same state, which is what replaying a record relies on. Randomness comes from one
generator that only successful operations use.

A driver hosts the sessions: it starts those of `due_sessions`, runs them as it likes, and
reports how each ended. The server does so with processes, a simulation with a table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

from orchestrator.emulator import quota
from orchestrator.emulator.datasets import Datasets
from orchestrator.emulator.kernels import Kernels
from orchestrator.emulator.machines import machine_for
from orchestrator.emulator.records import (
    END_TWISTS,
    PUBLISH_TWISTS,
    PUSH_TWISTS,
    START_TWISTS,
    Accelerator,
    Dataset,
    DatasetStatus,
    DatasetVersion,
    Draft,
    Ending,
    File,
    Kernel,
    KernelVersion,
    Mount,
    NewFile,
    Published,
    Push,
    Pushed,
    Quota,
    SeenVersion,
    Session,
    SessionStatus,
    Twist,
    Upload,
    denied,
)
from orchestrator.emulator.settings import Layout, Settings

LAYOUTS: tuple[Layout, ...] = ("old", "new")


class World:
    """One Kaggle with one user."""

    # What a record of this world may contain: the calls that change something.
    OPERATIONS = frozenset(
        {
            "configure",
            "save_kernel",
            "delete_kernel",
            "start_session",
            "end_session",
            "start_upload",
            "finish_upload",
            "create_dataset",
            "create_dataset_version",
            "update_dataset",
            "delete_dataset",
        }
    )

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.now = 0.0
        self._rng = Random(self.settings.seed)  # noqa: S311
        self._kernels = Kernels()
        self._datasets = Datasets()

    # Time

    def advance(self, now: float) -> None:
        """Move to `now`; a clock that went backwards is ignored."""
        self.now = max(self.now, now)

    def next_due_at(self, now: float) -> float | None:
        """When the next queued session is to be started."""
        self.advance(now)
        queued = (s.due_at for s in self._kernels.open_sessions() if s.started_at is None)
        return min(queued, default=None)

    def configure(self, now: float, *, settings: Settings) -> None:
        """Go on under other settings; what is under way keeps the times it was given."""
        self.advance(now)
        if settings.seed != self.settings.seed:
            self._rng = Random(settings.seed)  # noqa: S311
        self.settings = settings

    # Kernels

    def save_kernel(self, now: float, *, push: Push, twist: Twist | None = None) -> Pushed:
        """Save a version and queue its session."""
        self._check_writing("kernels.update")
        self.advance(now)
        if not push.kernel_id and push.owner != self.settings.username:
            raise denied("kernels.update")
        return self._kernels.save(
            push,
            now=self.now,
            settings=self.settings,
            has_dataset=lambda ref: self._datasets.is_visible(ref, self.now),
            ready_version=self._ready_version,
            twist=_one_of(PUSH_TWISTS, twist),
        )

    def delete_kernel(self, now: float, *, owner: str, slug: str) -> None:
        """Remove a kernel; its running session ends at once and leaves nothing."""
        self._check_writing("kernels.delete")
        self.advance(now)
        self._kernels.delete(owner, slug, self.now, self.settings)

    def kernel(self, now: float, *, owner: str, slug: str) -> Kernel:
        self.advance(now)
        return self._kernels.kernel(owner, slug, self.now)

    def kernels(self, now: float) -> Sequence[Kernel]:
        """All kernels, the last pushed first."""
        self.advance(now)
        return self._kernels.kernels(self.now)

    def kernel_version(
        self, now: float, *, owner: str, slug: str, label: str = ""
    ) -> KernelVersion:
        self.advance(now)
        return self._kernels.version(owner, slug, label, self.now)

    # Sessions

    def session(self, now: float, *, owner: str, slug: str, label: str = "") -> Session:
        """A version's session as readers are told of it, which may be late."""
        self.advance(now)
        return self._kernels.session(owner, slug, label, self.now, self.settings)

    def session_by_id(self, now: float, *, session_id: int) -> Session:
        """A session as it is."""
        self.advance(now)
        return self._kernels.session_by_id(session_id)

    def sessions(self, now: float) -> Sequence[Session]:
        """All sessions as they are, oldest first."""
        self.advance(now)
        return list(self._kernels.sessions.values())

    def open_sessions(self, now: float) -> Sequence[Session]:
        """Those that are queued or running, oldest first."""
        self.advance(now)
        return list(self._kernels.open_sessions())

    def due_sessions(self, now: float) -> Sequence[Session]:
        """The queued sessions that a driver should start now."""
        self.advance(now)
        return [
            session
            for session in self._kernels.open_sessions()
            if session.status is SessionStatus.QUEUED and session.due_at <= self.now
        ]

    def version_of_session(self, now: float, *, session_id: int) -> KernelVersion:
        """What an open session is to run."""
        self.advance(now)
        return self._kernels.version_of(self._kernels.session_by_id(session_id))

    def start_session(self, now: float, *, session_id: int, twist: Twist | None = None) -> Session:
        """A machine was found: resolve what is mounted, and begin to bill."""
        self.advance(now)
        twist = _one_of(START_TWISTS, twist)
        session = self._kernels.sessions[session_id]
        version = self._kernels.version_of(session)
        is_plain = twist is Twist.NO_ACCELERATOR
        accelerator = Accelerator.CPU if is_plain else session.accelerator
        layout: Layout = self.settings.layout or self._draw_layout()
        limit_seconds = quota.session_limit_seconds(
            version.push.timeout_seconds,
            accelerator,
            self.settings,
            self._kernels.quota(accelerator, self.settings, self.now),
        )
        return self._kernels.start(
            session,
            now=self.now,
            accelerator=accelerator,
            limit_seconds=limit_seconds,
            layout=layout,
            machine=machine_for(version.push, accelerator, self.settings),
            mounts=tuple(self._mounts(version, layout, is_old=twist is Twist.OLD_MOUNTS)),
        )

    def end_session(
        self,
        now: float,
        *,
        session_id: int,
        ending: Ending,
        files: Sequence[File] = (),
        log_key: str = "",
        ended_at: float | None = None,
        twist: Twist | None = None,
    ) -> Session:
        """The driver reports how a session ended; `ended_at` if it learned of it late."""
        self.advance(now)
        return self._kernels.end(
            session_id,
            ended_at=self.now if ended_at is None else min(ended_at, self.now),
            ending=Ending(ending),
            settings=self.settings,
            twist=_one_of(END_TWISTS, twist),
            outputs=sorted(File(*file) for file in files),
            log_key=log_key,
        )

    def cancel_session(self, now: float, *, session_id: int) -> None:
        """Refuse: no token that can be had may do this, and no call tells a session's number."""
        self.advance(now)
        raise denied("kernelSessions.cancel")

    def quotas(self, now: float) -> tuple[float, Quota, Quota]:
        """When quotas are next reset, and this week's GPU and TPU quota."""
        self.advance(now)
        gpu, tpu = (
            self._kernels.quota(accelerator, self.settings, self.now)
            for accelerator in (Accelerator.GPU, Accelerator.TPU)
        )
        return quota.refresh_at(self.now), gpu, tpu

    # Datasets

    def start_upload(self, now: float, *, name: str, size_bytes: int) -> Upload:
        self._check_writing("datasets.update")
        self.advance(now)
        return self._datasets.start_upload(
            name, size_bytes, now=self.now, settings=self.settings, rng=self._rng
        )

    def upload(self, now: float, *, upload_id: str) -> Upload:
        self.advance(now)
        return self._datasets.upload(upload_id, self.now)

    def finish_upload(self, now: float, *, upload_id: str, files: Sequence[File]) -> Upload:
        """All bytes arrived; `files` are what they are stored as, several for an archive."""
        self.advance(now)
        return self._datasets.finish_upload(upload_id, [File(*file) for file in files], self.now)

    def create_dataset(
        self, now: float, *, draft: Draft, files: Sequence[NewFile], twist: Twist | None = None
    ) -> Published:
        self._check_writing("datasets.create")
        self.advance(now)
        if draft.owner != self.settings.username:
            raise denied("datasets.create")
        return self._datasets.create(
            draft,
            [NewFile(*file) for file in files],
            now=self.now,
            settings=self.settings,
            twist=_one_of(PUBLISH_TWISTS, twist),
        )

    def create_dataset_version(
        self,
        now: float,
        *,
        owner: str,
        slug: str,
        notes: str,
        files: Sequence[NewFile],
        delete_old_versions: bool = False,
        twist: Twist | None = None,
    ) -> Published:
        """Publish a full snapshot; readers keep seeing the previous version for a while."""
        self._check_writing("datasets.update")
        self.advance(now)
        return self._datasets.create_version(
            (owner, slug),
            [NewFile(*file) for file in files],
            notes=notes,
            delete_old_versions=delete_old_versions,
            now=self.now,
            settings=self.settings,
            twist=_one_of(PUBLISH_TWISTS, twist),
        )

    def update_dataset(self, now: float, *, draft: Draft) -> None:
        """Replace what is said about a dataset: title, licence, whether it is private."""
        self._check_writing("datasets.update")
        self.advance(now)
        self._datasets.update(draft, self.now)

    def delete_dataset(self, now: float, *, owner: str, slug: str) -> None:
        """Remove a dataset; nobody can have its slug or title again."""
        self._check_writing("datasets.delete")
        self.advance(now)
        self._datasets.delete(owner, slug, self.now)

    def dataset(self, now: float, *, owner: str, slug: str) -> Dataset:
        self.advance(now)
        return self._datasets.dataset(owner, slug, self.now)

    def datasets(self, now: float) -> Sequence[Dataset]:
        """All datasets that can be seen, the last published first."""
        self.advance(now)
        return self._datasets.datasets(self.now)

    def dataset_versions(self, now: float, *, owner: str, slug: str) -> Sequence[SeenVersion]:
        """The versions that can be seen, the newest first."""
        self.advance(now)
        return self._datasets.versions(owner, slug, self.now)

    def dataset_status(self, now: float, *, owner: str, slug: str) -> DatasetStatus:
        self.advance(now)
        return self._datasets.status(owner, slug, self.now)

    def dataset_version(
        self, now: float, *, owner: str, slug: str, number: int = 0
    ) -> DatasetVersion:
        """A ready version, for reading its files: the one numbered so, or the latest."""
        self.advance(now)
        return self._datasets.version(owner, slug, self.now, number)

    def stored_version(self, now: float, *, dataset_id: int, number: int) -> DatasetVersion:
        """A version by the numbers in a link to its files."""
        self.advance(now)
        return self._datasets.stored(dataset_id, number)

    # Truth

    def dump(self, now: float) -> dict[str, Any]:
        """Everything there is, also what no call of the platform's API would show."""
        self.advance(now)
        refresh_at, gpu, tpu = self.quotas(now)
        return {
            "now": self.now,
            "kernels": self._kernels.dump(),
            "sessions": [asdict(session) for session in self._kernels.sessions.values()],
            "datasets": self._datasets.dump(self.now),
            "uploads": [asdict(upload) for upload in self._datasets.uploads.values()],
            "quota": {"refresh_at": refresh_at, "gpu": asdict(gpu), "tpu": asdict(tpu)},
        }

    def _check_writing(self, permission: str) -> None:
        if not self.settings.token_can_write:
            raise denied(permission)

    def _ready_version(self, ref: str) -> int:
        ready = self._datasets.mountable(ref, self.now)
        return ready.number if ready else 0

    def _draw_layout(self) -> Layout:
        return self._rng.choice(LAYOUTS)

    def _mounts(self, version: KernelVersion, layout: Layout, *, is_old: bool) -> Iterator[Mount]:
        """Datasets at the version that was ready at the push, kernels at their complete one.

        A dataset of which none was ready then is mounted as it is at the start.
        """
        for ref, newest in zip(version.dataset_sources, version.dataset_versions, strict=True):
            ready = self._datasets.mountable(ref, self.now, newest=newest, skip=int(is_old))
            if ready is not None:
                path = f"datasets/{ref}" if layout == "new" else ref.split("/")[1]
                yield Mount(path, ref, ready.number, ready.files)
        for ref in version.kernel_sources:
            owner, slug = ref.split("/")
            complete = self._kernels.latest_complete(owner, slug)
            if complete is not None:
                path = f"notebooks/{ref}" if layout == "new" else slug
                yield Mount(path, ref, complete.version, complete.outputs, complete.session_id)


def _one_of(allowed: frozenset[Twist], twist: Twist | None) -> Twist | None:
    """A twist as the operation knows it; a record of the world spells it as text."""
    if twist is None:
        return None
    twist = Twist(twist)
    if twist not in allowed:
        raise ValueError(f"{twist} is none of {sorted(allowed)}")
    return twist
