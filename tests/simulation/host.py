"""The emulator's rules, a host for its sessions, and the truth about what landed.

Sessions are hosted by a table: each lasts as long as its script says and leaves what the body in
`session.py` makes of the mounted bytes. Beside `kaggle.py` the only file that knows the emulator.
"""

import dataclasses
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.emulator.datasets import FIRST_DATASET_ID
from orchestrator.emulator.records import (
    Accelerator,
    DatasetStatus,
    DatasetVersion,
    Draft,
    Ending,
    File,
    NewFile,
    Push,
    Refusal,
    Session,
    Twist,
)
from orchestrator.emulator.records import Pushed as Saved
from orchestrator.emulator.settings import Settings
from orchestrator.emulator.world import World
from tests.simulation import session as body
from tests.simulation.clock import VirtualClock
from tests.simulation.session import Script

OWNER = "local"
# What else the account holds, by names much like the chain's; nobody but its owner may touch it.
NEIGHBOUR = "kchain-sim2"
NEIGHBOURS_DATASET = "kchain-sim2-checkpoints"
NEIGHBOURS_SOURCE = "print('a neighbour of the chain')"
NEIGHBOURS_FILES = {"manifest.json": b"{}", "checkpoint_epoch1_step10.pt": b"a neighbour's"}
NEVER_SECONDS = 1e12
PLATFORM = Settings(
    username=OWNER,
    queue_seconds=15.0,
    dataset_visible_seconds=20.0,
    dataset_processing_seconds=120.0,
)
_TOKEN = re.compile(r"kc1\.[a-z2-7]{26}")


@dataclass(frozen=True)
class TruePush:
    """A kernel version that landed, and the session it started."""

    token: str | None  # None: not pushed by a controller
    version: int
    parent: Mapping[str, Any] | None
    live_beside: int  # other sessions of controllers that were open when it landed


@dataclass(frozen=True)
class Landing:
    """What a controller just changed: a kernel or a dataset, and with which token and files."""

    what: str  # "push" or "publish"
    token: str | None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class TrueVersion:
    """A dataset version that landed, with its bytes."""

    number: int
    token: str | None
    files: Mapping[str, bytes]
    sent_manifest: bytes
    has_failed: bool


