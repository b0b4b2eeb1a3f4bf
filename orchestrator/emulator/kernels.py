"""Kernels, their versions and sessions: rules and state, no I/O and no clock.

Sources are checked and mounts resolved by asking the caller, because they also concern
datasets. A refused call changes nothing.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestrator.emulator import quota
from orchestrator.emulator.records import (
    STATUS_OF_ENDING,
    Accelerator,
    Ending,
    File,
    Kernel,
    KernelVersion,
    Machine,
    Mount,
    Push,
    Pushed,
    Quota,
    Refusal,
    Session,
    SessionStatus,
    Twist,
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
LONG_QUEUE_SECONDS = 6 * 3600.0  # hours at busy times
LONG_WEDGE_SECONDS = 2 * 3600.0
ENDING_OF_TWIST: Mapping[Twist, Ending] = {
    Twist.VANISH: Ending.VANISHED,
    Twist.CANCEL: Ending.CANCELLED,
    Twist.OUT_OF_MEMORY: Ending.OUT_OF_MEMORY,
}

_Name = tuple[str, str]


def slug_of_title(title: str) -> str:
    """The slug that Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def accelerator_of(push: Push) -> Accelerator:
    if push.enable_tpu or push.machine_shape.startswith("Tpu"):
        return Accelerator.TPU
    if push.enable_gpu or push.machine_shape.startswith("Nvidia"):
        return Accelerator.GPU
    return Accelerator.CPU


def _has_picture(text: str) -> bool:
    return any(unicodedata.category(letter) == "So" for letter in text)


def source_without_pin(source: str) -> str:
    """`owner/slug` of `owner/slug/3`: the server forgets the version that was asked for."""
    return "/".join(source.split("/")[:2])


