"""The emulator's rules behind `port.Kaggle`, in process: the only file here that knows them.

Sessions are hosted by a table: each lasts as long as its script says and leaves what the body in
`session.py` makes of the mounted bytes. `pushes` and `versions` tell the truth about what landed.
"""

import dataclasses
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.emulator.records import (
    DatasetStatus,
    Draft,
    Ending,
    File,
    NewFile,
    Push,
    Refusal,
    Session,
)
from orchestrator.emulator.settings import Settings
from orchestrator.emulator.world import World
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
from tests.simulation import session as body
from tests.simulation.clock import VirtualClock
from tests.simulation.session import Script

OWNER = "local"
LATENCY_SECONDS = 0.5  # of every call
PLATFORM = Settings(
    username=OWNER,
    queue_seconds=15.0,
    dataset_visible_seconds=20.0,
    dataset_processing_seconds=120.0,
)
_TOKEN = re.compile(r"kc1\.[a-z2-7]{26}")
_TROUBLES = {401: Trouble.AUTH, 403: Trouble.AUTH, 429: Trouble.RATE}


@dataclass(frozen=True)
class TruePush:
    """A kernel version that landed, and the session it started."""

    token: str | None  # None: not pushed by a controller
    version: int
    parent: Mapping[str, Any] | None
    live_beside: int  # other sessions of controllers that were open when it landed
    ended: bool


@dataclass(frozen=True)
class TrueVersion:
    """A dataset version that landed, with its bytes."""

    number: int
    token: str | None
    files: Mapping[str, bytes]
    has_failed: bool


