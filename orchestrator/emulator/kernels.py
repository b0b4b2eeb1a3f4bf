"""Kernels, their versions and sessions: rules and state, no I/O and no clock.

Sources are checked and mounts resolved by asking the caller, because they also concern
datasets. A refused call changes nothing.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from orchestrator.emulator import quota
from orchestrator.emulator.records import (
    STATUS_OF_ENDING,
    Accelerator,
    Ending,
    File,
    Kernel,
    KernelVersion,
    Mount,
    Push,
    Pushed,
    Quota,
    Refusal,
    Session,
    SessionStatus,
    denied,
)
from orchestrator.emulator.settings import Layout, Settings

SOURCE_LIMIT_BYTES = 1024 * 1024
LANGUAGES = frozenset({"python", "r", "rmarkdown", "sqlite", "julia"})
KERNEL_TYPES = frozenset({"script", "notebook"})
MACHINE_SHAPES = frozenset(
    {
        "None",
        "NvidiaTeslaP100",
        "NvidiaTeslaT4",
        "NvidiaTeslaT4Highmem",
        "NvidiaTeslaA100",
        "NvidiaL4",
        "NvidiaL4X1",
        "NvidiaH100",
        "NvidiaRtxPro6000",
        "TpuV38",
        "Tpu1VmV38",
        "TpuV5E8",
        "TpuV6E8",
    }
)
_VERSION_LABEL = re.compile(r"v([1-9][0-9]{0,8})")
_FIRST_KERNEL_ID = 12345678
_FIRST_SESSION_ID = 200000001


def slug_of_title(title: str) -> str:
    """The slug that Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def accelerator_of(push: Push) -> Accelerator:
    if push.enable_tpu or push.machine_shape.startswith("Tpu"):
        return Accelerator.TPU
    if push.enable_gpu or push.machine_shape.startswith("Nvidia"):
        return Accelerator.GPU
    return Accelerator.CPU


def source_without_pin(source: str) -> str:
    """`owner/slug` of `owner/slug/3`: the server forgets the version that was asked for."""
    return "/".join(source.split("/")[:2])


