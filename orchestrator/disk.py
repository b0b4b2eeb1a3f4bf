"""What the disk is asked to do, one primitive a method, and when it is known to last.

A file's bytes last once the file is flushed; a name (of a file made, linked, renamed or removed)
lasts once its folder is flushed. Until then a power cut may take either, in any order. Everything
that `files.py` and `delivery.py` write goes through here, so that a test can put a disk beneath
it that fails, or one that remembers what a power cut would leave.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from io import FileIO
from pathlib import Path

StrPath = str | Path
CHUNK_BYTES = 1 << 20


def free_name(path: Path, ending: str) -> Path:
    """Return the first of `NAME.ending`, `NAME.ending-2` and so on that nothing has yet."""
    free, number = path.with_name(f"{path.name}.{ending}"), 1
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{ending}-{number}")
    return free


class Disk:
    """The machine's own disk."""

    def make_folders(self, path: StrPath, mode: int = 0o777) -> None:
        """Make a folder and what is missing above it, to last."""
        if os.path.isdir(path):
            return
        missing, path = list[Path](), Path(path)
        while not os.path.isdir(path):
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            self.make_folder(folder, mode)
            self.flush(folder.parent)

    def make_folder(self, path: StrPath, mode: int) -> None:
        """Make one folder, unless it is there."""
        if not os.path.isdir(path):
            Path(path).mkdir(mode=mode, exist_ok=True)

    def open(self, path: StrPath, flags: int, mode: int) -> FileIO:
        """Open a file for reading and writing, made if it is missing; never through a symlink."""
        flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        return os.fdopen(os.open(path, flags, mode), "r+b", buffering=0)

    def write(self, file: FileIO, data: bytes) -> None:
        """Write all of it where the file stands, at once."""
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]

    def empty(self, file: FileIO) -> None:
        """Remove all bytes from a file and stand at its beginning."""
        file.seek(0)
        file.truncate()

    def flush(self, path: StrPath) -> None:
        """Let the bytes of a file, or the names in a folder, last."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(descriptor)

    def link(self, source: StrPath, target: StrPath) -> None:
        """Give a file a second name."""
        os.link(source, target)

    def rename(self, source: StrPath, target: StrPath) -> None:
        """Give a file or folder another name, in place of what had it."""
        os.replace(source, target)

    def unlink(self, path: StrPath) -> None:
        """Remove a name, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def remove_folder(self, path: StrPath) -> None:
        """Remove a folder with all that is in it; what cannot be removed stays."""
        shutil.rmtree(path, ignore_errors=True)


def replace_copy(disk: Disk, source: str, target: str) -> None:
    """Copy a file to a name that holds the old bytes or the new ones at any time."""
    folder, name = os.path.split(target)
    temporary = f"{folder}/.{name}.part"
    disk.make_folders(folder)
    disk.unlink(temporary)
    with (
        open(source, "rb", buffering=0) as reader,
        disk.open(temporary, os.O_EXCL, 0o666) as writer,
    ):
        while chunk := reader.read(CHUNK_BYTES):
            disk.write(writer, chunk)
    disk.flush(temporary)
    disk.rename(temporary, target)
    disk.flush(folder)


def size_bytes(path: StrPath) -> int | None:
    """Return a file's size; None where there is none, and for what is no file of its own."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def names_below(folder: StrPath) -> list[str]:
    """Return the names of the files in a folder and in its folders; none where there is none."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [entry.name for entry in entries if entry.is_file()]
    for below in (entry for entry in entries if entry.is_dir(follow_symlinks=False)):
        names += (f"{below.name}/{name}" for name in names_below(below.path))
    return sorted(names)
