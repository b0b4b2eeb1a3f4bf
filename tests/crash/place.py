"""A project folder, a standing local Kaggle, real controllers to kill, and what is true of all."""

import contextlib
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from orchestrator.clock import SystemClock
from orchestrator.emulator.server import LocalKaggle
from orchestrator.journal import Journal
from orchestrator.machine import Event, Kind, State
from tests.crash.host import QuickHost
from tests.running import (
    COMMAND,
    LONGEST_SECONDS,
    ROOT,
    SETTINGS,
    count_events,
    pointing_at,
    wait_until,
)
from tests.simulation import session as body
from tests.simulation.chain import CHAIN, DATASET, KERNEL, TEMPLATE
from tests.simulation.host import TruePush, TrueVersion
from tests.simulation.invariants import require
from tests.simulation.truth import check_always, check_reached

SESSIONS = 3
CONFIG = f"""
[chain]
name = "{CHAIN}"
sessions = {SESSIONS}
max_attempts = 10
[training]
preset = "rehearsal"
[kernel]
template = "{TEMPLATE}"
[timing]
poll_seconds = 0.1
settle_seconds = 3.0
read_gap_seconds = 0.2
grace_seconds = 5.0
retry_seconds = 0.2
"""
_TOKEN = re.compile(r"kc1\.[a-z2-7]{26}")


class Place:
    """One chain and its Kaggle; everything it starts ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "kchain.toml").write_text(CONFIG)
        self.home = folder / "home"
        self.temporary = folder / "tmp"
        self.home.mkdir()
        self.temporary.mkdir()
        self.local = LocalKaggle(folder / "kaggle", settings=SETTINGS)
        self.host = QuickHost(folder / "kaggle" / "sessions", self.local.platform.blobs, self._wake)
        # Nothing has been pushed yet, so nobody has asked the usual host for anything.
        object.__setattr__(self.local.platform, "host", self.host)
        self._running: list[psutil.Popen] = []

    @property
    def state_dir(self) -> Path:
        return self.folder / ".kchain" / CHAIN

    @property
    def homes(self) -> Path:
        """Where workers have their private folders."""
        return self.state_dir / "workers"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def environment(self) -> dict[str, str]:
        """What a controller is started with."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("KAGGLE", "KCHAIN"))}
        return {
            **inherited,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            # A mutated copy of the code, if the test runs on one, goes first.
            "PYTHONPATH": os.pathsep.join([*_given_paths(), str(ROOT)]),
            "PYTHONFAULTHANDLER": "1",
            "COLUMNS": "140",
            **pointing_at(self.local),
        }

    def start(
        self, *arguments: str, command: Sequence[str] = COMMAND, **options: Any
    ) -> psutil.Popen:
        """Start a controller, in a process group of its own."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "env": self.environment,
            **options,
        }
        process = psutil.Popen(
            [*command, *(arguments or ("run",))],
            cwd=self.folder,
            text=True,
            start_new_session=True,
            **options,
        )
        self._running.append(process)
        return process

    def finish(self, *arguments: str, **options: Any) -> tuple[int, str]:
        """Run a controller to its end; return exit code and what it printed."""
        process = self.start(*arguments, **options)
        output, _ = process.communicate(timeout=LONGEST_SECONDS)
        return process.returncode, output or ""

    def read(self) -> "Witness":
        """What the journal says, beside what local Kaggle knows."""
        with Journal(
            self.state_dir / "journal.db", CHAIN, SystemClock(), read_only=True
        ) as journal:
            return Witness(self, journal.events, journal.state)

    def count_events(self) -> int:
        """How many events there are, also while a controller is writing some."""
        return count_events(self.state_dir / "journal.db")

    def check(self, sessions: int = SESSIONS) -> None:
        """The chain has reached its target, and no invariant was broken on the way."""
        check_reached(self.read(), sessions=sessions)
        self.check_nothing_is_left()
        assert list(self.homes.iterdir()) == [], "what killed workers left is gone by now"

    def check_always(self) -> None:
        """No invariant is broken so far."""
        if (self.state_dir / "journal.db").exists():
            check_always(self.read())

    def check_nothing_is_left(self) -> None:
        """No process of a controller goes on, and the credential is in no file that it wrote."""
        wait_until(lambda: not self.workers(), "every worker has ended")
        left = list(self.temporary.rglob("*"))
        assert left == [], [str(x) for x in left]
        assert list(self.home.iterdir()) == []
        token = self.local.token.encode()
        written = [path for top in (self.state_dir, self.output) for path in top.rglob("*")]
        assert [path for path in written if path.is_file() and token in path.read_bytes()] == []

    def workers(self) -> list[psutil.Process]:
        """Workers that live, whoever started them here."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                cwd = Path(process.cwd())
                if process.status() != psutil.STATUS_ZOMBIE and cwd.is_relative_to(self.homes):
                    found.append(process)
        return found

    def close(self) -> None:
        for process in self._running:
            kill_tree(process)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        self.local.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _wake(self) -> None:
        self.local.platform.wake.set()


