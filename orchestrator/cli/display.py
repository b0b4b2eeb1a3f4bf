"""What a person sees while a chain goes on: one line an event, and the session's live step.

In a terminal the live line is redrawn in place; elsewhere it becomes a plain line now and then.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.status import Status
from rich.table import Table

from orchestrator.cli import printable
from orchestrator.machine import Event, Kind, Phase, State
from orchestrator.report import SPANS, Row

PROGRESS_PREFIX = "kchain: "
PLAIN_SECONDS = 1.0  # at most one plain progress line in this time
_DOING = {  # what the live line says until something better is known
    Kind.PUSH_SENT: "pushing",
    Kind.PUSH_DONE: "queued",
    Kind.SESSION_SEEN: "starting up",
    Kind.SESSION_ENDED: "downloading and verifying",
    Kind.PUBLISH_SENT: "uploading",
    Kind.PUBLISH_SEEN: "waiting until the new version is live",
}


class Screen(Console):
    """A console that leaves it to the command what to do when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Display:
    """Shows a chain's events and progress on one stream. Safe to call from two threads."""

    def __init__(self, *, to_stderr: bool = False) -> None:
        self.console = Screen(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._live: Status | None = None
        self._shown_at = 0.0
        self._lock = threading.Lock()

    def event(self, event: Event, state: State) -> None:
        """Show what has just been recorded, if it means something to a person."""
        text = describe(event, state)
        if text is not None:
            self.line(f"{_time(event.at)}  {text}")
        doing = _DOING.get(event.kind)
        if doing is not None and self.console.is_terminal:
            with self._lock:
                self._redraw(f"  session {state.session}: {doing}")

    def line(self, text: str) -> None:
        """Print one line above the live one."""
        with self._lock:
            self.console.print(printable(text), markup=False)

    def progress(self, session: int, line: str) -> None:
        """Show one line of a session's log if it is progress."""
        body = parse_progress(line)
        text = describe_progress(body) if body else None
        if body is None or text is None:
            return
        lasting = body["event"] != "step"
        now = time.monotonic()
        with self._lock:
            if self.console.is_terminal and not lasting:
                self._redraw(f"  session {session}: {printable(text)}")
            elif lasting or now - self._shown_at >= PLAIN_SECONDS:
                self._shown_at = now
                shown = f"{_time(time.time())}    session {session}: {text}"
                self.console.print(printable(shown), markup=False)

    def quiet(self) -> None:
        """Take the live line away."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None

    def table(self, rows: list[Row]) -> None:
        """Print the closing tables."""
        with self._lock:
            self.console.print(closing_tables(rows))

    def _redraw(self, text: str) -> None:
        if self._live is None:
            self._live = self.console.status(text)
            self._live.start()
        else:
            self._live.update(text)


def describe(event: Event, state: State) -> str | None:  # noqa: PLR0911, PLR0912, PLR0915, C901 - a table
    """Return an event in words; None for one that only the journal needs."""
    data = event.data
    match event.kind:
        case Kind.BOUND:
            return f"chain bound to {data['owner']}/{data['kernel']} at {data['endpoint']}"
        case Kind.RECOVERING:
            return describe_beginning(data)
        case Kind.RECOVERED | Kind.RECOVERED_LIVE:
            return describe_recovery(data)
        case Kind.PUSH_WITHDRAWN | Kind.PUBLISH_WITHDRAWN:
            return f"session {state.session}: not sent, {data['message']}"
        case Kind.PUSH_INTENT:
            parent = data["parent"]
            start = f"from {parent['file']} (sha256 {parent['sha256'][:12]})" if parent else "new"
            retry = f", attempt {data['attempt']}" if data["attempt"] > 1 else ""
            return f"session {data['session']}{retry}: push ({start})"
        case Kind.PUSH_DONE:
            adopted = " (found on Kaggle: its answer had been lost)" if data["adopted"] else ""
            return f"session {state.session}: kernel version {data['version']} queued{adopted}"
        case Kind.PUSH_REFUSED | Kind.PUBLISH_REFUSED:
            return (
                f"refused ({data['trouble']}): {data['message']}; next try {_time(data['until'])}"
            )
        case Kind.PUSH_LANDED_BAD | Kind.SESSION_OVERRUN:
            return f"session {state.session} will not count: {data['message']}"
        case Kind.PUSH_UNCLEAR | Kind.PUBLISH_UNCLEAR:
            return f"no clear answer ({data['message']}); reading Kaggle back"
        case Kind.PUSH_GIVEN_UP | Kind.PUBLISH_GIVEN_UP:
            return f"{data['message']}; trying again"
        case Kind.SESSION_SEEN:
            return f"session {state.session}: running"
        case Kind.SESSION_ENDED:
            said = f" ({data['message']})" if data["message"] else ""
            return (
                f"session {state.session}: ended, Kaggle says {data['status']}{said}; downloading"
            )
        case Kind.PUSH_OVERTAKEN:
            late = ", ".join(map(str, data["versions"]))
            return f"kernel version {late} is a push of ours that came late: it will not count"
        case Kind.CHECKPOINT_DAMAGED:
            return f"session {state.session}: {data['message']}"
        case Kind.CHECKPOINT_VERIFIED:
            checkpoint, lost = data["checkpoint"], data.get("lost") or []
            why = data.get("why") or f"{', '.join(lost)} is not what the manifest lists"
            older = f"; {why}" if lost else ""
            return (
                f"session {state.session}: verified {checkpoint['file']}"
                f" ({checkpoint['bytes']:,} bytes, sha256 {checkpoint['sha256'][:12]}){older}"
            )
        case Kind.FRUITLESS:
            return f"session {state.session} brought nothing: {data['reason']}: {data['message']}"
        case Kind.PUBLISH_INTENT:
            verb = "creating the dataset" if data["create"] else "publishing a new dataset version"
            return f"session {state.session}: {verb}"
        case Kind.PUBLISH_FOUND:
            return f"dataset version {data['version']} holds it already: checking what it holds"
        case Kind.PUBLISH_SEEN:
            return f"session {state.session}: dataset version {data['version']} is processing"
        case Kind.PUBLISH_INCOMPLETE:
            return f"{data['message']}; publishing again"
        case Kind.SET_ASIDE:
            return f"your own {data['file']} in the output folder is kept as {data['kept_as']}"
        case Kind.HEAD:
            head = state.head
            assert head is not None
            return (
                f"session {state.heads}: dataset version {data['version']} is live;"
                f" head is {head.checkpoint.file}"
            )
        case Kind.WAITING:
            return f"waiting until {_time(data['until'])}: {data['message']}"
        case Kind.FINISHED:
            return f"done: {data['reason']}"
        case Kind.HALTED:
            return f"halted: {data['message']}"
        case Kind.REOPENED | Kind.RETRIED:
            return "going on"
        case _:
            return None


def describe_beginning(data: Mapping[str, Any]) -> str:
    """Return in words why Kaggle is read back, and what became of the journal here."""
    if message := data.get("message"):
        return f"{message}: reading where the chain stands"
    text = f"reading what {data['owner']}'s account at {data['endpoint']} holds of the chain"
    if kept := data.get("set_aside"):
        text += f"; the journal here is kept as {kept}"
    return text


def describe_recovery(data: Mapping[str, Any]) -> str:
    """Return in words what a lost journal was rebuilt to."""
    head, push = data["head"], data.get("push")
    text = "recovered: no checkpoint was accepted yet"
    if head:
        text = (
            f"recovered: head is {head['checkpoint']['file']} of session {data['heads']},"
            f" dataset version {head['version']}"
        )
    if push:
        text += f"; session {push['session']} was pushed as kernel version {push['version']}"
    return text


def describe_phase(state: State) -> str:
    """Return in words where a chain stands."""
    words = {
        Phase.UNBOUND: "not started",
        Phase.RECOVERING: "reading from Kaggle where the chain stands",
        Phase.IDLE: "ready for the next push",
        Phase.PUSHING: f"about to push session {state.session}",
        Phase.PUSH_UNKNOWN: f"finding out whether session {state.session} was pushed",
        Phase.LIVE: f"session {state.session} is on Kaggle",
        Phase.ENDED: f"fetching what session {state.session} left",
        Phase.VERIFIED: f"session {state.session}'s checkpoint is here and verified",
        Phase.PUBLISHING: f"about to publish session {state.session}'s checkpoint",
        Phase.PUBLISH_UNKNOWN: "finding out whether the checkpoint was published",
        Phase.PUBLISHED: "waiting until the new dataset version is live",
        Phase.DONE: f"finished: {state.finish_reason}",
        Phase.HALTED: "halted",
    }
    return words[state.phase]


def parse_progress(line: str) -> dict[str, Any] | None:
    """Return the body of a progress line; None for any other line."""
    if not line.startswith(PROGRESS_PREFIX):
        return None
    try:
        body = json.loads(line.removeprefix(PROGRESS_PREFIX))
    except ValueError:
        return None
    return body if isinstance(body, dict) and "event" in body else None


def describe_progress(body: Mapping[str, Any]) -> str | None:  # noqa: PLR0911 - a table
    """Return a progress line in words."""
    match body["event"]:
        case "step":
            total = f"/{body['max_steps']}" if body.get("max_steps") else ""
            speed = body.get("tokens_per_second")
            rate = f", {speed:,.0f} tokens/s" if speed else ""
            return f"step {body.get('step')}{total}  loss {_number(body.get('loss'))}{rate}"
        case "validation":
            return f"step {body.get('step')}  validation loss {_number(body.get('loss'))}"
        case "checkpoint":
            return f"step {body.get('step')}  saved {body.get('file')}"
        case "resume":
            return f"resuming from {body.get('file')} (sha256 {str(body.get('sha256'))[:12]})"
        case "epoch":
            return f"epoch {body.get('epoch')} done  loss {_number(body.get('loss'))}"
        case "end":
            reason = f", {body['reason']}" if body.get("reason") else ""
            return f"training ended at step {body.get('step')}: {body.get('outcome')}{reason}"
        case _:
            return None


def closing_tables(rows: list[Row]) -> Group:
    """Return what ends a run: per session what was trained, and where the seconds went."""
    results = Table(box=None, pad_edge=False)
    for name in ("session", "steps", "loss", "val.", "checkpoint", "dataset"):
        results.add_column(name, overflow="fold")
    seconds = Table(box=None, pad_edge=False)
    seconds.add_column("seconds")
    for name in SPANS:
        seconds.add_column(name, justify="right")
    for row in rows:
        name = str(row.session) + (f" (try {row.attempts})" if row.attempts > 1 else "")
        results.add_row(
            name,
            f"{_whole(row.first_step)}-{_whole(row.last_step)}",
            f"{_number(row.first_loss)} to {_number(row.last_loss)}",
            _number(row.val_loss),
            row.checkpoint or "-",
            f"v{row.dataset_version}" if row.dataset_version else "-",
        )
        spans = (f"{row.seconds[span]:.1f}" if span in row.seconds else "-" for span in SPANS)
        seconds.add_row(f"session {row.session}", *spans)
    return Group(results, "", seconds)


def print_json(body: object) -> None:
    """Print a document for a program to read."""
    sys.stdout.write(json.dumps(body, indent=2) + "\n")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)


def _time(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    far = abs(at - time.time()) > 86_400
    return moment.strftime("%Y-%m-%d %H:%M" if far else "%H:%M:%S")