class Kernels:
    """All kernels of this Kaggle, and the sessions that run their versions."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.meter = quota.Meter()
        self._kernels: dict[_Name, Kernel] = {}
        self._versions: dict[_Name, list[KernelVersion]] = {}
        self._names: dict[int, _Name] = {}  # by kernel id; deleted ones too
        self._titles: dict[str, _Name] = {}
        self._open: dict[int, Session] = {}

    # Reading

    def kernel(self, owner: str, slug: str, now: float) -> Kernel:
        """A kernel as readers see it: nothing newer than its latest visible version."""
        latest = next(self._visible((owner, slug), now), None)
        if latest is None:  # a slug that carries a version ends here too
            raise denied("kernels.get")
        kernel = self._kernels[owner, slug]
        return kernel if kernel.latest is latest else replace(kernel, latest=latest)

    def kernels(self, now: float) -> Sequence[Kernel]:
        """All that can be seen, the last pushed first."""
        seen = [self.kernel(*name, now) for name in self._kernels if self._is_visible(name, now)]
        return sorted(seen, key=lambda kernel: -kernel.latest.created_at)

    def version(self, owner: str, slug: str, label: str, now: float) -> KernelVersion:
        """The version named by `v<N>`; the latest for no label."""
        latest = self.kernel(owner, slug, now).latest
        if not label:
            return latest
        match = _VERSION_LABEL.fullmatch(label)
        if match is None or int(match[1]) > latest.number:
            raise Refusal(404, f"Kernel version '{label}' was not found")
        return self._versions[owner, slug][int(match[1]) - 1]

    def session(self, owner: str, slug: str, label: str, now: float, settings: Settings) -> Session:
        """The session that runs, or ran, a version, as readers are told of it."""
        version = self.version(owner, slug, label, now)
        if not label and now < version.created_at + settings.status_stale_seconds:
            version = self._versions[owner, slug][max(0, version.number - 2)]
        if version.session_id is None:
            raise Refusal(404, "No session was found for this kernel version")
        return _as_told(self.sessions[version.session_id], now)

    def session_by_id(self, session_id: int) -> Session:
        if session_id not in self.sessions:
            raise Refusal(404, "Session not found")
        return self.sessions[session_id]

    def version_of(self, session: Session) -> KernelVersion:
        """What a session that is open runs."""
        if not session.is_open:  # its kernel may be gone
            raise Refusal(404, "The session has ended")
        return self._versions[session.owner, session.slug][session.version - 1]

    def latest_complete(self, owner: str, slug: str) -> Session | None:
        """What other kernels see of this one: its newest complete version's session."""
        for version in reversed(self._versions.get((owner, slug), ())):
            session = self.sessions.get(version.session_id or 0)
            if session is not None and session.status is SessionStatus.COMPLETE:
                return session
        return None

    def open_sessions(self) -> Iterable[Session]:
        return self._open.values()

    def dump(self) -> list[dict[str, Any]]:
        return [
            {
                **asdict(kernel),
                "latest": kernel.latest.number,
                "versions": [asdict(version) for version in self._versions[name]],
            }
            for name, kernel in self._kernels.items()
        ]

    def _visible(self, name: _Name, now: float) -> Iterator[KernelVersion]:
        return (v for v in reversed(self._versions.get(name, ())) if v.visible_at <= now)

    def _is_visible(self, name: _Name, now: float) -> bool:
        return next(self._visible(name, now), None) is not None

    # Pushing

    def save(
        self,
        push: Push,
        *,
        now: float,
        settings: Settings,
        has_dataset: Callable[[str], bool],
        ready_version: Callable[[str], int],
        twist: Twist | None,
    ) -> Pushed:
        """Make a version of `push`, and queue its session."""
        name, title = self._target(push)
        _check_form(push)
        push = _as_provided(push, settings)
        if push.runs:
            self._check_capacity(accelerator_of(push), settings, now)
        if twist is Twist.LAND_ELSEWHERE:
            name, title = (name[0], f"{name[1]}-2"), f"{title} 2"
        if twist is Twist.DROP_SOURCES:
            has_dataset = _nothing_exists
        good_datasets, bad_datasets = _sort_sources(push.dataset_sources, has_dataset)
        good_kernels, bad_kernels = _sort_sources(
            push.kernel_sources, lambda ref: self._is_other_kernel(ref, name)
        )
        number = len(self._versions.get(name, ())) + 1
        due_at = now + (LONG_QUEUE_SECONDS if twist is Twist.QUEUE_LONG else settings.queue_seconds)
        kernel = self._add(
            name,
            title,
            KernelVersion(
                number=number,
                push=replace(push, owner=name[0], slug=name[1]),
                created_at=now,
                visible_at=now + settings.kernel_visible_seconds,
                dataset_sources=good_datasets,
                dataset_versions=tuple(map(ready_version, good_datasets)),
                kernel_sources=good_kernels,
                session_id=self._queue(name, number, push, now, due_at) if push.runs else None,
            ),
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

    def _add(self, name: _Name, title: str, version: KernelVersion) -> Kernel:
        known = self._kernels.get(name)
        kernel_id = known.kernel_id if known else _FIRST_KERNEL_ID + len(self._names)
        if known and title != known.title:
            self._titles.pop(known.title, None)
        kernel = Kernel(kernel_id, *name, title, version)
        self._kernels[name] = kernel
        self._versions.setdefault(name, []).append(version)
        self._names[kernel_id] = name
        self._titles[title] = name
        return kernel

    def _is_other_kernel(self, ref: str, name: _Name) -> bool:
        owner, _, slug = ref.partition("/")
        return (owner, slug) in self._kernels and (owner, slug) != name

    def _target(self, push: Push) -> tuple[_Name, str]:
        """The name and title of the kernel that a push is for: an existing one, or a new one."""
        name = (push.owner, push.slug)
        if push.kernel_id:
            name = self._names.get(push.kernel_id, ("", ""))
        if push.title and not 5 <= len(push.title) <= 50:
            raise Refusal(200, "The title must be between 5 and 50 characters long")
        if self._titles.get(push.title, name) != name:
            raise Refusal(409, f"The title '{push.title}' is already in use by a notebook")
        existing = self._kernels.get(name)
        if existing is not None:
            return name, push.title or existing.title
        is_new = not push.kernel_id and slug_of_title(push.title) == push.slug
        if not is_new or not push.slug[:1].isalpha() or _has_picture(push.title):
            raise Refusal(200, "Notebook not found")
        return name, push.title

    def _check_capacity(self, accelerator: Accelerator, settings: Settings, now: float) -> None:
        limits = {
            Accelerator.CPU: settings.cpu_sessions,
            Accelerator.GPU: settings.gpu_sessions,
        }
        limit = limits.get(accelerator)
        running = sum(1 for session in self.open_sessions() if session.accelerator is accelerator)
        if limit is not None and running >= limit:
            raise Refusal(200, f"Maximum batch {accelerator} session count of {limit} reached.")
        text = quota.refusal_text(self.quota(accelerator, settings, now), accelerator)
        if accelerator is not Accelerator.CPU and text is not None:
            raise Refusal(200, text)

    def quota(self, accelerator: Accelerator, settings: Settings, now: float) -> Quota:
        return self.meter.measure(accelerator, self.open_sessions(), settings, now)

    def _queue(self, name: _Name, number: int, push: Push, now: float, due_at: float) -> int:
        session_id = _FIRST_SESSION_ID + len(self.sessions)
        session = Session(session_id, *name, number, accelerator_of(push), now, due_at)
        self.sessions[session_id] = self._open[session_id] = session
        return session_id

    # Running

    def start(
        self,
        session: Session,
        *,
        now: float,
        accelerator: Accelerator,
        limit_seconds: float,
        layout: Layout,
        machine: Machine,
        mounts: tuple[Mount, ...],
    ) -> Session:
        assert session.status is SessionStatus.QUEUED, f"{session} has started already"
        started = replace(
            session,
            status=SessionStatus.RUNNING,
            accelerator=accelerator,
            started_at=now,
            limit_seconds=limit_seconds,
            layout=layout,
            machine=machine,
            mounts=mounts,
        )
        self.meter.start(accelerator)
        self.sessions[session.session_id] = self._open[session.session_id] = started
        return started

    def end(
        self,
        session_id: int,
        *,
        ended_at: float,
        ending: Ending,
        settings: Settings,
        twist: Twist | None = None,
        outputs: Sequence[File] = (),
        log_key: str = "",
    ) -> Session:
        session = self.sessions[session_id]
        if not session.is_open:  # its kernel was deleted while the driver collected
            return session
        ending = ENDING_OF_TWIST.get(twist, ending) if twist else ending
        status, message = STATUS_OF_ENDING[ending]
        if twist is Twist.REPORT_CANCELLED:
            status, message = STATUS_OF_ENDING[Ending.CANCELLED]
        survive = ending is Ending.COMPLETE or ending in settings.outputs_survive
        keeps_log = ending is not Ending.CANCELLED and twist is not Twist.LOSE_LOG
        wedged = LONG_WEDGE_SECONDS if twist is Twist.WEDGE else 0.0
        reported_at = ended_at + wedged + settings.end_reported_seconds
        ended = replace(
            session,
            status=status,
            failure_message=message,
            ended_at=ended_at,
            ending=ending,
            outputs=tuple(outputs) if survive and twist is not Twist.LOSE_OUTPUTS else (),
            log_key=log_key if keeps_log else "",
            reported_at=reported_at,
            listed_at=reported_at + settings.outputs_listed_seconds,
            logged_at=reported_at + settings.log_written_seconds,
        )
        self.meter.end(session, ended_at)
        self.sessions[session_id] = ended
        del self._open[session_id]
        return ended

    def delete(self, owner: str, slug: str, now: float, settings: Settings) -> None:
        """Remove a kernel with all its versions; what runs of it is stopped at once."""
        title = self.kernel(owner, slug, now).title
        for session in list(self.open_sessions()):
            if (session.owner, session.slug) == (owner, slug):
                self.end(
                    session.session_id, ended_at=now, ending=Ending.CANCELLED, settings=settings
                )
        del self._kernels[owner, slug], self._versions[owner, slug], self._titles[title]


def _as_told(session: Session, now: float) -> Session:
    """What readers are told of a session: its end, its outputs and its log may come late."""
    if session.is_open or now >= max(session.listed_at, session.logged_at):
        return session
    if now < session.reported_at:
        return replace(
            session, status=SessionStatus.RUNNING, failure_message="", outputs=(), log_key=""
        )
    shown = len(session.outputs)
    if now < session.listed_at:
        share = (now - session.reported_at) / (session.listed_at - session.reported_at)
        shown = int(share * shown)
    log_key = session.log_key if now >= session.logged_at else ""
    return replace(session, outputs=session.outputs[:shown], log_key=log_key)


def _as_provided(push: Push, settings: Settings) -> Push:
    """What an account gets of what it asks for: an unverified one less, without a word."""
    if settings.phone_verified:
        return push
    return replace(
        push, enable_gpu=False, enable_tpu=False, machine_shape="", enable_internet=False
    )


def _nothing_exists(_ref: str) -> bool:
    return False


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