class Host:
    """A world with bytes, in which sessions run and things happen that no client asked for."""

    neighbours_as_made = ([NEIGHBOURS_SOURCE], [NEIGHBOURS_FILES])

    def __init__(
        self,
        clock: VirtualClock,
        *,
        scripts: Mapping[int, Script] | None = None,
        script: Script | None = None,
        platform: Settings = PLATFORM,
    ) -> None:
        self.world = World(platform)
        self.clock = clock
        self.scripts, self.script = dict(scripts or {}), script or Script()  # by kernel version
        self.script_of: Callable[[int], Script] = lambda version: self.scripts.get(
            version, self.script
        )
        self.twist: Callable[[str], Twist | None] = lambda _operation: None
        self.on_mutation: Callable[[str, str], None] | None = None  # asked for, landed or not
        self.on_landing: Callable[[Landing], None] | None = None
        self.twisted: set[str | None] = set()  # tokens of pushes that the platform spoilt
        self._blobs: dict[str, bytes] = {}
        self._ends: dict[int, tuple[float, Ending]] = {}
        self._ours: list[int] = []  # sessions that a controller started
        self._pushes: dict[str, list[TruePush]] = {}  # by kernel
        self._notes: dict[str, list[str]] = {}  # by dataset; a new one's are its description
        self._sent: dict[str, list[bytes]] = {}  # by dataset; the manifest that each version had
        self._failed_at: dict[int, float] = {}  # by dataset version
        self._public: dict[str, float] = {}  # since when, by dataset
        self._loses: str | None = None  # a file that arrives and is lost
        self._due_at = float("inf")  # when the next session starts or ends
        self._catching_up_at: float | None = None  # the moment that is being caught up with
        clock.listeners.append(self._catch_up)
        self._add_neighbours()

    @property
    def now(self) -> float:
        """The world's time, whatever the laptop's clock shows."""
        return self.clock.true_at if self._catching_up_at is None else self._catching_up_at

    # What clients do

    def ask(self, what: str, slug: str) -> None:
        """Tell that a client asks for a change, which may be refused."""
        if self.on_mutation:
            self.on_mutation(what, slug)

    def save(self, push: Push, *, by_hand: bool = False) -> Saved:
        parameters = body.read_parameters(push.source)
        live = [number for number in self._ours if self._session(number).is_open]
        twist, token = self.twist("push"), _token(push.source)
        saved = self.world.save_kernel(self.now, push=push, twist=twist)
        if twist:
            self.twisted.add(token)
        true = TruePush(token, saved.version, (parameters or {}).get("parent"), len(live))
        self._pushes.setdefault(saved.slug, []).append(true)
        if parameters:
            self._ours.append(self.world.open_sessions(self.now)[-1].session_id)
        self._due_at = self._next_moment()
        if not by_hand:
            self._tell(Landing("push", token))
        return saved

    def create(self, draft: Draft, contents: Mapping[str, bytes]) -> None:
        self.world.create_dataset(
            self.now, draft=draft, files=self._upload(contents), twist=self.twist("create")
        )
        self._notes[draft.slug] = [draft.description]
        self._sent[draft.slug] = [contents.get("manifest.json", b"")]
        self._tell(Landing("publish", _token(draft.description), contents))

    def publish(
        self, dataset: str, notes: str, contents: Mapping[str, bytes], *, by_hand: bool = False
    ) -> None:
        files = self._upload(contents)
        self.world.create_dataset_version(
            self.now,
            owner=OWNER,
            slug=dataset,
            notes=notes,
            files=files,
            twist=self.twist("publish"),
        )
        self._notes[dataset].append(notes)
        self._sent[dataset].append(contents.get("manifest.json", b""))
        if not by_hand:
            self._tell(Landing("publish", _token(notes), contents))

    def content(self, key: str) -> bytes:
        return self._blobs[key]

    # What other people and the platform itself do

    def push_by_hand(self, kernel: str, *, gpu: bool = False) -> None:
        """Somebody pushes another notebook, at the same address or elsewhere."""
        self.save(Push(OWNER, kernel, kernel, "print('mine')", enable_gpu=gpu), by_hand=True)

    def publish_by_hand(self, dataset: str, contents: Mapping[str, bytes]) -> None:
        """Somebody adds a version to the dataset."""
        self.publish(dataset, "mine", contents, by_hand=True)

    def set_public(self, dataset: str, *, public: bool) -> None:
        """Somebody lets everybody see a dataset, or nobody else again."""
        draft = self.world.dataset(self.now, owner=OWNER, slug=dataset).draft
        changed = dataclasses.replace(draft, is_private=not public)
        self.world.update_dataset(self.now, draft=changed)
        self._public.pop(dataset, None)
        if public:
            self._public[dataset] = self.now

    def publish_slowly(self, call: Callable[..., Any], request: Any, seconds: float) -> Any:
        """Make a version that takes so long to become ready."""
        usual = self.world.settings
        slow = dataclasses.replace(usual, dataset_processing_seconds=seconds)
        self.world.configure(self.now, settings=slow)
        try:
            return call(request)
        finally:
            self.world.configure(self.now, settings=usual)

    def publish_in_vain(self, call: Callable[..., Any], request: Any, seconds: float) -> Any:
        """Make a version whose processing fails after so long."""
        answer = self.publish_slowly(call, request, NEVER_SECONDS)
        self._failed_at[len(self._notes[request.dataset])] = self.now + seconds
        return answer

    def publish_without(self, call: Callable[..., Any], request: Any, name: str) -> Any:
        """Make a version that lacks a file which arrived."""
        self._loses = name
        try:
            return call(request)
        finally:
            self._loses = None

    def damage(self, dataset: str, ending: str, garble: Callable[[bytes], bytes]) -> None:
        """Let the newest version's files of these names hold other bytes than were sent."""
        for file in self._version(dataset, len(self._notes[dataset])).files:
            if file.name.endswith(ending):
                self._blobs[file.key] = garble(self._blobs[file.key])

    def has_failed(self, number: int) -> bool:
        return self.now >= self._failed_at.get(number, float("inf"))

    # The truth

    def live_sessions(self) -> list[int]:
        """The sessions of controllers that are queued or running."""
        return [
            s.session_id for s in self.world.open_sessions(self.now) if s.session_id in self._ours
        ]

    def files_of_version(self, dataset: str, number: int) -> Mapping[str, bytes]:
        """The files of a version of a dataset, as they were published."""
        version = self._version(dataset, number)
        return body.packed({file.name: self._blobs[file.key] for file in version.files})

    def outputs_of(self, kernel: str, version: int) -> Mapping[str, bytes]:
        """The files that a version's session left, as Kaggle keeps them."""
        label = f"v{version}"
        session = self.world.session(self.now, owner=OWNER, slug=kernel, label=label)
        return body.packed({file.name: self._blobs[file.key] for file in session.outputs})

    def mountable(self, dataset: str) -> Mapping[str, bytes]:
        """The files that a session would mount that is pushed now; nothing without any."""
        seen = self.world.dataset_versions(self.now, owner=OWNER, slug=dataset)
        ready = [each.version for each in seen if each.status is DatasetStatus.READY]
        return self.files_of_version(dataset, ready[0].number) if ready else {}

    def gpu_seconds_left(self) -> float:
        """How long a session could run that began now, by the week's quota."""
        _refresh_at, gpu, _tpu = self.world.quotas(self.now)
        return gpu.total_seconds - gpu.used_seconds

    def gpu_seconds_a_week(self) -> float:
        """How long sessions may run in a week, all together."""
        return self.world.settings.gpu_quota_seconds

    def shown_for(self, kernel: str, seconds: float) -> int:
        """The newest version of a kernel that everybody could see for so long; 0 without any."""
        try:
            newest = self.world.kernel(self.now, owner=OWNER, slug=kernel).latest
        except Refusal:
            return 0
        return newest.number if newest.visible_at <= self.now - seconds else 0

    def public_for(self, dataset: str) -> float:
        """For how many seconds everybody has been able to see a dataset."""
        return self.now - self._public.get(dataset, self.now)

    def pushes(self, kernel: str) -> list[TruePush]:
        """Every version of a kernel that ever landed, oldest first."""
        return list(self._pushes.get(kernel, ()))

    def versions(self, dataset: str) -> list[TrueVersion]:
        """Every version of a dataset that ever landed, oldest first."""
        return [
            TrueVersion(
                number=version.number,
                token=_token(notes),
                files=body.packed({f.name: self._blobs[f.key] for f in version.files}),
                sent_manifest=self._sent[dataset][number - 1],
                has_failed=self.has_failed(number)
                or version.last_status is DatasetStatus.FAILED
                or version.processed_at is None,
            )
            for number, notes in enumerate(self._notes.get(dataset, ()), start=1)
            for version in [self._version(dataset, number)]
        ]

    def neighbours(self) -> tuple[list[str], list[Mapping[str, bytes]]]:
        """Every version of the neighbour's kernel, and of its dataset."""
        world, slug = self.world, NEIGHBOUR
        kernel = world.kernel(self.now, owner=OWNER, slug=slug)
        labels = [f"v{number}" for number in range(1, kernel.latest.number + 1)]
        sources = [
            world.kernel_version(self.now, owner=OWNER, slug=slug, label=label).push.source
            for label in labels
        ]
        return sources, [version.files for version in self.versions(NEIGHBOURS_DATASET)]

    # How it works

    def _add_neighbours(self) -> None:
        """Add the other kernel, its session long over, and the other dataset."""
        now = self.now - 86_400.0  # visible to everybody by the time the chain begins
        self.world.save_kernel(now, push=Push(OWNER, NEIGHBOUR, NEIGHBOUR, NEIGHBOURS_SOURCE))
        [session] = self.world.open_sessions(now)
        self.world.start_session(now, session_id=session.session_id)
        self.world.end_session(now, session_id=session.session_id, ending=Ending.COMPLETE)
        draft = Draft(OWNER, NEIGHBOURS_DATASET, NEIGHBOURS_DATASET)
        self.world.create_dataset(now, draft=draft, files=self._upload(NEIGHBOURS_FILES))
        self._notes[NEIGHBOURS_DATASET] = [draft.description]
        self._sent[NEIGHBOURS_DATASET] = [NEIGHBOURS_FILES["manifest.json"]]

    def _note_twist(self, twist: Twist | None, session: Session, at: float) -> None:
        if twist:
            version = self.world.version_of_session(at, session_id=session.session_id)
            self.twisted.add(_token(version.push.source))

    def _tell(self, landing: Landing) -> None:
        if self.on_landing:
            self.on_landing(landing)

    def _upload(self, contents: Mapping[str, bytes]) -> Sequence[NewFile]:
        uploaded = []
        for name, content in contents.items():
            if name == self._loses:
                continue
            upload = self.world.start_upload(self.now, name=name, size_bytes=len(content))
            files = [
                File(path, self._store(data), len(data))
                for path, data in self._ingested(name, content).items()
            ]
            self.world.finish_upload(self.now, upload_id=upload.upload_id, files=files)
            uploaded.append(NewFile("", upload.token))
        return uploaded

    def _version(self, dataset: str, number: int) -> DatasetVersion:
        index = list(self._notes).index(dataset)
        return self.world.stored_version(
            self.now, dataset_id=FIRST_DATASET_ID + index, number=number
        )

    def _ingested(self, name: str, content: bytes) -> dict[str, bytes]:
        if not (self.world.settings.unpack_checkpoints and name.endswith(".pt")):
            return {name: content}
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return {f"{name}/{path}": archive.read(path) for path in archive.namelist()}
        except zipfile.BadZipFile:
            return {name: content}

    def _store(self, content: bytes) -> str:
        key = f"blob-{len(self._blobs)}"
        self._blobs[key] = content
        return key

    def _session(self, session_id: int) -> Session:
        return self.world.session_by_id(self.now, session_id=session_id)

    def _catch_up(self, until: float) -> None:
        """Start and end the sessions that are due, in their order."""
        while (at := self._due_at) <= until:
            self._catching_up_at = at
            for session in self.world.due_sessions(at):
                self._start(at, session)
            over = [number for number, (end_at, _) in self._ends.items() if end_at <= at]
            for session_id in over:
                self._end(at, session_id)
            self._due_at = self._next_moment()
        self._catching_up_at = None

    def _next_moment(self) -> float:
        due = self.world.next_due_at(self.world.now)
        ends = [end_at for end_at, _ in self._ends.values()]
        return min(ends if due is None else [*ends, due], default=float("inf"))

    def _start(self, at: float, queued: Session) -> None:
        twist = self.twist("start")
        session = self.world.start_session(at, session_id=queued.session_id, twist=twist)
        self._note_twist(twist, session, at)
        script = self.script_of(session.version)
        limit = session.limit_seconds
        ending = Ending.TIMEOUT if script.seconds > limit else Ending(script.ending)
        self._ends[session.session_id] = (at + min(script.seconds, limit), ending)

    def _end(self, at: float, session_id: int) -> None:
        _, ending = self._ends.pop(session_id)
        session = self._session(session_id)
        left = self._left_by(session, at)
        files = [File(name, self._store(data), len(data)) for name, data in left.items()]
        twist = self.twist("end")
        self._note_twist(twist, session, at)
        self.world.end_session(at, session_id=session_id, ending=ending, files=files, twist=twist)

    def _left_by(self, session: Session, at: float) -> dict[str, bytes]:
        version = self.world.version_of_session(at, session_id=session.session_id)
        parameters = body.read_parameters(version.push.source)
        if parameters is None:
            return {}
        script = self.script_of(session.version)
        if parameters["accelerator"]["count"] and session.accelerator is Accelerator.CPU:
            return body.refuse(parameters, script, "accelerator_mismatch", at)
        return body.run(parameters, self._mounted(session, script), script, at)

    def _mounted(self, session: Session, script: Script) -> dict[str, bytes]:
        mounted = {}
        for mount in session.mounts:
            number = max(1, mount.version - script.stale_versions)
            version = self._version(mount.source.split("/")[1], number)
            mounted |= {f"{mount.path}/{f.name}": self._blobs[f.key] for f in version.files}
        return body.packed(mounted)


def _token(text: str) -> str | None:
    found = _TOKEN.search(text)
    return found[0] if found else None
