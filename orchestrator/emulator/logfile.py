"""A session's log as a file: one JSON object a line, written while it runs and followed.

Standard library only.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LINE_BYTES = 1024 * 1024  # output without a newline is logged in pieces of about this size


class LogWriter:
    """The session's log file, fed with raw bytes of each stream."""

    def __init__(self, file: IO[str], started_at: float) -> None:
        self._file = file
        self._started_at = started_at
        self._rest: dict[str, bytes] = {}

    def feed(self, stream_name: str, data: bytes) -> None:
        *lines, rest = (self._rest.pop(stream_name, b"") + data).split(b"\n")
        for line in lines:
            self._write(stream_name, line + b"\n")
        if len(rest) >= LINE_BYTES:
            whole = _whole_characters_bytes(rest)
            self._write(stream_name, rest[:whole])
            rest = rest[whole:]
        self._rest[stream_name] = rest

    def finish(self) -> None:
        for stream_name, rest in self._rest.items():
            if rest:
                self._write(stream_name, rest)
        self._rest.clear()

    def _write(self, stream_name: str, data: bytes) -> None:
        entry = {
            "stream_name": stream_name,
            "time": round(time.time() - self._started_at, 6),
            "data": data.decode("utf-8", errors="replace"),
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _whole_characters_bytes(data: bytes) -> int:
    """How many bytes to take so that no UTF-8 character is cut at the end."""
    for length in range(1, 4):  # of the character that may be incomplete
        byte = data[-length]
        if byte >= 0xC0:  # it begins here
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - length if needs > length else len(data)
        if byte < 0x80:
            break
    return len(data)


class LogFollower:
    """Reads a growing log, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> Iterator[str]:
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line.decode("utf-8").rstrip("\n")
