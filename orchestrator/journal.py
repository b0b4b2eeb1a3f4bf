"""The journal: one append-only SQLite table of events, the only memory of a chain.

Each append is one transaction, durable before it returns. The primary key (chain, seq) admits
exactly one of two controllers that append at once; the other gets JournalConflict. A body
carries boot id, monotonic time and a checksum beside its data. A journal that is damaged, or
written by a newer kchain, is refused and left as it is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.clock import Clock
from orchestrator.errors import ConfigError, JournalConflict, JournalError, KchainError, NotNow
from orchestrator.machine import Event, Kind, State, apply

FORMAT = 1  # PRAGMA user_version
_SCHEMA = """
CREATE TABLE events (
    chain TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (chain, seq)
) WITHOUT ROWID
"""


class Journal:
    """The events of one chain, and the state they fold to."""

    def __init__(
        self,
        path: Path,
        chain: str,
        clock: Clock,
        *,
        on_event: Callable[[Event, State], None] | None = None,
        read_only: bool = False,
    ) -> None:
        """Open or create the journal at `path`.

        Raises:
            JournalError: the file is damaged, newer than this kchain, or not a journal.
        """
        self.path, self.chain = path, chain
        self._clock, self._on_event = clock, on_event
        self._db = _connect(path, read_only)
        try:
            _prepare(self._db, path)
            self.state = State()
            self._history: list[Event] = []
            self._catch_up()
        except BaseException:
            self._db.close()
            raise

    def append(self, kind: Kind, **data: Any) -> State:
        """Add one event, durably, and return the new state.

        Raises:
            IllegalTransition: the machine has no such row; nothing was written.
            JournalConflict: another controller wrote first; nothing was written.
            NotNow, ConfigError: the disk is full or read-only; nothing was written.
        """
        event = Event(self.state.seq + 1, self._clock.now(), kind, data)
        state = apply(self.state, event)
        row = (self.chain, event.seq, event.at, kind.value, _render_body(event))
        try:
            with self._db:
                self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise JournalConflict(
                f"another controller is driving chain {self.chain!r}; stop one of the two"
            ) from error
        except sqlite3.Error as error:
            raise _unwritable(self.path, error) from error
        self._history.append(event)
        self.state = state
        if self._on_event:
            self._on_event(event, state)
        return state

    @property
    def events(self) -> tuple[Event, ...]:
        """All events so far, oldest first."""
        return tuple(self._history)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _catch_up(self) -> None:
        query = "SELECT seq, at, kind, body FROM events WHERE chain = ? ORDER BY seq"
        try:
            rows = self._db.execute(query, (self.chain,)).fetchall()
        except sqlite3.Error as error:
            raise _corrupt(self.path, str(error)) from error
        for expected, (seq, at, kind, body) in enumerate(rows, start=1):
            if seq != expected:
                raise _corrupt(self.path, f"event {expected} is missing")
            event = Event(seq, at, _kind(self.path, kind), _parse_body(self.path, seq, kind, body))
            self.state = apply(self.state, event)
            self._history.append(event)


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    try:
        # Autocommit off is Python's default: `with connection` commits or rolls back.
        return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        raise _unwritable(path, error) from error


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise JournalError(
                f"{path} was written by a newer kchain (format {version}, this one reads {FORMAT});"
                " upgrade kchain; the file was not touched"
            )
        # FULL: an acknowledged event survives a power cut. A rollback journal, because
        # there is one writer and a WAL would be two more files to lose.
        db.execute("PRAGMA synchronous = FULL")
        if version == 0:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise _corrupt(path, "it is some other SQLite file")
            with db:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version = {FORMAT}")
        elif (result := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise _corrupt(path, result)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise _unwritable(path, error) from error
        raise _corrupt(path, str(error)) from error


def _render_body(event: Event) -> str:
    body = {
        "data": dict(event.data),
        "boot_id": _boot_id(),
        "monotonic": time.monotonic(),
        "sha256": _checksum(event.seq, event.kind.value, event.data),
    }
    return json.dumps(body, sort_keys=True)


def _parse_body(path: Path, seq: int, kind: str, body: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
        data, checksum = parsed["data"], parsed["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(path, f"event {seq} cannot be read") from error
    if not isinstance(data, dict) or checksum != _checksum(seq, kind, data):
        raise _corrupt(path, f"event {seq} does not match its checksum")
    return data


def _checksum(seq: int, kind: str, data: Mapping[str, Any]) -> str:
    text = json.dumps([seq, kind, dict(data)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _kind(path: Path, kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise JournalError(
            f"{path} holds an event {kind!r} that this kchain does not know; upgrade kchain;"
            " the file was not touched"
        ) from None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _corrupt(path: Path, why: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({why}); it was not touched. Restore it from a backup,"
        " or move the folder away and start again with a new chain name"
    )


def _unwritable(path: Path, error: sqlite3.Error) -> KchainError:
    message = f"the journal {path} cannot be opened or written ({error}); nothing was lost: "
    if "full" in str(error) or "locked" in str(error):
        return NotNow(message + "make room or end the other program, and run the command again")
    return ConfigError(message + "check the folder's permissions, and run the command again")