class Kernels:
    """All kernels of this Kaggle, and the sessions that run their versions."""

    def __init__(self) -> None:
        self.kernels: dict[tuple[str, str], Kernel] = {}
        self.sessions: dict[int, Session] = {}
        self.open_ids: list[int] = []

    # Reading

    def kernel(self, owner: str, slug: str) -> Kernel:
        kernel = self.kernels.get((owner, slug))
        if kernel is None:  # a slug that carries a version ends here too
            raise denied("kernels.get")
        return kernel

    def version(self, owner: str, slug: str, label: str = "") -> KernelVersion:
        """The version named by `v<N>`; the latest for no label."""
        kernel = self.kernel(owner, slug)
        if not label:
            return kernel.latest
        match = _VERSION_LABEL.fullmatch(label)
        if match is None or int(match[1]) > len(kernel.versions):
            raise Refusal(404, f"Kernel version '{label}' was not found")
        return kernel.versions[int(match[1]) - 1]

    def session(self, owner: str, slug: str, label: str = "") -> Session:
        """The session that runs, or ran, a version."""
        session_id = self.version(owner, slug, label).session_id
        if session_id is None:
            raise Refusal(404, "No session was found for this kernel version")
        return self.sessions[session_id]

    def session_by_id(self, session_id: int) -> Session:
        if session_id not in self.sessions:
            raise Refusal(404, "Session not found")
        return self.sessions[session_id]

    def latest_complete(self, owner: str, slug: str) -> Session | None:
        """What other kernels see of this one: its newest complete version's session."""
        kernel = self.kernels.get((owner, slug))
        for version in reversed(kernel.versions if kernel else ()):
            session = self.sessions.get(version.session_id or 0)
            if session is not None and session.status is SessionStatus.COMPLETE:
                return session
        return None

    def open_sessions(self) -> Iterable[Session]:
        return (self.sessions[session_id] for session_id in self.open_ids)

    # Pushing

    def save(
        self,
        push: Push,
        *,
        now: float,
        settings: Settings,
        quota_now: Quota,
        has_dataset: Callable[[str], bool],
    ) -> Pushed:
        """Make a version of `push`, and queue its session."""
        kernel = self._target(push)
        _check_form(push)
        if push.runs:
            self._check_capacity(accelerator_of(push), settings, quota_now)
        number = len(kernel.versions) + 1
        good_datasets, bad_datasets = _sort_sources(push.dataset_sources, has_dataset)
        good_kernels, bad_kernels = _sort_sources(
            push.kernel_sources,
            lambda ref: self._is_other_kernel(ref, kernel),
        )
        version = KernelVersion(
            number=number,
            push=replace(push, owner=kernel.owner, slug=kernel.slug),
            created_at=now,
            dataset_sources=good_datasets,
            kernel_sources=good_kernels,
            session_id=self._queue(kernel, number, push, now, settings) if push.runs else None,
        )
        self.kernels[kernel.owner, kernel.slug] = replace(
            kernel, title=push.title or kernel.title, versions=(*kernel.versions, version)
        )
        return Pushed(
            owner=kernel.owner,
            slug=kernel.slug,
            kernel_id=kernel.kernel_id,
            version=number,
            invalid_dataset_sources=bad_datasets,
            invalid_kernel_sources=bad_kernels,
            invalid_competition_sources=push.competition_sources,
            invalid_model_sources=push.model_sources,
        )

    def _is_other_kernel(self, ref: str, kernel: Kernel) -> bool:
        owner, _, slug = ref.partition("/")
        return (owner, slug) in self.kernels and (owner, slug) != (kernel.owner, kernel.slug)

    def _target(self, push: Push) -> Kernel:
        """The kernel that a push is for: an existing one, or a new one without versions."""
        if push.kernel_id:
            for kernel in self.kernels.values():
                if kernel.kernel_id == push.kernel_id:
                    return kernel
            raise Refusal(200, "Notebook not found")
        self._check_title(push)
        existing = self.kernels.get((push.owner, push.slug))
        if existing is not None:
            return existing
        if slug_of_title(push.title) != push.slug or not push.slug[0].isalpha():
            raise Refusal(200, "Notebook not found")
        number = _FIRST_KERNEL_ID + len(self.kernels)
        return Kernel(number, push.owner, push.slug, push.title, ())

    def _check_title(self, push: Push) -> None:
        if push.title and not 5 <= len(push.title) <= 50:
            raise Refusal(200, "The title must be between 5 and 50 characters long")
        for kernel in self.kernels.values():
            if push.title == kernel.title and push.slug != kernel.slug:
                raise Refusal(409, f"The title '{push.title}' is already in use by a notebook")

    def _check_capacity(
        self, accelerator: Accelerator, settings: Settings, quota_now: Quota
    ) -> None:
        limits = {
            Accelerator.CPU: settings.cpu_sessions,
            Accelerator.GPU: settings.gpu_sessions,
        }
        limit = limits.get(accelerator)
        running = sum(1 for session in self.open_sessions() if session.accelerator is accelerator)
        if limit is not None and running >= limit:
            raise Refusal(200, f"Maximum batch {accelerator} session count of {limit} reached.")
        text = quota.refusal_text(quota_now, accelerator)
        if accelerator is not Accelerator.CPU and text is not None:
            raise Refusal(200, text)

    def _queue(
        self, kernel: Kernel, number: int, push: Push, now: float, settings: Settings
    ) -> int:
        session_id = _FIRST_SESSION_ID + len(self.sessions)
        self.sessions[session_id] = Session(
            session_id=session_id,
            owner=kernel.owner,
            slug=kernel.slug,
            version=number,
            accelerator=accelerator_of(push),
            queued_at=now,
            due_at=now + settings.queue_seconds,
        )
        self.open_ids.append(session_id)
        return session_id

    # Running

    def start(
        self,
        session_id: int,
        *,
        now: float,
        limit_seconds: float,
        layout: Layout,
        mounts: tuple[Mount, ...],
    ) -> Session:
        session = self.sessions[session_id]
        assert session.status is SessionStatus.QUEUED, f"session {session_id} has started already"
        started = replace(
            session,
            status=SessionStatus.RUNNING,
            started_at=now,
            limit_seconds=limit_seconds,
            layout=layout,
            mounts=mounts,
        )
        self.sessions[session_id] = started
        return started

    def end(
        self,
        session_id: int,
        *,
        ended_at: float,
        ending: Ending,
        outputs: Sequence[File],
        log_key: str,
    ) -> Session:
        session = self.sessions[session_id]
        assert session.is_open, f"session {session_id} has ended already"
        status, message = STATUS_OF_ENDING[ending]
        ended = replace(
            session,
            status=status,
            failure_message=message,
            ended_at=ended_at,
            ending=ending,
            outputs=tuple(outputs),
            log_key=log_key,
        )
        self.sessions[session_id] = ended
        self.open_ids.remove(session_id)
        return ended


def _check_form(push: Push) -> None:
    if len(push.source.encode()) > SOURCE_LIMIT_BYTES:
        raise Refusal(400, "The source is larger than 1 MB")
    if push.language not in LANGUAGES or push.kernel_type not in KERNEL_TYPES:
        raise Refusal(400, "A valid language and kernel type must be specified")
    if push.machine_shape and push.machine_shape not in MACHINE_SHAPES:
        raise Refusal(200, f"Invalid machine shape '{push.machine_shape}'")


def _sort_sources(
    sources: Iterable[str], exists: Callable[[str], bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    refs = {source: source_without_pin(source) for source in sources}
    good = dict.fromkeys(ref for ref in refs.values() if exists(ref))
    return tuple(good), tuple(source for source, ref in refs.items() if not exists(ref))