class Witness:
    """One chain as `simulation/truth.py` looks at it: journal, output folder and the world."""

    neighbours_as_made = ()

    def __init__(self, place: Place, events: tuple[Event, ...], state: State) -> None:
        self.events, self.state = events, state
        self.lost: list[tuple[Event, ...]] = []  # its journal never is
        self.output = place.output
        self.host = self.watch = self
        self._store = place.state_dir / "store"
        self._truth = place.local.state()
        self._blobs = place.local.platform.blobs

    def kinds(self, kind: Kind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]

    def pushes(self, kernel: str) -> list[TruePush]:
        """Every kernel version that ever landed, with the sessions it landed beside."""
        found = [found for found in self._truth["kernels"] if found["slug"] == kernel]
        return [
            TruePush(
                token=_token(version["push"]["source"]),
                version=version["number"],
                parent=(body.read_parameters(version["push"]["source"]) or {}).get("parent"),
                live_beside=self._live_beside(version["session_id"]),
            )
            for version in (found[0]["versions"] if found else ())
        ]

    def versions(self, dataset: str) -> list[TrueVersion]:
        """Every dataset version that ever landed, with its bytes."""
        found = [d for d in self._truth["datasets"] if d["draft"]["slug"] == dataset]
        description = found[0]["draft"]["description"] if found else ""
        return [
            TrueVersion(
                number=version["number"],
                token=_token(version["notes"] if version["number"] > 1 else description),
                files=body.packed(files),
                sent_manifest=files["manifest.json"],
                has_failed=False,
            )
            for version in (found[0]["versions"] if found else ())
            for files in [{n: self._blobs.path(key).read_bytes() for n, key, _ in version["files"]}]
        ]

    def neighbours(self) -> tuple[str, ...]:
        """Whatever else is in the account, where nobody but the chain has made anything."""
        kernels = [found["slug"] for found in self._truth["kernels"]]
        datasets = [found["draft"]["slug"] for found in self._truth["datasets"]]
        return tuple({*kernels, *datasets} - {KERNEL, DATASET})

    def check_kept(self) -> None:
        """Every checkpoint that was ever verified is here, byte for byte."""
        for event in self.kinds(Kind.CHECKPOINT_VERIFIED):
            kept = event.data["checkpoint"]
            copy = self._store / kept["manifest_sha256"] / kept["file"]
            digest = hashlib.sha256(copy.read_bytes()).hexdigest()
            require(digest == kept["sha256"], "I7", f"{kept['file']} has changed")

    def _live_beside(self, session_id: int) -> int:
        sessions = {session["session_id"]: session for session in self._truth["sessions"]}
        queued_at = sessions.pop(session_id)["queued_at"]
        return sum(
            other["queued_at"] <= queued_at
            and (other["ended_at"] is None or other["ended_at"] > queued_at)
            for other in sessions.values()
        )


def kill_tree(process: psutil.Popen) -> None:
    """Kill a process and everything below it at once: stopped first, so that none can react."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for act in ("suspend", "kill"):
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    getattr(member, act)()


def _given_paths() -> list[str]:
    return [path for path in [os.environ.get("PYTHONPATH")] if path]


def _token(text: str) -> str | None:
    found = _TOKEN.search(text)
    return found[0] if found else None
