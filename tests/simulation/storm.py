"""What goes wrong in one schedule: every decision is drawn when it is due, from one seed.

A storm has its own swarm of kinds, each at its own rate, and its own world; it strikes calls,
kills the controller at effects, twists what the platform does, and lets people and the laptop
act between ticks. It comes in gusts; after the last one the chain must reach its target.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.emulator.records import (
    END_TWISTS,
    PUBLISH_TWISTS,
    PUSH_TWISTS,
    START_TWISTS,
    Refusal,
    Twist,
)
from orchestrator.emulator.settings import Settings
from orchestrator.kaggle.port import Gone, Refused, Trouble, Unknown, Unreadable
from orchestrator.machine import Phase
from tests.simulation.chain import DATASET, KERNEL, Simulation
from tests.simulation.faults import Call, Strike, garbling, lost_answer, lost_request
from tests.simulation.gusts import Gusts
from tests.simulation.host import PLATFORM
from tests.simulation.session import Script

HOUR, DAY = 3600.0, 86_400.0
SHORTEST, LONGEST = 215, 390  # effects of a storm, those between its gusts not counted
READS = (
    "identity",
    "kernel",
    "session",
    "outputs",
    "dataset",
    "dataset_files",
    "dataset_address",
    "quota",
)
FETCHES = ("download", "dataset_file")
MUTATIONS = ("push", "create_dataset", "publish_version")
_TWISTED = {"push": "push", "create": "create_dataset", "publish": "publish_version"}
# How patiently a chain watches, and how long its sessions are: in one world of five nearly as
# long as Kaggle allows, so that a week's quota does not last.
_LENGTHS: tuple[tuple[dict[str, Any], Sequence[float]], ...] = (
    *(({}, (600.0, 1800.0)),) * 4,
    ({"poll_seconds": HOUR}, (2400.0, 11 * HOUR)),
)
# Nobody can know of a session at another address whose answer was not heard: there it is always
# heard, and the process lives until it has been written down: after the push, before the append.
UNTIL_TOLD = 2
# A push whose sources are dropped, and what makes no version at all, are the only ones that the
# protocol answers otherwise than with patience: the rest of the catalogue is drawn in full.
TWISTS = {
    "push": sorted(PUSH_TWISTS),
    # A first version that is hidden or stuck for ever takes the dataset's name with it.
    "create": sorted(PUBLISH_TWISTS - {Twist.HIDE_VERSION, Twist.STICK_PROCESSING}),
    "publish": sorted(PUBLISH_TWISTS),
    "start": sorted(START_TWISTS),
    "end": sorted(END_TWISTS),
}


@dataclass(frozen=True)
class Kind:
    """One way in which a call goes wrong, and how often it does where it is enabled."""

    name: str
    verbs: tuple[str, ...]
    rate: float
    make: Callable[[random.Random], Strike]
    lasts: bool = False  # what it struck once it strikes for ever, also when the storm is over
    spoils: bool = False  # it may cost the attempt whose output it strikes


class Storm:
    """Takes the part of a `Plan`, without a plan; `draw` binds it to its run."""

    run: Simulation

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(f"storm {seed}")  # noqa: S311
        self.chain: dict[str, Any] = {"max_attempts": 5}
        self.kernel: dict[str, Any] = {}
        self.timing, self.lengths = rng.choice(_LENGTHS)
        self.keeps_history = rng.random() < 0.5
        self.fired: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()  # verbs and crashes, each with the heads by then
        self.spoilt: set[str] = set()  # tokens of pushes whose output it struck
        self.bad_versions: set[int] = set()  # whose sessions do not what they should
        self.over: tuple[float, int] | None = None  # when, and how many heads there were
        self.gusts = Gusts(rng, rng.randint(SHORTEST, LONGEST))
        swarm = _drawn(rng)
        self.kinds = {verb: [kind for kind in swarm if verb in kind.verbs] for verb in _VERBS}
        self.crash_rate = rng.choice([0.02, 0.04, 0.06])
        self.twist_rate = rng.choice([0.0, 0.2, 0.4])
        self.bad_session_rate = rng.choice([0.0, 0.1, 0.3])
        self.act_rate = rng.choice([0.0, 0.0, 0.02, 0.05])
        self._is_unheard, self._unspared = False, 0
        self._scripts: dict[int, Script] = {}  # by kernel version
        self._lasting: dict[str, Strike] = {}  # by the key of a session's file

    def strike(self, verb: str, *args: Any) -> Strike | None:
        """Tell what happens to a call."""
        file = args[0].url.partition(" ")[0] if verb == "download" else ""
        if file in self._lasting:
            return self._lasting[file]
        if self.gusts.is_calm:
            return None
        self._is_unheard = False
        for kind in self.kinds[verb]:
            if self.rng.random() < kind.rate:
                self._count(kind.name, verb)
                self._is_unheard = kind.name == "answer lost"
                strike = kind.make(self.rng)
                if kind.lasts:
                    self._lasting[file] = strike
                if kind.spoils and (push := self.run.state.push):
                    self.spoilt.add(push.token)
                return strike
        return None

    def kill(self, _number: int, moment: str) -> bool:
        """Tell whether the process dies before or after an effect."""
        if moment == "before":
            self._pass_effect()
        if self._unspared > 0:
            self._unspared -= 1
            return False
        if self.gusts.is_calm or self.rng.random() >= self.crash_rate / 2:
            return False
        self._count("crash", "crash")
        return True

    def _pass_effect(self) -> None:
        heads = self.run.watch.heads
        if self.gusts.pass_effect(heads) and self.over is None:
            self.over = (self.run.clock.true_at, heads)

    def begin_anew(self) -> None:
        """A person has mended what the storm left: what follows is counted from now on."""
        if self.over:
            self.over = (self.run.clock.true_at, self.over[1])

    def _count(self, name: str, what: str) -> None:
        self.fired[name] += 1
        self.struck[f"{what} {self.gusts.heads}"] += 1

    def twist(self, operation: str) -> Twist | None:
        """Tell what the platform does wrong in one operation."""
        if self.gusts.is_calm or self.rng.random() >= self.twist_rate:
            return None
        twist = self.rng.choice(TWISTS[operation])
        if twist is Twist.LAND_ELSEWHERE:
            if self._is_unheard:
                return None
            self._unspared = UNTIL_TOLD
        self._count(twist.value, _TWISTED.get(operation, "session"))
        return twist

    def script_of(self, version: int) -> Script:
        """Tell what a session does; the same for as long as it runs."""
        if version not in self._scripts:
            self._scripts[version] = self._draw_script(version)
        return self._scripts[version]

    def _draw_script(self, version: int) -> Script:
        script = Script(seconds=self.rng.choice(self.lengths))
        if not self.gusts.is_calm and self.rng.random() < self.bad_session_rate:
            name, script = self.rng.choice(SESSIONS)
            self._count(name, "session")
            self.bad_versions.add(version)
        return replace(script, keeps_history=self.keeps_history)

    def act(self, run: Simulation) -> None:
        """Let people and the laptop act between two ticks."""
        if not self.gusts.is_calm and self.rng.random() < self.act_rate:
            name, act = self.rng.choice(_ACTS)
            if act(run, self.rng):
                self._count(name, "act")


def draw(seed: int, make: Callable[[int], Storm] = Storm, **options: Any) -> Simulation:
    """A schedule that is the same for the same seed, its journal in memory or on disk."""
    storm = make(seed)
    rng = storm.rng
    platform = replace(PLATFORM, seed=seed, **_late(rng))
    options = {"sessions": rng.choice([5, 5, 5, 5, 6]), "in_memory": True, **options}
    run = Simulation(storm, seed=seed, platform=platform, **options)
    storm.run, run.host.script_of, run.host.twist = run, storm.script_of, storm.twist
    return run


def _late(rng: random.Random) -> dict[str, Any]:
    """How this world's readers learn of what happened: late, but within the settle window."""
    habits: dict[str, Any] = {
        "unpack_checkpoints": rng.random() < 0.2,
        "queue_seconds": rng.choice([15.0, 300.0]),
        "kernel_visible_seconds": rng.choice([0.0, 0.0, 30.0, 600.0]),
        "end_reported_seconds": rng.choice([0.0, 60.0, 900.0]),
        "outputs_listed_seconds": rng.choice([0.0, 0.0, 120.0]),
        "dataset_visible_seconds": rng.choice([0.0, 20.0, 600.0]),
        "dataset_readable_seconds": rng.choice([0.0, 0.0, 240.0]),
        "gpu_sessions": rng.choice([1, 2, 2]),
    }
    assert set(habits) <= set(Settings.__dataclass_fields__)
    return habits


