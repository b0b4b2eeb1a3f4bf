"""Drives an opened chain to where it stops: ticks, waits, shows the live log, tells how it ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any

from orchestrator import engine, report
from orchestrator.cli.display import Display, describe_phase, print_json
from orchestrator.cli.target import LOCAL
from orchestrator.cli.workplace import Workplace
from orchestrator.errors import ChainError, NotNow
from orchestrator.kaggle.port import Trouble, Unreadable
from orchestrator.machine import Phase, State

STOP_LOOK_SECONDS = 2.0  # between two looks for a stop while a push is waited for
AFTER_LOG_SECONDS = 0.3  # a log that ended means a session that is about to end
# SIGINT too: a shell starts its background jobs with Ctrl-C ignored.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """Let SIGTERM and a closed terminal end a command as Ctrl-C does: tidily."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in ENDING_SIGNALS:
        signal.signal(number, interrupt)


def until_done(place: Workplace, display: Display) -> None:
    """Tick, and sleep in between; while a session runs, show its log."""
    with contextlib.closing(_Watch(place, display)) as watch:
        while (wake := place.tick()) is not None:
            _refuse_ended_local(place)
            watch.wait(wake - place.clock.now())
    display.quiet()


def _refuse_ended_local(place: Workplace) -> None:
    """A local Kaggle that another process kept may end; its address does not come back."""
    state = place.journal.state
    if place.target.binding != LOCAL or state.wait_reason != Trouble.NETWORK:
        return
    # The journal may still tell of a trouble that is over: ask before believing it.
    if isinstance(place.kaggle.quota(), Unreadable):
        raise NotNow("the local Kaggle has ended; run the same command again to go on")


class _Watch:
    """Follows the live log of the running session and cuts the wait short when it ends."""

    def __init__(self, place: Workplace, display: Display) -> None:
        self._place, self._display = place, display
        self._log_ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._follower: Any = None
        self._seen: dict[int, int] = {}

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the log of the running session ends."""
        self._start()
        if self._may_stop():
            self._wait_for_stop(seconds)
        elif self._log_ended.wait(max(0.0, seconds)):
            self._log_ended.clear()
            self._place.clock.sleep(min(AFTER_LOG_SECONDS, max(0.0, seconds)))

    def _may_stop(self) -> bool:
        return self._place.journal.state.phase in engine.BEFORE_A_PUSH

    def _wait_for_stop(self, seconds: float) -> None:
        """Sleep before a push, for days perhaps, but notice soon that nobody wants it any more."""
        clock = self._place.clock
        until = clock.now() + seconds
        while (left := until - clock.now()) > 0 and not self._place.files.is_stop_asked():
            clock.sleep(min(left, STOP_LOOK_SECONDS))

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        if self._thread is not None:
            self._thread.join()
        self._display.quiet()

    def _start(self) -> None:
        state = self._place.journal.state
        running = state.phase is Phase.LIVE and state.push and state.push.running_age
        if not running or (self._thread is not None and self._thread.is_alive()):
            return
        assert state.push is not None
        assert state.push.version is not None
        slug = self._place.project.settings.kernel_slug
        self._follower = self._place.kaggle.follow(slug, state.push.version)
        thread = threading.Thread(
            target=self._follow, args=(state.session, state.push.version), daemon=True
        )
        with contextlib.suppress(RuntimeError):  # no thread to be had: the log is not shown
            thread.start()
            self._thread = thread

    def _follow(self, session: int, version: int) -> None:
        """Show new lines; each connection replays the log from its start."""
        known = self._seen.get(version, 0)
        # OSError: no process to be had, or nobody reads what is shown; the main thread meets it too.
        with contextlib.suppress(OSError), contextlib.closing(self._follower):
            for count, entry in enumerate(self._follower, start=1):
                if count > known:
                    self._seen[version] = count
                    for line in str(entry.get("data", "")).splitlines():
                        self._display.progress(session, line)
        if self._seen.get(version, 0) > known:
            self._log_ended.set()


def close(place: Workplace, display: Display, *, as_json: bool) -> None:
    """Print the closing table and leave with the chain's exit code."""
    if not as_json:
        display.table(report.rows(place.journal.events))
    tell(place, display, as_json=as_json)
    raise_if_halted(place.journal.state)


def tell(place: Workplace, display: Display, *, as_json: bool, hint: str = "") -> None:
    """Tell where the chain stands and where its files are, in words or as JSON."""
    project, journal = place.project, place.journal
    if as_json:
        planned, stop = project.settings.chain.sessions, place.files.is_stop_asked()
        print_json(
            report.summary(project.name, journal.state, planned, journal.events, is_stop_asked=stop)
        )
        return
    display.line(f"{project.name}: {describe_phase(journal.state)}{hint}")
    if journal.state.head and project.file:
        display.line(f"checkpoints and history are in {project.output_dir}")


def raise_if_halted(state: State) -> None:
    """Leave with the reason of a halt, if there is one."""
    if state.phase is Phase.HALTED:
        raise ChainError(f"the chain is halted ({state.halt_code}): {state.halt_message}")
