"""A whole chain in one process: the real engine, journal and disk against a simulated Kaggle.

A run is determined by its seed and its plan. `Killed` ends a process in the middle of a tick;
the next one opens journal and disk anew, as a person's second `kchain run` would.
"""

import functools
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from orchestrator import archives, engine
from orchestrator.config import Settings
from orchestrator.disk import Disk
from orchestrator.errors import NotNow
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.machine import Event, Kind, Phase, State
from tests.simulation.clock import VirtualClock
from tests.simulation.crashes import Effects, Killed, Watched, WatchedJournal
from tests.simulation.faults import Fault, FaultyKaggle, Strike
from tests.simulation.host import Host, Landing
from tests.simulation.invariants import Violation, Watch, require
from tests.simulation.journal import MemoryJournal
from tests.simulation.kaggle import SimulatedKaggle

CHAIN, KERNEL, DATASET = "sim", "kchain-sim", "kchain-sim-checkpoints"
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - thousands of fsyncs
ENDPOINT = "simulation"
TEMPLATE = Path(__file__).parent / "template"
RESTART_SECONDS = 5.0  # from the death of a controller to the next one
# Kaggle's own patience, with fewer polls: what happens between two of them is all the same.
TIMING = {"poll_seconds": 600.0}
MOST_TICKS = 2_000
# What a pickle describes follows from its bytes, and all sessions write the same one or two.
archives.read_pickle = functools.lru_cache(maxsize=8)(archives.read_pickle)


@dataclass
class Act:
    """Something that somebody does between two ticks, once, as soon as `when` holds."""

    when: Callable[[State], bool]
    do: Callable[["Simulation"], None]
    fired: int = 0


@dataclass
class Plan:
    """What happens to a run, besides the engine."""

    faults: Sequence[Fault] = ()
    acts: Sequence[Act] = ()
    kills: Sequence[tuple[int, str]] = ()
    chain: dict[str, Any] = field(default_factory=dict)  # settings of kchain.toml's [chain]
    kernel: dict[str, Any] = field(default_factory=dict)  # and of its [kernel]
    timing: dict[str, Any] = field(default_factory=dict)  # and of its [timing]

    def strike(self, verb: str, *args: Any) -> Strike | None:
        """Tell what happens to a call: the first fault that is due."""
        due = [fault for fault in self.faults if fault.verb == verb and fault.is_due(args)]
        if not due:
            return None
        due[0].fired += 1
        return due[0].strike

    def kill(self, number: int, moment: str) -> bool:
        """Tell whether the process dies before or after an effect."""
        return (number, moment) in self.kills

    def act(self, run: "Simulation") -> None:
        """Let others act between two ticks."""
        for act in self.acts:
            if not act.fired and act.when(run.state):
                act.fired += 1
                act.do(run)


