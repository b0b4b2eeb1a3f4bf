"""What the disk is asked to do, one primitive a method, and when it is known to last.

A file's bytes last once the file is flushed; a name (of a file made, linked, renamed or removed)
lasts once its folder is flushed. Until then a power cut may take either, in any order. Everything
that `files.py` writes goes through here, so that a test can put a disk beneath it that fails, or
one that remembers what a power cut would leave.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO


def free_name(path: Path, ending: str) -> Path:
    """Return the first of `NAME.ending`, `NAME.ending-2` and so on that nothing has yet."""
    free, number = path.with_name(f"{path.name}.{ending}"), 1
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{ending}-{number}")
    return free


class Disk:
    """The machine's own disk."""

    def make_folders(self, path: Path, mode: int = 0o777) -> None:
        """Make a folder and what is missing above it, to last."""
        missing: list[Path] = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            self.make_folder(folder, mode)
            self.flush(folder.parent)

    def make_folder(self, path: Path, mode: int) -> None:
        """Make one folder, unless it is there."""
        if not path.is_dir():
            path.mkdir(mode=mode, exist_ok=True)

    def open(self, path: Path, flags: int, mode: int) -> IO[bytes]:
        """Open a file for reading and writing, made if it is missing; never through a symlink."""
        flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        return os.fdopen(os.open(path, flags, mode), "r+b")

    def write(self, file: IO[bytes], data: bytes) -> None:
        """Write where the file stands."""
        file.write(data)

    def empty(self, file: IO[bytes]) -> None:
        """Remove all bytes from a file and stand at its beginning."""
        file.seek(0)
        file.truncate()

    def flush(self, path: Path) -> None:
        """Let the bytes of a file, or the names in a folder, last."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name, in place of what had it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name, if it is there."""
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with all that is in it; what cannot be removed stays."""
        shutil.rmtree(path, ignore_errors=True)
