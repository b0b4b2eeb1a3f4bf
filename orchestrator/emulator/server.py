"""Local Kaggle as a server: threads and lifetime. Rules are in world.py, routes in routes.py.

Listens on loopback only. The state folder holds everything:

    world.jsonl   every operation, replayed at the next start
    blobs/        the bytes of outputs, logs and dataset files
    sessions/     one folder for each open session
    scratch/      parts of uploads, bundles for download
    account.json  the credentials it issued, readable by the owner only
    server.json   where it listens, while it runs
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import uvicorn

from orchestrator.emulator.accounts import load_account
from orchestrator.emulator.blobs import Blobs
from orchestrator.emulator.chaos import Chaos
from orchestrator.emulator.connections import Connection
from orchestrator.emulator.effects import FaultyApp
from orchestrator.emulator.faults import SESSION_END, SESSION_START, Fault, FaultPlan
from orchestrator.emulator.hosting import Host
from orchestrator.emulator.ledger import Ledger, StateUnreadable
from orchestrator.emulator.links import Links
from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import Refusal, Session
from orchestrator.emulator.routes import application
from orchestrator.emulator.settings import Settings

__all__ = [
    "Chaos",
    "Fault",
    "LocalKaggle",
    "PortTaken",
    "Settings",
    "StateLocked",
    "StateUnreadable",
]

_TRY_AGAIN_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.2  # for sessions whose supervisor is not our child


class PortTaken(OSError):
    """Another program listens on the port that was asked for."""


class StateLocked(RuntimeError):
    """Another local Kaggle is using the state folder."""


class LocalKaggle:
    """One local Kaggle, listening from construction to `close`.

    Sessions go on when it closes, unless told otherwise; the next one on the same state
    folder takes them over.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 0,
        settings: Settings = Settings(),  # noqa: B008
        faults: Iterable[Fault] = (),
        chaos: Chaos | None = None,
    ) -> None:
        state_dir = state_dir.resolve()
        state_dir.mkdir(parents=True, exist_ok=True)
        self._server_file = state_dir / "server.json"
        with ExitStack() as opened:
            opened.enter_context(_lock_state(state_dir / "lock"))
            listener = opened.enter_context(_listen(port))
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            plan = FaultPlan(faults, chaos.draw if chaos else None)
            self.platform = _platform(state_dir, self.url, settings, plan)
            opened.callback(self.platform.ledger.close)
            self._opened = opened.pop_all()
        self.faults = self.platform.faults
        self.username = settings.username
        self.token = self.platform.account.token
        self.key = self.platform.account.key
        self._http = uvicorn.Server(
            uvicorn.Config(
                FaultyApp(application(self.platform), self.faults),
                http=Connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,  # logging belongs to the program that embeds this
                log_level="error",
                timeout_graceful_shutdown=2,
            )
        )
        # daemon: a program that is interrupted before it can call close() ends all the same
        self._threads = [
            threading.Thread(target=target, args=args, name=f"local-kaggle-{name}", daemon=True)
            for name, target, args in (
                ("http", self._http.run, ([listener],)),
                ("sessions", self._keep_sessions, ()),
            )
        ]
        for thread in self._threads:
            thread.start()
        draft = self._server_file.with_suffix(".tmp")  # whoever sees the file finds all of it
        draft.write_text(json.dumps({"url": self.url, "pid": os.getpid()}))
        draft.replace(self._server_file)

    def __enter__(self) -> "LocalKaggle":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def state(self) -> dict[str, Any]:
        """The ground truth, for tests."""
        return self.platform.ledger.ask(self.platform.ledger.world.dump)

    def close(self, kill_sessions: bool = False) -> None:
        """Stop listening; with `kill_sessions` cancel what runs, otherwise let it go on."""
        if self.platform.closing.is_set():
            return
        if kill_sessions:
            self._cancel_all()
        self.platform.closing.set()
        self.platform.wake.set()
        self._http.should_exit = True
        for thread in self._threads:
            thread.join()
        self._server_file.unlink(missing_ok=True)
        self._opened.close()

    def _cancel_all(self) -> None:
        """Ask every supervisor to end its session, and wait until the world knows that it did."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            running = [s for s in self._open_sessions() if s.started_at is not None]
            if not running:
                return
            for session in running:
                if self.platform.host.has_launched(session.session_id):
                    self.platform.host.terminate(session.session_id)
            time.sleep(0.05)

    def _open_sessions(self) -> list[Session]:
        return list(self.platform.ledger.ask(self.platform.ledger.world.open_sessions))

    def _keep_sessions(self) -> None:
        """Start, launch and collect sessions until the server closes."""
        while True:
            self.platform.wake.clear()  # before looking at anything, so that no call is missed
            if self.platform.closing.is_set():
                return
            try:
                keep_sessions(self.platform)
            except OSError as error:  # the disk is full: all is as it was, and tried again
                with suppress(OSError):
                    sys.stderr.write(f"local Kaggle cannot go on with its sessions: {error}\n")
                self.platform.wake.wait(_TRY_AGAIN_SECONDS)
            self.platform.wake.wait(self._patience_seconds())

    def _patience_seconds(self) -> float | None:
        """How long nothing can happen that nobody tells us of."""
        ledger = self.platform.ledger
        if any(session.started_at is not None for session in self._open_sessions()):
            return _LOOK_AGAIN_SECONDS
        due_at = ledger.ask(ledger.world.next_due_at)
        return None if due_at is None else max(0.0, due_at - ledger.world.now)


def keep_sessions(platform: Platform) -> None:
    """One turn: start what is due, launch what has not been, collect what has ended.

    A session whose kernel is deleted meanwhile is refused, and cleared away in the next turn.
    """
    ask, do, world = platform.ledger.ask, platform.ledger.do, platform.ledger.world
    for session in ask(world.due_sessions):
        twist = platform.faults.session_twist(SESSION_START)
        with suppress(Refusal):
            do(world.start_session, session_id=session.session_id, twist=twist)
    running = [session for session in ask(world.open_sessions) if session.started_at is not None]
    platform.host.clear_away({session.session_id for session in running})
    for session in running:
        if not platform.host.has_launched(session.session_id):
            with suppress(Refusal):
                _launch(platform, session)
        elif not platform.host.is_alive(session.session_id):
            _collect(platform, session.session_id)


def _launch(platform: Platform, session: Session) -> None:
    version = platform.ledger.ask(
        platform.ledger.world.version_of_session, session_id=session.session_id
    )
    try:
        platform.host.launch(session, version)
    except OSError as error:  # the disk is full, or a blob is gone: Kaggle loses machines too
        platform.host.give_up(session.session_id, f"Local Kaggle could not start it: {error}")
        _collect(platform, session.session_id)


def _collect(platform: Platform, session_id: int) -> None:
    report = platform.host.collect(session_id)
    platform.ledger.do(
        platform.ledger.world.end_session,
        session_id=session_id,
        ending=report.ending,
        files=report.files,
        log_key=report.log_key,
        ended_at=report.ended_at,
        twist=platform.faults.session_twist(SESSION_END),
    )
    platform.host.discard(session_id)


def _platform(state_dir: Path, url: str, settings: Settings, faults: FaultPlan) -> Platform:
    account = load_account(state_dir / "account.json", settings.username)
    blobs = Blobs(state_dir / "blobs")
    (state_dir / "scratch").mkdir(exist_ok=True)
    wake = threading.Event()
    return Platform(
        ledger=Ledger(state_dir / "world.jsonl", settings),
        blobs=blobs,
        host=Host(state_dir / "sessions", blobs, on_exit=wake.set),
        account=account,
        links=Links(account.link_secret, url),
        faults=faults,
        scratch=state_dir / "scratch",
        wake=wake,
        closing=threading.Event(),
    )


def _lock_state(path: Path) -> IO[str]:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StateLocked(
            f"another local Kaggle is using {path.parent}; stop it or choose another folder"
        ) from None
    return lock


def _listen(port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on, every
    # answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # from now on connections wait instead of being refused
    except OSError as error:
        listener.close()
        raise PortTaken(
            error.errno, f"port {port} on 127.0.0.1 is taken; choose another, or 0 for any"
        ) from error
    return listener
