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
from orchestrator.emulator.kernels import Kernels, accelerator_of
from orchestrator.emulator.records import (
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
    Push,
    Pushed,
    Quota,
    Session,
    SessionStatus,
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
            "start_session",
            "end_session",
            "start_upload",
            "finish_upload",
            "create_dataset",
            "create_dataset_version",
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
        self._datasets.advance(self.now)

    def next_due_at(self, now: float) -> float | None:
        """When something will next happen by itself, if nobody does anything."""
        self.advance(now)
        queued = [s.due_at for s in self._kernels.open_sessions() if s.started_at is None]
        due = self._datasets.next_due_at()
        return min([*queued, *([] if due is None else [due])], default=None)

    def configure(self, now: float, *, settings: Settings) -> None:
        """Go on under other settings; what is under way keeps the times it was given."""
        self.advance(now)
        if settings.seed != self.settings.seed:
            self._rng = Random(settings.seed)  # noqa: S311
        self.settings = settings

    # Kernels

    def save_kernel(self, now: float, *, push: Push) -> Pushed:
        """Save a version and queue its session."""
        self.advance(now)
        if not push.kernel_id and push.owner != self.settings.username:
            raise denied("kernels.update")
        return self._kernels.save(
            push,
            now=self.now,
            settings=self.settings,
            quota_now=self._quota(accelerator_of(push)),
            has_dataset=self._datasets.is_visible,
        )

    def kernel(self, now: float, *, owner: str, slug: str) -> Kernel:
        self.advance(now)
        return self._kernels.kernel(owner, slug)

    def kernels(self, now: float) -> Sequence[Kernel]:
        """All kernels, the last pushed first."""
        self.advance(now)
        return sorted(self._kernels.kernels.values(), key=lambda k: -k.latest.created_at)

    def kernel_version(
        self, now: float, *, owner: str, slug: str, label: str = ""
    ) -> KernelVersion:
        self.advance(now)
        return self._kernels.version(owner, slug, label)

    def session(self, now: float, *, owner: str, slug: str, label: str = "") -> Session:
        self.advance(now)
        return self._kernels.session(owner, slug, label)

    def session_by_id(self, now: float, *, session_id: int) -> Session:
        self.advance(now)
        return self._kernels.session_by_id(session_id)

    def sessions(self, now: float) -> Sequence[Session]:
        """All sessions, oldest first."""
        self.advance(now)
        return list(self._kernels.sessions.values())

    def due_sessions(self, now: float) -> Sequence[Session]:
        """The queued sessions that a driver should start now."""
        self.advance(now)
        return [
            session
            for session in self._kernels.open_sessions()
            if session.status is SessionStatus.QUEUED and session.due_at <= self.now
        ]

    def start_session(self, now: float, *, session_id: int) -> Session:
        """A machine was found: resolve what is mounted, and begin to bill."""
        self.advance(now)
        session = self._kernels.sessions[session_id]
        version = self._kernels.version(session.owner, session.slug, f"v{session.version}")
        layout: Layout = self.settings.layout or self._draw_layout()
        limit_seconds = quota.session_limit_seconds(
            version.push.timeout_seconds,
            session.accelerator,
            self.settings,
            self._quota(session.accelerator),
        )
        return self._kernels.start(
            session_id,
            now=self.now,
            limit_seconds=limit_seconds,
            layout=layout,
            mounts=tuple(self._mounts(version, layout)),
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
    ) -> Session:
        """The driver reports how a session ended; `ended_at` if it learned of it late."""
        self.advance(now)
        ending = Ending(ending)
        survives = ending is Ending.COMPLETE or ending in self.settings.outputs_survive
        return self._kernels.end(
            session_id,
            ended_at=self.now if ended_at is None else min(ended_at, self.now),
            ending=ending,
            outputs=sorted(File(*file) for file in files) if survives else (),
            log_key="" if ending is Ending.CANCELLED else log_key,
        )

    def quotas(self, now: float) -> tuple[float, Quota, Quota]:
        """When quotas are next reset, and this week's GPU and TPU quota."""
        self.advance(now)
        refresh_at = quota.refresh_at(self.now)
        return refresh_at, self._quota(Accelerator.GPU), self._quota(Accelerator.TPU)

    # Datasets

    def start_upload(self, now: float, *, name: str, size_bytes: int) -> Upload:
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

    def create_dataset(self, now: float, *, draft: Draft, files: Sequence[NewFile]) -> Dataset:
        self.advance(now)
        if draft.owner != self.settings.username:
            raise denied("datasets.create")
        new_files = [NewFile(*file) for file in files]
        return self._datasets.create(draft, new_files, now=self.now, settings=self.settings)

    def create_dataset_version(
        self,
        now: float,
        *,
        owner: str,
        slug: str,
        notes: str,
        files: Sequence[NewFile],
        delete_old_versions: bool = False,
    ) -> Dataset:
        """Publish a full snapshot; readers keep seeing the previous version for a while."""
        self.advance(now)
        return self._datasets.create_version(
            (owner, slug),
            [NewFile(*file) for file in files],
            notes=notes,
            delete_old_versions=delete_old_versions,
            now=self.now,
            settings=self.settings,
        )

    def dataset(self, now: float, *, owner: str, slug: str) -> Dataset:
        self.advance(now)
        return self._datasets.dataset(owner, slug)

    def dataset_by_id(self, now: float, *, dataset_id: int) -> Dataset:
        self.advance(now)
        return self._datasets.by_id(dataset_id)

    def datasets(self, now: float) -> Sequence[Dataset]:
        """All datasets that can be seen, the last published first."""
        self.advance(now)
        seen = [dataset for dataset in self._datasets.datasets.values() if dataset.current]
        return sorted(seen, key=lambda dataset: -dataset.visible[-1].created_at)

    def dataset_status(self, now: float, *, owner: str, slug: str) -> DatasetStatus:
        self.advance(now)
        return self._datasets.status(owner, slug)

    def dataset_version(
        self, now: float, *, owner: str, slug: str, number: int = 0
    ) -> DatasetVersion:
        """A ready version, for reading its files: the one numbered so, or the latest."""
        self.advance(now)
        return self._datasets.version(owner, slug, number)

    # Truth

    def dump(self, now: float) -> dict[str, Any]:
        """Everything there is, also what no call of the platform's API would show."""
        self.advance(now)
        refresh_at, gpu, tpu = self.quotas(now)
        return {
            "now": self.now,
            "kernels": [asdict(kernel) for kernel in self._kernels.kernels.values()],
            "sessions": [asdict(session) for session in self._kernels.sessions.values()],
            "datasets": [asdict(dataset) for dataset in self._datasets.datasets.values()],
            "uploads": [asdict(upload) for upload in self._datasets.uploads.values()],
            "quota": {"refresh_at": refresh_at, "gpu": asdict(gpu), "tpu": asdict(tpu)},
        }

    def _quota(self, accelerator: Accelerator) -> Quota:
        sessions = self._kernels.sessions.values()
        return quota.measure(sessions, accelerator, self.settings, self.now)

    def _draw_layout(self) -> Layout:
        return self._rng.choice(LAYOUTS)

    def _mounts(self, version: KernelVersion, layout: Layout) -> Iterator[Mount]:
        """Datasets at their latest ready version, kernels at their latest complete one."""
        for ref in version.dataset_sources:
            owner, slug = ref.split("/")
            ready = self._datasets.latest_ready(owner, slug)
            if ready is not None:
                path = f"datasets/{ref}" if layout == "new" else slug
                yield Mount(path, ref, ready.number, ready.files)
        for ref in version.kernel_sources:
            owner, slug = ref.split("/")
            complete = self._kernels.latest_complete(owner, slug)
            if complete is not None:
                path = f"notebooks/{ref}" if layout == "new" else slug
                yield Mount(path, ref, complete.version, complete.outputs)
