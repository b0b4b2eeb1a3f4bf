"""The one door to the local disk that matters: what a chain keeps beside its journal.

    <state>/store/<manifest sha256>/   verified checkpoints with their manifest, never changed
    <state>/incoming/<token>/          one download attempt, new for every attempt
    <state>/staging/<token>/           what one publication uploads, new for every attempt

A file gets its final name only after its bytes are flushed; a folder is promoted by one rename.
When a method returns, what it made survives a power cut; what is still arriving need not.
Names come from outside, so they are checked before they touch the disk.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.disk import Disk, free_name
from orchestrator.errors import CheckpointError

Tell = Callable[[str, str], None]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_PORTS = (f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))
_RESERVED = frozenset({"con", "prn", "aux", "nul", *_PORTS})
_CHUNK_BYTES = 1 << 20
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@functools.lru_cache(maxsize=1024)
def check_name(name: str) -> str:
    """Return `name` if it is safe as a file name anywhere; raise CheckpointError if not."""
    if (
        not _NAME.fullmatch(name)
        or name.endswith(".")
        or name.split(".", maxsplit=1)[0].lower() in _RESERVED
    ):
        raise CheckpointError(f"refused file name {name!r}")
    return name


def stop_marker(state_dir: Path) -> Path:
    """Return the file whose presence asks the chain to launch no more sessions."""
    return state_dir / "stop"


def is_stop_asked(state_dir: Path) -> bool:
    """Tell whether a person wants no more sessions to be launched."""
    return stop_marker(state_dir).exists()


def ask_stop(state_dir: Path, *, wanted: bool = True, disk: Disk | None = None) -> bool:
    """Ask the chain to stop, or not to, without its lock; to last. Tell whether that is news."""
    if is_stop_asked(state_dir) is wanted:
        return False
    disk, marker = disk or Disk(), stop_marker(state_dir)
    if wanted:
        disk.open(marker, 0, 0o600).close()
    else:
        disk.unlink(marker)
    disk.flush(state_dir)
    return True


class Partial:
    """A file that is still arriving: a `port.Sink`. It may hold bytes of a broken attempt."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._disk = disk
        self._file = disk.open(path, 0, 0o600)
        self._file.seek(0, os.SEEK_END)

    @property
    def size_bytes(self) -> int:
        return self._file.tell()

    def write(self, chunk: bytes) -> None:
        self._disk.write(self._file, chunk)

    def restart(self) -> None:
        self._disk.empty(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class Files:
    """Everything the engine does to the disk, below one state folder."""

    def __init__(self, state_dir: Path, output_dir: Path, disk: Disk = Disk()) -> None:  # noqa: B008
        self.state_dir, self.output_dir, self._disk = state_dir, output_dir, disk
        self._store, self._incoming, self._staging = (
            state_dir / name for name in ("store", "incoming", "staging")
        )
        for folder in (self._store, self._incoming, self._staging):
            disk.make_folders(folder, 0o700)
        disk.make_folders(output_dir)  # better now than after a whole session

    def is_stop_asked(self) -> bool:
        """Tell whether a person wants no more sessions to be launched."""
        return is_stop_asked(self.state_dir)

    def withdraw_stop(self) -> bool:
        """Go on launching sessions; tell whether a stop had been asked for."""
        return ask_stop(self.state_dir, wanted=False, disk=self._disk)

    def has_checkpoints(self) -> bool:
        """Tell whether any verified checkpoint is kept here."""
        return any(self._store.iterdir())

    def free_bytes(self) -> int:
        """Return the space left where checkpoints are kept."""
        return shutil.disk_usage(self.state_dir).free

    def incoming(self, token: str) -> Path:
        """Return the folder of one download attempt, with `final_model/` below it."""
        folder = self._incoming / check_name(token)
        for made in (folder, _inside(folder, "final_model")):
            self._disk.make_folder(made, 0o700)
        return folder

    def partial(self, folder: Path, name: str) -> Partial:
        """Open a file of a download attempt for writing, where it stands."""
        return Partial(_inside(folder, name), self._disk)

    def read(self, folder: Path, name: str, limit_bytes: int) -> bytes:
        """Read a whole small file."""
        with _inside(folder, name).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > limit_bytes:
                raise CheckpointError(f"{name} is larger than {limit_bytes} bytes")
            return file.readall()

    def size_bytes(self, folder: Path, name: str) -> int | None:
        """Return a file's size, None where there is no such file."""
        return _size_bytes(_inside(folder, name))

    def sha256(self, folder: Path, name: str) -> str:
        """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
        with _inside(folder, name).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def discard(self, folder: Path, name: str) -> None:
        """Remove one file of a download attempt, so that it is fetched anew."""
        self._disk.unlink(_named(folder, name))

    def promote(
        self, folder: Path, manifest_sha256: str, names: Iterable[str], *, anew: bool = False
    ) -> Path:
        """Move verified files of an attempt into the store, together or not at all.

        `anew` replaces a folder that is there and damaged, one file after the other.
        """
        final, disk = self.stored(manifest_sha256), self._disk
        if anew and final.is_dir():
            for name in names:
                self._replace_copy(_inside(folder, name), _inside(final, name))
        elif not final.is_dir():
            ready = folder / ".verified"  # no file that arrives can have this name
            disk.remove_folder(ready)  # a promotion that died half way
            disk.make_folder(ready, 0o700)
            for name in names:
                source, target = _inside(folder, name), _inside(ready, name)
                self._flush_arrived(source)
                disk.make_folder(target.parent, 0o700)
                self._link(source, target)
            for made in (*filter(Path.is_dir, ready.iterdir()), ready):
                disk.flush(made)
            disk.rename(ready, final)
        disk.flush(final.parent)  # also when an earlier promotion died just before this line
        disk.remove_folder(folder)
        return final

    def _flush_arrived(self, path: Path) -> None:
        """Let a file that arrived last; a disk that failed at it once is not asked again."""
        try:
            self._disk.flush(path)
        except OSError:
            # The next flush would succeed, and the bytes that were lost still look right in memory.
            self._disk.unlink(path)
            raise

    def promoted(self, manifest_sha256: str) -> list[str]:
        """Return the names of the files that were promoted together; nothing if none were."""
        final = self.stored(manifest_sha256)
        found = _names_below(final)
        if found:
            self._disk.flush(final.parent)  # the promotion may have died just before it did
        return found

    def stored(self, manifest_sha256: str) -> Path:
        """Return the store's folder of one verified checkpoint, whether it exists or not."""
        return self._store / check_name(manifest_sha256)

    def stage(self, token: str, manifest_sha256: str, names: Iterable[str]) -> Path:
        """Make a new folder with exactly these files of the store; remove older stagings."""
        for old in self._staging.iterdir():
            self._disk.remove_folder(old)
        folder, stored = self._staging / check_name(token), self.stored(manifest_sha256)
        self._disk.make_folder(folder, 0o700)
        for name in names:
            self._link(_inside(stored, name), folder / check_name(name))
        return folder

    def deliver(self, manifest_sha256: str, tell: Tell = lambda _name, _kept: None) -> None:
        """Copy what the user wants to hold into the output folder, each file by one rename.

        What somebody else put there under one of these names is set aside as `NAME.yours`; just
        before, `tell` is called with both names.
        """
        source = self.stored(manifest_sha256)
        names = _names_below(source)
        for name in names:
            target = self.output_dir / name
            self._make_way(target, tell)
            self._replace_copy(source / name, target)
        for name in fnmatch.filter(os.listdir(self.output_dir), "checkpoint_epoch*_step*.pt"):
            other = self.output_dir / name
            if name not in names and self._was_delivered(other):
                self._disk.unlink(other)

    def _make_way(self, target: Path, tell: Tell) -> None:
        """Set aside what is not this chain's where a file, or its folder, will be."""
        folder = target.parent
        if folder != self.output_dir and os.path.lexists(folder) and not folder.is_dir():
            self._set_aside(folder, tell)
        if os.path.lexists(target) and not self._was_delivered(target):
            self._set_aside(target, tell)

    def _set_aside(self, path: Path, tell: Tell) -> None:
        """Give what is there, whatever it is, the first of its own names that is free."""
        kept = free_name(path, "yours")
        tell(*(p.relative_to(self.output_dir).as_posix() for p in (path, kept)))
        self._disk.rename(path, kept)
        self._disk.flush(path.parent)

    def _was_delivered(self, path: Path) -> bool:
        """Tell whether a file of the output folder is, byte for byte, one in the store."""
        size, name = _size_bytes(path), path.relative_to(self.output_dir)
        if size is None:
            return False
        copies = (folder / name for folder in self._store.iterdir())
        return any(_size_bytes(copy) == size and _are_equal(copy, path) for copy in copies)

    def _link(self, source: Path, target: Path) -> None:
        """Give a file a second name; copy it where the file system has no hard links."""
        try:
            self._disk.link(source, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._replace_copy(source, target)

    def _replace_copy(self, source: Path, target: Path) -> None:
        """Copy a file to a name that holds the old bytes or the new ones at any time."""
        disk, temporary = self._disk, target.with_name(f".{target.name}.part")
        disk.make_folders(target.parent)
        disk.unlink(temporary)
        with (
            source.open("rb", buffering=0) as reader,
            disk.open(temporary, os.O_EXCL, 0o666) as writer,
        ):
            while chunk := reader.read(_CHUNK_BYTES):
                disk.write(writer, chunk)
        disk.flush(temporary)
        disk.rename(temporary, target)
        disk.flush(target.parent)


def _size_bytes(path: Path) -> int | None:
    """Return a file's size; None where there is none, and for what is no file of its own."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _names_below(folder: Path) -> list[str]:
    """Return the names of the files in a folder and in its folders; none where there is none."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [entry.name for entry in entries if entry.is_file()]
    for below in (entry.name for entry in entries if entry.is_dir(follow_symlinks=False)):
        names += (f"{below}/{name}" for name in _names_below(folder / below))
    return sorted(names)


def _are_equal(one: Path, other: Path) -> bool:
    """Compare the bytes of two files of one size."""
    with one.open("rb") as mine, other.open("rb") as theirs:
        while chunk := mine.read(_CHUNK_BYTES):
            if chunk != theirs.read(_CHUNK_BYTES):
                return False
    return True


def _named(folder: Path, name: str) -> Path:
    """Return the path of `name` (at most one folder deep) below `folder`, checked."""
    if name.count("/") > 1:
        raise CheckpointError(f"refused file name {name!r}")
    for part in name.split("/"):
        check_name(part)
    return folder / name


def _inside(folder: Path, name: str) -> Path:
    """Return the path of `name` below `folder`, with no symlink on the way."""
    path = _named(folder, name)
    for place in (path, path.parent, folder) if "/" in name else (path, folder):
        if os.path.islink(place):
            raise CheckpointError(f"{place} is a symbolic link, which nobody but a person makes")
    return path