class Simulation:
    """One chain, its world and its ground truth."""

    def __init__(
        self,
        plan: Any,
        *,
        seed: int = 0,
        sessions: int = 3,
        in_memory: bool = False,
        **world: Any,
    ) -> None:
        self._scratch = TemporaryDirectory(prefix="kchain-simulation-", dir=MEMORY)
        self.folder = Path(self._scratch.name)
        self.store = self.folder / "state" / "store"  # where verified checkpoints are kept
        self.output = self.folder / "output"  # what the user holds in hand
        self.plan, self.seed, self._in_memory = plan, seed, in_memory
        self.settings = _settings(plan, sessions)
        self.clock = VirtualClock()
        self.host = Host(self.clock, **world)
        self.host.on_landing = self._check_landing
        self.kaggle = SimulatedKaggle(self.host)
        self.effects = Effects(plan.kill)
        self._struck = Watched("kaggle", FaultyKaggle(self.kaggle, plan.strike), self.effects)
        self.watch = Watch(self)
        self.host.on_mutation = self.watch.on_mutation
        self.restarts = -1
        self.lost: list[tuple[Event, ...]] = []  # the journals of laptops that are gone
        self._journal: Journal | None = None
        self._start_controller()

    @property
    def events(self) -> tuple[Event, ...]:
        return self._opened.events

    @property
    def state(self) -> State:
        return self._opened.state

    def kinds(self, kind: Kind) -> list[Event]:
        """All events of one kind."""
        return [event for event in self.events if event.kind is kind]

    def want(self, sessions: int) -> None:
        """Ask for another total of sessions from the next tick on."""
        self.settings = _settings(self.plan, sessions)

    def lose_the_laptop(self) -> State:
        """Delete journal, checkpoints and output; return what the journal had said last."""
        state = self.state
        self.lost.append(self.events)
        for folder in (self.folder / "state", self.output):
            shutil.rmtree(folder)
        self._opened.close()
        self._journal = None
        self.watch.forget_copies()
        self._start_controller()
        return state

    def restore(self, backup: Path) -> State:
        """Put the state folder of an older day in place; return what its journal says."""
        self._opened.close()
        self._journal = None
        shutil.rmtree(self.folder / "state")
        shutil.copytree(backup, self.folder / "state")
        self.watch.go_back()
        self._start_controller()
        return self.state

    def recover(self) -> State:
        """Do what `kchain recover` does, however often that dies."""
        for _ in range(MOST_TICKS):
            try:
                wake = self._recover_once()
            except Killed:
                self.clock.sleep(RESTART_SECONDS)
                self._start_controller()
                if self.state.phase not in (Phase.UNBOUND, Phase.RECOVERING):
                    return self.state  # it died right after its last event
                continue
            if wake is None:
                self.watch.check_local_copy(self.state)
                return self.state
            self.clock.sleep(wake - self.clock.now())
        raise Violation("I11", f"not recovered after {MOST_TICKS} attempts: {self.state}")

    def retry(self) -> None:
        """Do what `--retry` does."""
        engine.retry(self._opened)

    def run(self) -> State:
        """Tick, sleep and restart until the chain is done or halted."""
        for _ in range(MOST_TICKS):
            self.plan.act(self)
            try:
                wake = self.tick()
            except Killed:
                self.watch.check_local_copy(self.state)
                self.clock.sleep(RESTART_SECONDS)
                self._start_controller()
                continue
            self.watch.on_tick(wake, self.state)
            if wake is None:
                return self.state
            self.clock.sleep(wake - self.clock.now())
        raise Violation("I11", f"no end after {MOST_TICKS} ticks: {self.state}")

    def reboot(self, error_seconds: float = 0.0) -> None:
        """Start the machine anew, and the controller with it."""
        self.clock.reboot(error_seconds)
        self._start_controller()

    def leave_hanging(self) -> Journal:
        """Start another controller beside the one that was killed; return the first's journal."""
        hanging, self._journal = self._journal, None
        assert hanging
        self._start_controller()
        return hanging

    def run_until_killed(self) -> None:
        """Tick and sleep until the controller dies, and start no other one."""
        for _ in range(MOST_TICKS):
            try:
                wake = self.tick()
            except Killed:
                return
            assert wake is not None, f"it ended first: {self.state}"
            self.clock.sleep(wake - self.clock.now())
        raise AssertionError(f"nothing killed it in {MOST_TICKS} ticks")

    def tick(self, journal: Journal | None = None) -> float | None:
        """Tick once, with another controller's journal if one is given."""
        self.clock.is_ticking = True
        try:
            return engine.tick(
                self.settings,
                WatchedJournal(journal or self._opened, self.effects),
                self._struck,
                self._files,
                self.clock,
                self._rng,
                endpoint=ENDPOINT,
                template=TEMPLATE,
            )
        finally:
            self.clock.is_ticking = False

    def _recover_once(self) -> float | None:
        self.clock.is_ticking = True
        try:
            return engine.recover(
                self.settings,
                WatchedJournal(self._opened, self.effects),
                self._struck,
                self._files,
                self.clock,
                self._rng,
                endpoint=ENDPOINT,
            )
        except NotNow:
            return self.clock.now() + RESTART_SECONDS
        finally:
            self.clock.is_ticking = False

    def close(self) -> None:
        """Forget everything; safe to call twice."""
        self._opened.close()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def journal(self) -> Journal:
        """The journal of the controller that runs."""
        return self._opened

    @property
    def _opened(self) -> Journal:
        assert self._journal is not None
        return self._journal

    def _start_controller(self) -> None:
        """Open everything anew, as a new process does; only disk and Kaggle remember."""
        if self._journal:
            self._journal.close()
        self.restarts += 1
        self.kaggle.has_told_user = False
        self._journal = self._open_journal()
        self._open_files(Disk())
        self._rng = random.Random(f"{self.seed} {self.restarts}")  # noqa: S311

    def _open_files(self, disk: Disk) -> None:
        files = Files(self.folder / "state", self.output, disk)
        self._files = Watched("files", files, self.effects)

    def _open_journal(self) -> Journal:
        if self._in_memory:
            return MemoryJournal(CHAIN, self.clock, self.watch.on_event, self._journal)
        (self.folder / "state").mkdir(exist_ok=True)
        path = self.folder / "state" / "journal.db"
        return Journal(path, CHAIN, self.clock, on_event=self.watch.on_event)

    def _check_landing(self, landing: Landing) -> None:
        if not self._in_memory:
            is_written = self._last_seq_on_disk() == self.state.seq
            require(is_written, "I8", "what was sent is not on disk")
        self.watch.on_landing(landing, self.state)

    def _last_seq_on_disk(self) -> int:
        with closing(sqlite3.connect(self.folder / "state" / "journal.db")) as db:
            return int(db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def live_in_session(number: int) -> Callable[[State], bool]:
    """When the chain watches the session of this number."""
    return lambda state: state.phase is Phase.LIVE and state.session == number


def _settings(plan: Plan, sessions: int) -> Settings:
    tables = {
        "chain": {"name": CHAIN, "sessions": sessions, **plan.chain},
        "kernel": plan.kernel,
        "timing": TIMING | plan.timing,
    }
    return Settings.model_validate(tables)