def _drawn(rng: random.Random) -> list[Kind]:
    """The swarm: some of the kinds, each at its own share of its rate."""
    count = rng.choice([0, *range(len(KINDS) // 3, len(KINDS) + 1)])  # in some storms none at all
    chosen = rng.sample(KINDS, count)
    return [replace(kind, rate=kind.rate * rng.choice([0.75, 1.25, 2.0])) for kind in chosen]


def _always(answer: Any) -> Callable[[random.Random], Strike]:
    return lambda _rng: lambda _call, *_args: answer


def _striking(strike: Strike) -> Callable[[random.Random], Strike]:
    return lambda _rng: strike


def _refused(trouble: Trouble) -> Callable[[random.Random], Strike]:
    def make(rng: random.Random) -> Strike:
        seconds = rng.choice([None, 30.0, DAY])
        return lambda _call, *_args: Refused(trouble, "no", seconds)

    return make


def _garbled(rng: random.Random) -> Strike:
    return garbling(
        rng.choice(
            [
                lambda data: data[: len(data) // 2],
                lambda data: bytes([data[0] ^ 1]) + data[1:],
                lambda data: b"",
                lambda _data: b"<Error><Code>ExpiredToken</Code></Error>",
            ]
        )
    )


def _stalled(rng: random.Random) -> Strike:
    """An answer that comes so late that nobody waits for it any more."""
    seconds = rng.choice([60.0, 600.0])

    def strike(call: Call, *args: Any) -> Any:
        call.__self__.host.clock.advance(seconds)
        return Unreadable(Trouble.NETWORK, "no answer in time")

    return strike


KINDS = (
    Kind("answer lost", MUTATIONS, 0.2, _striking(lost_answer)),
    Kind("request lost", MUTATIONS, 0.15, _striking(lost_request)),
    Kind("odd answer without effect", MUTATIONS, 0.05, _always(Unknown("HTTP 502"))),
    Kind("refused: no connection", MUTATIONS, 0.1, _refused(Trouble.NETWORK)),
    Kind("refused: too many requests", MUTATIONS, 0.1, _refused(Trouble.RATE)),
    Kind("refused: capacity", ("push",), 0.1, _refused(Trouble.CAPACITY)),
    Kind("refused: quota", ("push",), 0.05, _refused(Trouble.QUOTA)),
    Kind("refused: busy", ("publish_version",), 0.1, _refused(Trouble.BUSY)),
    Kind("read fails", READS, 0.12, _always(Unreadable(Trouble.NETWORK, "no connection"))),
    Kind("download fails", FETCHES, 0.06, _always(Unreadable(Trouble.NETWORK, "no connection"))),
    Kind("odd answer to a read", READS, 0.03, _always(Unreadable(Trouble.ODD, "not JSON"))),
    Kind("read stalls", (*READS, *FETCHES), 0.015, _stalled),
    Kind("nothing listed", ("outputs",), 0.05, _always(()), spoils=True),
    Kind("garbled download", ("download",), 0.1, _garbled, spoils=True),
    Kind(
        "file stays gone", ("download",), 0.01, _always(Gone("HTTP 404")), lasts=True, spoils=True
    ),
)
_VERBS = (*READS, *FETCHES, *MUTATIONS, "log")

SESSIONS = (
    ("session dies at once", Script(saves=False, ending="exception", seconds=30.0)),
    ("session raises at its end", Script(ending="exception")),
    ("session runs out of memory", Script(ending="out_of_memory")),
    ("session saves nothing", Script(saves=False)),
    ("session is killed at its limit", Script(seconds=13 * HOUR)),
    ("session makes no step", Script(steps=0)),
    ("session names no parent", Script(denies_parent=True)),
    ("session mounts an old version", Script(stale_versions=1)),
    ("session is cancelled", Script(ending="cancelled")),
)


def _suspend(run: Simulation, rng: random.Random) -> bool:
    run.clock.advance(rng.choice([600.0, 8 * HOUR]))
    return True


def _set_clock(run: Simulation, rng: random.Random) -> bool:
    run.clock.error_seconds = rng.choice([0.0, -DAY, HOUR, 365 * DAY])
    return True


def _reboot(run: Simulation, rng: random.Random) -> bool:
    """The machine is started anew, and its wall clock may have lost its time meanwhile."""
    run.reboot(rng.choice([0.0, -DAY, HOUR, 365 * DAY]))
    return True


def _publish_by_hand(run: Simulation, _rng: random.Random) -> bool:
    if run.state.head is None or run.state.phase is not Phase.LIVE:
        return False
    run.host.publish_by_hand(DATASET, {"notes.txt": b"mine"})
    return True


def _push_by_hand(run: Simulation, rng: random.Random) -> bool:
    """Somebody starts a notebook: their own, or the chain's."""
    kernel = rng.choice([KERNEL, "my-own-notebook"])
    if kernel == KERNEL and run.state.phase is not Phase.LIVE:
        return False
    try:
        run.host.push_by_hand(kernel, gpu=kernel != KERNEL)
    except Refusal:  # too many sessions at once: not even for a person
        return False
    return True


def _make_public(run: Simulation, _rng: random.Random) -> bool:
    """Somebody lets everybody see the dataset, if there is one yet."""
    try:
        run.host.set_public(DATASET, public=True)
    except Refusal:
        return False
    return True


def mend(run: Simulation) -> None:
    """Do what the halt asks a person to do, and let the chain go on."""
    head = run.state.head
    if run.state.halt_code == "public":
        run.host.set_public(DATASET, public=False)
    if run.state.halt_code == "foreign_dataset_version" and head:
        stored = run.store / head.checkpoint.manifest_sha256
        names = [*head.checkpoint.publish, "manifest.json"]
        _add_version(run, {name: (stored / name).read_bytes() for name in names})
    if run.state.halt_code == "stuck_dataset":
        _add_version(run, {"notes.txt": b"mine"})
    run.retry()
    run.plan.begin_anew()


def _add_version(run: Simulation, contents: Mapping[str, bytes]) -> None:
    """Add a version as a person does: where Kaggle denies it once, again the next day."""
    try:
        run.host.publish_by_hand(DATASET, contents)
    except Refusal:
        run.clock.advance(DAY)
        run.host.publish_by_hand(DATASET, contents)
    run.clock.advance(DAY)


_ACTS = (
    ("suspended", _suspend),
    ("clock set", _set_clock),
    ("rebooted", _reboot),
    ("published by hand", _publish_by_hand),
    ("pushed by hand", _push_by_hand),
    ("dataset made public", _make_public),
)


def names() -> set[str]:
    """The names of all that a storm can strike with, besides the crash."""
    twists = {twist.value for group in TWISTS.values() for twist in group}
    others = {name for name, _ in (*SESSIONS, *_ACTS)}
    return {kind.name for kind in KINDS} | twists | others