class SimulatedKaggle:
    """Implements `port.Kaggle` for one account whose dataset and kernel have given names."""

    def __init__(
        self,
        clock: VirtualClock,
        *,
        scripts: Mapping[int, Script] | None = None,
        script: Script | None = None,
        settings: Settings = PLATFORM,
    ) -> None:
        self.world = World(settings)
        self.scripts, self.script = dict(scripts or {}), script or Script()  # by kernel version
        self.on_landing: Callable[[str, str | None, Mapping[str, bytes]], None] | None = None
        self.user = OWNER
        self._clock = clock
        self._blobs: dict[str, bytes] = {}
        self._ends: dict[int, tuple[float, Ending]] = {}
        self._live_beside: dict[int, int] = {}
        self._failed_versions: set[int] = set()
        clock.listeners.append(self._catch_up)

    # The port: mutations

    def push(self, request: PushRequest) -> Done[Pushed] | Refused | LandedBad:
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
            pushed = self._save(push)
        except Refusal as refusal:
            return _refused(refusal)
        if pushed.invalid_dataset_sources:
            return LandedBad(pushed.version, "the session runs without its input")
        return Done(Pushed(pushed.version, f"https://kaggle.test/{request.kernel}"))

    def create_dataset(self, request: PublishRequest) -> Done[None] | Refused:
        draft = Draft(OWNER, request.dataset, request.title, description=request.notes)
        return self._publish(
            request,
            lambda files: self.world.create_dataset(self._now(), draft=draft, files=files),
        )

    def publish_version(self, request: PublishRequest) -> Done[None] | Refused:
        return self._publish(
            request,
            lambda files: self.world.create_dataset_version(
                self._now(), owner=OWNER, slug=request.dataset, notes=request.notes, files=files
            ),
        )

    # The port: reads

    def identity(self) -> str:
        self._spend_time()
        return self.user

    def kernel(self, kernel: str, version: int | None = None) -> KernelInfo | Gone:
        def read(now: float) -> KernelInfo:
            found = self.world.kernel(now, owner=OWNER, slug=kernel)
            asked = self.world.kernel_version(now, owner=OWNER, slug=kernel, label=_label(version))
            return KernelInfo(found.latest.number, asked.push.source, asked.push.is_private)

        return self._read(read)

    def session(self, kernel: str, version: int) -> SessionInfo | Gone:
        def read(now: float) -> SessionInfo:
            session = self.world.session(now, owner=OWNER, slug=kernel, label=_label(version))
            status = SessionStatus(session.status.value.lower())
            return SessionInfo(status, session.failure_message)

        return self._read(read)

    def outputs(self, kernel: str, version: int) -> tuple[OutputFile, ...] | Gone:
        def read(now: float) -> tuple[OutputFile, ...]:
            session = self.world.session(now, owner=OWNER, slug=kernel, label=_label(version))
            expires_at = now + self.world.settings.output_url_seconds
            return tuple(OutputFile(f.name, f"{f.key} {expires_at}") for f in session.outputs)

        return self._read(read)

    def log(self, kernel: str, version: int) -> str | Gone:
        found = self.session(kernel, version)
        return found if isinstance(found, Gone) else "[]"

    def download(self, file: OutputFile, sink: Sink, limit_bytes: int) -> int | Gone:
        self._spend_time()
        key, _, expires_at = file.url.partition(" ")
        if self._clock.true_at > float(expires_at):
            return Gone("HTTP 403 for an output file")
        content = self._blobs[key]
        assert len(content) <= limit_bytes
        if sink.size_bytes > len(content):
            sink.restart()
        sink.write(content[sink.size_bytes :])
        return sink.size_bytes

    def dataset(self, dataset: str) -> DatasetInfo | Gone:
        def read(now: float) -> DatasetInfo:
            found = self.world.dataset(now, owner=OWNER, slug=dataset)
            status = self.world.dataset_status(now, owner=OWNER, slug=dataset)
            return DatasetInfo(
                current_version=found.current,
                is_private=found.draft.is_private,
                is_ready=status is DatasetStatus.READY,
                has_failed=found.current in self._failed_versions,
                versions=tuple(DatasetVersion(v.number, v.notes) for v in found.visible),
            )

        return self._read(read)

    def dataset_files(self, dataset: str, version: int) -> Mapping[str, int] | Gone:
        def read(now: float) -> Mapping[str, int]:
            found = self.world.dataset_version(now, owner=OWNER, slug=dataset, number=version)
            return {file.name: file.size_bytes for file in found.files}

        return self._read(read)

    def dataset_file(self, dataset: str, version: int, name: str, limit_bytes: int) -> bytes | Gone:
        def read(now: float) -> bytes:
            found = self.world.dataset_version(now, owner=OWNER, slug=dataset, number=version)
            content = {file.name: self._blobs[file.key] for file in found.files}
            if name not in content:
                raise Refusal(404, f"File '{name}' was not found")
            assert len(content[name]) <= limit_bytes
            return content[name]

        return self._read(read)

    def quota(self) -> Quota:
        def read(now: float) -> Quota:
            refresh_at, gpu, _tpu = self.world.quotas(now)
            return Quota(gpu.used_seconds, gpu.reserved_seconds, gpu.total_seconds, refresh_at)

        quota = self._read(read)
        assert isinstance(quota, Quota)
        return quota

    # What other people and the platform itself do

    def push_by_hand(self, kernel: str, *, gpu: bool = False) -> None:
        """Somebody pushes another notebook, at the same address or elsewhere."""
        self._save(Push(OWNER, kernel, kernel, "print('mine')", enable_gpu=gpu))

    def publish_by_hand(self, dataset: str, files: Mapping[str, bytes]) -> None:
        """Somebody adds a version to the dataset."""
        self.world.create_dataset_version(
            self._now(),
            owner=OWNER,
            slug=dataset,
            notes="mine",
            files=[self._upload(name, content) for name, content in files.items()],
        )

    def publish_slowly(self, call: Callable[..., Any], request: Any, seconds: float) -> Any:
        """Make a version that takes so long to become ready."""
        usual = self.world.settings
        slow = dataclasses.replace(usual, dataset_processing_seconds=seconds)
        self.world.configure(self._now(), settings=slow)
        try:
            return call(request)
        finally:
            self.world.configure(self._now(), settings=usual)

    def publish_in_vain(self, call: Callable[..., Any], request: Any) -> Any:
        """Make a version that the platform fails to process."""
        answer = self.publish_slowly(call, request, 1e9)
        self._failed_versions.add(len(self.versions(request.dataset)))
        return answer

    # The truth

    def pushes(self, kernel: str) -> list[TruePush]:
        """Every version of a kernel that ever landed, oldest first."""
        return [
            TruePush(
                token=_token(version.push.source),
                version=version.number,
                parent=(body.read_parameters(version.push.source) or {}).get("parent"),
                live_beside=self._live_beside.get(version.session_id, 0),
                ended=not self._session(version.session_id).is_open,
            )
            for version in self.world.kernel(self._now(), owner=OWNER, slug=kernel).versions
        ]

    def versions(self, dataset: str) -> list[TrueVersion]:
        """Every version of a dataset that ever landed, oldest first."""
        datasets = self.world.dump(self._now())["datasets"]
        found = [found for found in datasets if found["draft"]["slug"] == dataset]
        description = found[0]["draft"]["description"] if found else ""  # a new dataset's notes
        return [
            TrueVersion(
                number=version["number"],
                token=_token(version["notes"] if version["number"] > 1 else description),
                files=body.packed({n: self._blobs[key] for n, key, _size in version["files"]}),
                has_failed=version["number"] in self._failed_versions,
            )
            for version in (found[0]["versions"] if found else ())
        ]

    # How it works

    def _now(self) -> float:
        return self._clock.true_at

    def _spend_time(self) -> None:
        self._clock.advance(LATENCY_SECONDS)

    def _read(self, read: Callable[[float], Any]) -> Any:
        self._spend_time()
        try:
            return read(self._now())
        except Refusal as refusal:
            return Gone(refusal.message)

    def _save(self, push: Push) -> Any:
        self._spend_time()
        parameters = body.read_parameters(push.source)
        live = [number for number in self._live_beside if self._session(number).is_open]
        pushed = self.world.save_kernel(self._now(), push=push)
        if parameters:
            session = self.world.session(self._now(), owner=OWNER, slug=push.slug)
            self._live_beside[session.session_id] = len(live)
        if self.on_landing and parameters:
            self.on_landing("push", parameters["token"], {})
        return pushed

    def _publish(
        self, request: PublishRequest, make: Callable[[Sequence[NewFile]], Any]
    ) -> Done[None] | Refused:
        self._spend_time()
        contents = {name: (request.folder / name).read_bytes() for name in request.files}
        try:
            make([self._upload(name, content) for name, content in contents.items()])
        except Refusal as refusal:
            refused = _refused(refusal)
            is_busy = refusal.status == 403
            return dataclasses.replace(refused, trouble=Trouble.BUSY) if is_busy else refused
        if self.on_landing:
            self.on_landing("publish", _token(request.notes), contents)
        return Done(None)

    def _upload(self, name: str, content: bytes) -> NewFile:
        upload = self.world.start_upload(self._now(), name=name, size_bytes=len(content))
        stored = {name: content}
        if self.world.settings.unpack_checkpoints and name.endswith(".pt"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                stored = {f"{name}/{path}": archive.read(path) for path in archive.namelist()}
        files = [File(path, self._store(data), len(data)) for path, data in stored.items()]
        self.world.finish_upload(self._now(), upload_id=upload.upload_id, files=files)
        return NewFile("", upload.token)

    def _store(self, content: bytes) -> str:
        key = f"blob-{len(self._blobs)}"
        self._blobs[key] = content
        return key

    def _session(self, session_id: int | None) -> Session:
        assert session_id is not None
        return self.world.session_by_id(self._now(), session_id=session_id)

    def _catch_up(self, until: float) -> None:
        """Start and end the sessions that are due, in their order, and move the world on."""
        while True:
            due = self.world.next_due_at(self.world.now)
            moments = [end_at for end_at, _ in self._ends.values()] + ([] if due is None else [due])
            at = min(moments, default=until + 1)
            if at > until:
                break
            for session in self.world.due_sessions(at):
                self._start(at, session)
            for session_id in [
                number for number, (end_at, _) in self._ends.items() if end_at <= at
            ]:
                self._end(at, session_id)
        self.world.advance(until)

    def _start(self, at: float, queued: Session) -> None:
        session = self.world.start_session(at, session_id=queued.session_id)
        script = self._script_of(session)
        ending = Ending(script.ending)
        if script.seconds > session.limit_seconds:
            ending = Ending.TIMEOUT
        end_at = at + min(script.seconds, session.limit_seconds)
        self._ends[session.session_id] = (end_at, ending)

    def _end(self, at: float, session_id: int) -> None:
        _, ending = self._ends.pop(session_id)
        session = self._session(session_id)
        script = self._script_of(session)
        source = self.world.kernel_version(
            at, owner=OWNER, slug=session.slug, label=_label(session.version)
        ).push.source
        parameters = body.read_parameters(source)
        left = (
            body.run(parameters, self._mounted(session, script), script, at) if parameters else {}
        )
        self.world.end_session(
            at,
            session_id=session_id,
            ending=ending,
            files=[File(name, self._store(data), len(data)) for name, data in left.items()],
        )

    def _script_of(self, session: Session) -> Script:
        return self.scripts.get(session.version, self.script)

    def _mounted(self, session: Session, script: Script) -> dict[str, bytes]:
        mounted = {}
        for mount in session.mounts:
            files = mount.files
            if script.stale_versions:
                owner, slug = mount.source.split("/")
                number = mount.version - script.stale_versions
                old = self.world.dataset_version(
                    self.world.now, owner=owner, slug=slug, number=number
                )
                files = old.files
            mounted |= {f"{mount.path}/{file.name}": self._blobs[file.key] for file in files}
        return body.packed(mounted)


def _refused(refusal: Refusal) -> Refused:
    if "session count" in refusal.message:
        return Refused(Trouble.CAPACITY, refusal.message)
    if "quota" in refusal.message:
        return Refused(Trouble.QUOTA, refusal.message)
    return Refused(_TROUBLES.get(refusal.status, Trouble.INVALID), refusal.message)


def _label(version: int | None) -> str:
    return "" if version is None else f"v{version}"


def _token(text: str) -> str | None:
    found = _TOKEN.search(text)
    return found[0] if found else None
