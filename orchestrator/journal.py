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
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.clock import Clock, Moment
from orchestrator.errors import (
    ConfigError,
    IllegalTransition,
    JournalConflict,
    JournalError,
    KchainError,
    NotNow,
)
from orchestrator.fold import apply
from orchestrator.machine import Event, Kind, State

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
            self._db.execute(f"PRAGMA query_only = {read_only:d}")
            begun = _prepare(self._db, path, read_only)
            self.state = State()
            self._history: list[Event] = []
            self._last: Moment | None = None
            if begun:
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
        now = self._clock.moment()
        event = Event(self.state.seq + 1, now.at, kind, data, self._age_at(now))
        state = apply(self.state, event)
        self._store(event, now)
        self._remember(event, state, now)
        if self._on_event:
            self._on_event(event, state)
        return state

    def _store(self, event: Event, moment: Moment) -> None:
        """Write one event; when this returns it is on the disk, whatever happens next."""
        body = _render_body(self.chain, event, moment)
        row = (self.chain, event.seq, event.at, event.kind.value, body)
        try:
            with self._db:
                self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise JournalConflict(
                f"another controller is driving chain {self.chain!r}; stop one of the two"
            ) from error
        except sqlite3.Error as error:
            raise _failure(self.path, error) from error

    @property
    def age(self) -> float:
        """Return the seconds since the chain's first event, by a clock that nobody sets."""
        return self._age_at(self._clock.moment())

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

    def _age_at(self, now: Moment) -> float:
        if self._last is None:
            return 0.0
        return self.state.age + now.seconds_since(self._last)

    def _remember(self, event: Event, state: State, moment: Moment) -> None:
        self._history.append(event)
        self.state, self._last = state, moment

    def _catch_up(self) -> None:
        query = "SELECT seq, at, kind, body FROM events WHERE chain = ? ORDER BY seq"
        try:
            rows = self._db.execute(query, (self.chain,)).fetchall()
        except sqlite3.Error as error:
            raise _failure(self.path, error) from error
        for expected, (seq, at, kind, body) in enumerate(rows, start=1):
            if seq != expected:
                raise _corrupt(self.path, f"event {expected} is missing")
            data, moment, checksum = _parse_body(self.path, seq, at, body)
            event = Event(seq, at, _kind(self.path, kind), data, self._age_at(moment))
            if checksum != _checksum(self.chain, event):
                raise _corrupt(self.path, f"event {seq} does not match its checksum")
            try:
                state = apply(self.state, event)
            except IllegalTransition as error:
                raise _corrupt(self.path, f"event {seq}: {error}") from error
            self._remember(event, state, moment)


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    # Not "ro": what a killed controller left half written must be rolled back to be read.
    mode = "rw" if read_only else "rwc"
    try:
        # Autocommit off is Python's default: `with connection` commits or rolls back.
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        raise _failure(path, error) from error


def _prepare(db: sqlite3.Connection, path: Path, read_only: bool) -> bool:
    """Make sure that the file is a journal; tell whether it is one by now."""
    try:
        # EXTRA: an acknowledged event survives a power cut. A rollback journal, because
        # there is one writer and a WAL would be two more files to lose.
        db.execute("PRAGMA synchronous = EXTRA")
        # Tables first: another controller makes them and sets the version in one transaction.
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = _user_version(db)
        if version > FORMAT:
            raise JournalError(
                f"{path} was written by a newer kchain (format {version}, this one reads {FORMAT});"
                f" upgrade kchain; the file was not touched. Or move the folder {path.parent} away:"
                " `kchain recover` rebuilds it from Kaggle"
            )
        if version == 0 and tables:
            raise _corrupt(path, "it is some other SQLite file")
        if version == 0 and read_only:
            return False  # whoever began to make it died, or had no room
        if version == 0:
            _create(db)
        elif (result := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise _corrupt(path, result)
    except sqlite3.Error as error:
        raise _failure(path, error) from error
    return True


def _create(db: sqlite3.Connection) -> None:
    """Make the table and mark the file as ours, together or not at all."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _user_version(db) == 0:  # else another controller was quicker
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version = {FORMAT}")


def _user_version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _render_body(chain: str, event: Event, moment: Moment) -> str:
    body = {
        "data": dict(event.data),
        "boot_id": moment.boot_id,
        "monotonic": moment.steady,
        "sha256": _checksum(chain, event),
    }
    return json.dumps(body, sort_keys=True)


def _parse_body(
    path: Path, seq: int, at: float, body: str
) -> tuple[dict[str, Any], Moment, object]:
    try:
        parsed = json.loads(body)
        moment = Moment(at, str(parsed["boot_id"]), float(parsed["monotonic"]))
        return dict(parsed["data"]), moment, parsed["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(path, f"event {seq} cannot be read") from error


def _checksum(chain: str, event: Event) -> str:
    text = json.dumps(
        [chain, event.seq, event.at, event.kind.value, dict(event.data)], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _kind(path: Path, kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise JournalError(
            f"{path} holds an event {kind!r} that this kchain does not know; upgrade kchain;"
            f" the file was not touched. Or move the folder {path.parent} away: `kchain recover`"
            " rebuilds it from Kaggle"
        ) from None


def _corrupt(path: Path, why: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({why}); it was not touched. Move the folder"
        f" {path.parent} away: `kchain recover` rebuilds it from Kaggle"
    )


def _failure(path: Path, error: sqlite3.Error) -> KchainError:
    """Class what SQLite says: try later, mend the permissions, or the file is damaged."""
    code = error.sqlite_errorcode & 0xFF  # the rest of it is detail
    message = f"the journal {path} cannot be opened or written ({error}); nothing was lost: "
    if code in _PASSING:
        return NotNow(message + "make room or end the other program, and run the command again")
    if code in _NOT_PERMITTED:
        return ConfigError(message + "check the folder's permissions, and run the command again")
    return _corrupt(path, str(error))


_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_NOT_PERMITTED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
