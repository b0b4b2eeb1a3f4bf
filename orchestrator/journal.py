"""The journal: one append-only SQLite table of events, the only memory of a chain.

Each append is one transaction, durable before it returns. The primary key (chain, seq) admits
exactly one of two controllers that append at once; the other gets JournalConflict. A body
carries boot id and monotonic time beside its data, and a checksum of the whole row. A journal
that is damaged, or of another format, is refused and left as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.clock import Clock, Moment
from orchestrator.disk import Disk, free_name
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

FORMAT = 2  # PRAGMA user_version
_SCHEMA = """CREATE TABLE events (
    chain TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (chain, seq)
) WITHOUT ROWID"""
_Row = tuple[Any, ...]  # as in the schema


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
        clean: Callable[[str], str] | None = None,
    ) -> None:
        """Open or create the journal at `path`; `clean` passes on each text that is to be kept.

        Raises:
            JournalError: the file is damaged, of another format, another chain's, or not a journal.
        """
        self.path, self.chain = path, chain
        self._clock, self._on_event, self._clean = clock, on_event, clean
        self._open(read_only)

    def _open(self, read_only: bool) -> None:
        with contextlib.ExitStack() as unless_opened:
            self._db = unless_opened.enter_context(
                contextlib.closing(_connect(self.path, read_only))
            )
            self._db.execute(f"PRAGMA query_only = {read_only:d}")
            begun = _prepare(self._db, self.path, read_only)
            self.state = State()
            self._history: list[Event] = []
            self._last: Moment | None = None
            if begun:
                self._catch_up()
            unless_opened.pop_all()

    def append(self, kind: Kind, **data: Any) -> State:
        """Add one event, durably, and return the new state.

        Raises:
            IllegalTransition: the machine has no such row; nothing was written.
            JournalConflict: another controller wrote first; nothing was written.
            NotNow, ConfigError: the disk is full or read-only; nothing was written.
        """
        now = self._clock.moment()
        kept = _cleaned(data, self._clean) if self._clean else data
        event = self._event(self.state.seq + 1, kind, kept, now)
        state = apply(self.state, event)
        self._store(event, now)
        self._remember(event, state, now)
        if self._on_event:
            self._on_event(event, state)
        return state

    def _store(self, event: Event, moment: Moment) -> None:
        """Write one event; when this returns it is on the disk, whatever happens next."""
        row = _render(self.chain, event, moment)
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
    def is_restarted(self) -> bool:
        """Tell whether the machine has been started anew since the newest event."""
        return self._is_restarted_at(self._clock.moment())

    @property
    def events(self) -> tuple[Event, ...]:
        """All events so far, oldest first."""
        return tuple(self._history)

    def set_aside(self) -> Path:
        """Keep the file under another name, to last, and begin an empty journal in its place."""
        self.close()
        disk, kept = Disk(), free_name(self.path, "old")
        disk.rename(self.path, kept)
        disk.flush(self.path.parent)
        self._open(read_only=False)
        return kept

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

    def _is_restarted_at(self, now: Moment) -> bool:
        return self._last is not None and not now.is_same_boot(self._last)

    def _event(self, seq: int, kind: Kind, data: dict[str, Any], now: Moment) -> Event:
        age = self._age_at(now)
        boot_age = age if self._is_restarted_at(now) else self.state.boot_age
        return Event(seq, now.at, kind, data, age, boot_age)

    def _remember(self, event: Event, state: State, moment: Moment) -> None:
        self._history.append(event)
        self.state, self._last = state, moment

    def _catch_up(self) -> None:
        try:
            # All of them: a row whose chain is not ours was ours before it was damaged.
            query = "SELECT chain, seq, at, kind, body FROM events ORDER BY chain, seq"
            rows = self._db.execute(query).fetchall()
        except _TROUBLE as error:
            raise _failure(self.path, error) from error
        self._replay(rows)

    def _replay(self, rows: Iterable[_Row]) -> None:
        """Go on from the state with what was written after it."""
        for expected, row in enumerate(rows, start=self.state.seq + 1):
            chain, seq, at, kind, _body = row
            if chain != self.chain:
                raise _corrupt(self.path, f"it holds an event of chain {chain!r}")
            if seq != expected:
                raise _corrupt(self.path, f"event {expected} is missing")
            content = _read_body(self.path, row)
            moment = Moment(at, content["boot_id"], content["monotonic"])
            event = self._event(seq, _kind(self.path, kind), content["data"], moment)
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
        # Size first: another controller makes the table and the version in one transaction.
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        version = _user_version(db)
        if version == FORMAT:
            _check(db, path)
        elif version:
            raise _other_format(path, version)
        elif pages:
            raise _corrupt(path, "it is some other SQLite file")
        elif read_only:
            return False  # whoever began to make it died, or had no room
        else:
            _create(db)
    except _TROUBLE as error:
        raise _failure(path, error) from error
    return True


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Look at all of the file, not only at what a query happens to meet."""
    if db.execute("SELECT sql FROM sqlite_master").fetchall() != [(_SCHEMA,)]:
        raise _corrupt(path, "its table is not a journal's")
    if (result := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        raise _corrupt(path, result)


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


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Return a value with every text in it as it may be kept."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, clean) for item in value]
    return value


def _render(chain: str, event: Event, moment: Moment) -> _Row:
    content = {
        "data": dict(event.data),
        "boot_id": moment.boot_id,
        "monotonic": moment.steady,
    }
    columns = (chain, event.seq, event.at, event.kind.value)
    body = {**content, "sha256": _checksum(*columns, content)}
    return (*columns, json.dumps(body, sort_keys=True))


def _read_body(path: Path, row: _Row) -> dict[str, Any]:
    """Return what a body holds if the row is what was written, to the last column."""
    *columns, body = row
    try:
        content = dict(json.loads(body))
        is_whole = content.pop("sha256") == _checksum(*columns, content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _corrupt(path, f"event {row[1]} cannot be read") from error
    if not is_whole:
        raise _corrupt(path, f"event {row[1]} does not match its checksum")
    return content


def _checksum(*row: Any) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _kind(path: Path, kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise JournalError(
            f"{path} holds an event {kind!r} that this kchain does not know; upgrade kchain;"
            f" the file was not touched. Or move the folder {path.parent} away: `kchain recover`"
            " rebuilds it from Kaggle"
        ) from None


def _other_format(path: Path, version: int) -> JournalError:
    newer = version > FORMAT
    way_out = "upgrade kchain" if newer else "end the chain with that kchain"
    return JournalError(
        f"{path} was written by {'a newer' if newer else 'an older'} kchain (format {version},"
        f" this one reads {FORMAT}); {way_out}; the file was not touched. Or move the folder"
        f" {path.parent} away: `kchain recover` rebuilds it from Kaggle"
    )


def _corrupt(path: Path, why: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({why}); it was not touched. Move the folder"
        f" {path.parent} away: `kchain recover` rebuilds it from Kaggle"
    )


def _failure(path: Path, error: Exception) -> KchainError:
    """Class what SQLite says: try later, mend the permissions, or the file is damaged."""
    # The rest of it is detail. Python's own errors have no code: text that is not UTF-8.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    message = f"the journal {path} cannot be opened or written ({error}); nothing was lost: "
    if code in _PASSING:
        return NotNow(message + "make room or end the other program, and run the command again")
    if code in _NOT_PERMITTED:
        return ConfigError(message + "check the folder's permissions, and run the command again")
    return _corrupt(path, str(error) or "reading it needs more memory than there is")


# Beside SQLite's own: where it quotes what it cannot read, and where a damaged length asks for
# more memory than there is.
_TROUBLE = (sqlite3.Error, UnicodeDecodeError, MemoryError)
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_NOT_PERMITTED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
