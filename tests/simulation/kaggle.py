"""The emulator's rules behind `port.Kaggle`, in process: refusals become the port's outcomes."""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.emulator.records import DatasetStatus, Draft, Push, Refusal
from orchestrator.kaggle.port import (
    DatasetInfo,
    DatasetVersion,
    Done,
    Gone,
    KernelInfo,
    LandedBad,
    OutputFile,
    PublishRequest,
    Pushed,
    PushRequest,
    Refused,
    SessionInfo,
    Sink,
    Trouble,
)
from orchestrator.model import Quota, SessionStatus
from tests.simulation.host import OWNER, Host
from tests.simulation.invariants import content_of

LATENCY_SECONDS = 0.5  # of every call
_TROUBLES = {401: Trouble.AUTH, 403: Trouble.AUTH, 429: Trouble.RATE}


class SimulatedKaggle:
    """Implements `port.Kaggle`; `user` is the account that the credential belongs to."""

    def __init__(self, host: Host) -> None:
        self.host, self.user = host, OWNER
        self.has_told_user = False  # to the controller that runs now

    # Mutations

    def push(self, request: PushRequest) -> Done[Pushed] | Refused | LandedBad:
        self._spend_time()
        self.host.ask("push", request.kernel)
        push = Push(
            owner=OWNER,
            slug=request.kernel,
            title=request.title,
            source=request.source,
            kernel_type="notebook",
            enable_gpu=request.machine_shape is not None,
            enable_internet=request.enable_internet,
            machine_shape=request.machine_shape or "",
            timeout_seconds=request.session_timeout_seconds,
            dataset_sources=request.dataset_sources,
        )
        try:
            saved = self.host.save(push)
        except Refusal as refusal:
            return _refused(refusal)
        if saved.slug != request.kernel:
            return LandedBad(None, f"Kaggle saved the kernel as {saved.slug!r} instead")
        if saved.invalid_dataset_sources:
            return LandedBad(saved.version, "the session runs without its input")
        return Done(Pushed(saved.version, f"https://kaggle.test/{request.kernel}"))

    def create_dataset(self, request: PublishRequest) -> Done[None] | Refused:
        draft = Draft(OWNER, request.dataset, request.title, description=request.notes)
        return self._publish(request, lambda contents: self.host.create(draft, contents))

    def publish_version(self, request: PublishRequest) -> Done[None] | Refused:
        return self._publish(
            request, lambda contents: self.host.publish(request.dataset, request.notes, contents)
        )

    # Reads

    def identity(self) -> str:
        self._spend_time()
        self.has_told_user = True
        return self.user

    def kernel(self, kernel: str, version: int | None = None) -> KernelInfo | Gone:
        def read(now: float) -> KernelInfo:
            world, label = self.host.world, _label(version)
            found = world.kernel(now, owner=OWNER, slug=kernel)
            asked = world.kernel_version(now, owner=OWNER, slug=kernel, label=label)
            return KernelInfo(found.latest.number, asked.push.source, asked.push.is_private)

        return self._read(read)

    def session(self, kernel: str, version: int) -> SessionInfo | Gone:
        def read(now: float) -> SessionInfo:
            found = self.host.world.session(now, owner=OWNER, slug=kernel, label=_label(version))
            return SessionInfo(SessionStatus(found.status.value.lower()), found.failure_message)

        return self._read(read)

    def outputs(self, kernel: str, version: int) -> tuple[OutputFile, ...] | Gone:
        def read(now: float) -> tuple[OutputFile, ...]:
            world = self.host.world
            found = world.session(now, owner=OWNER, slug=kernel, label=_label(version))
            expiry = f" {now + world.settings.output_url_seconds}"
            return tuple(OutputFile(f.name, f.key + expiry) for f in found.outputs)

        return self._read(read)

    def log(self, kernel: str, version: int) -> str | Gone:
        found = self.session(kernel, version)
        return found if isinstance(found, Gone) else "[]"

    def download(self, file: OutputFile, sink: Sink, limit_bytes: int) -> int | Gone:
        self._spend_time()
        key, _, expires_at = file.url.partition(" ")
        if self.host.now > float(expires_at):
            return Gone("HTTP 403 for an output file")
        content = self.host.content(key)
        assert len(content) <= limit_bytes
        if sink.size_bytes > len(content):
            sink.restart()
        sink.write(content[sink.size_bytes :])
        return sink.size_bytes

    def dataset(self, dataset: str) -> DatasetInfo | Gone:
        def read(now: float) -> DatasetInfo:
            world = self.host.world
            found = world.dataset(now, owner=OWNER, slug=dataset)
            status = world.dataset_status(now, owner=OWNER, slug=dataset)
            versions = world.dataset_versions(now, owner=OWNER, slug=dataset)[::-1]
            return DatasetInfo(
                current_version=found.current.number,
                is_private=found.draft.is_private,
                is_ready=status is DatasetStatus.READY,
                has_failed=status is DatasetStatus.FAILED
                or self.host.has_failed(found.current.number),
                versions=tuple(
                    DatasetVersion(seen.version.number, seen.version.notes) for seen in versions
                ),
            )

        return self._read(read)

    def dataset_files(self, dataset: str, version: int) -> Mapping[str, int] | Gone:
        def read(now: float) -> Mapping[str, int]:
            world = self.host.world
            found = world.dataset_version(now, owner=OWNER, slug=dataset, number=version)
            return {file.name: len(self.host.content(file.key)) for file in found.files}

        return self._read(read)

    def dataset_file(self, dataset: str, version: int, name: str, limit_bytes: int) -> bytes | Gone:
        def read(now: float) -> bytes:
            world = self.host.world
            found = world.dataset_version(now, owner=OWNER, slug=dataset, number=version)
            keys = {file.name: file.key for file in found.files}
            if name not in keys:
                raise Refusal(404, f"File '{name}' was not found")
            content = self.host.content(keys[name])
            assert len(content) <= limit_bytes
            return content

        return self._read(read)

    def dataset_address(self, dataset: str, version: int, name: str) -> OutputFile | Gone:
        def read(now: float) -> OutputFile:
            world = self.host.world
            found = world.dataset_version(now, owner=OWNER, slug=dataset, number=version)
            keys = {file.name: file.key for file in found.files}
            if name not in keys:
                raise Refusal(404, f"File '{name}' was not found")
            return OutputFile(name, f"{keys[name]} {now + world.settings.output_url_seconds}")

        return self._read(read)

    def quota(self) -> Quota:
        self._spend_time()
        refresh_at, gpu, _tpu = self.host.world.quotas(self.host.now)
        return Quota(gpu.used_seconds, gpu.reserved_seconds, gpu.total_seconds, refresh_at)

    def _spend_time(self) -> None:
        self.host.clock.advance(LATENCY_SECONDS)

    def _read(self, read: Callable[[float], Any]) -> Any:
        self._spend_time()
        try:
            return read(self.host.now)
        except Refusal as refusal:
            return Gone(refusal.message)

    def _publish(
        self, request: PublishRequest, make: Callable[[Mapping[str, bytes]], None]
    ) -> Done[None] | Refused:
        self._spend_time()
        self.host.ask("publish", request.dataset)
        try:
            make({name: content_of(f"{request.folder}/{name}") for name in request.files})
        except Refusal as refusal:
            if refusal.status == 403:  # as the client's adapter reads it
                return Refused(Trouble.BUSY, refusal.message)
            return _refused(refusal)
        return Done(None)


def _refused(refusal: Refusal) -> Refused:
    if "session count" in refusal.message:
        return Refused(Trouble.CAPACITY, refusal.message)
    if "quota" in refusal.message:
        return Refused(Trouble.QUOTA, refusal.message)
    return Refused(_TROUBLES.get(refusal.status, Trouble.INVALID), refusal.message)


def _label(version: int | None) -> str:
    return "" if version is None else f"v{version}"
