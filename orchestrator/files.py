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
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.delivery import Delivery, Tell
from orchestrator.disk import Disk, names_below, replace_copy, size_bytes
from orchestrator.errors import CheckpointError
from orchestrator.names import below, check_name, inside

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def stop_marker(state_dir: Path) -> str:
    """Return the file whose presence asks the chain to launch no more sessions."""
    return f"{state_dir}/stop"


def is_stop_asked(state_dir: Path) -> bool:
    """Tell whether a person wants no more sessions to be launched."""
    return os.path.exists(stop_marker(state_dir))


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

    def __init__(self, path: str, disk: Disk) -> None:
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
        self._delivery = Delivery(self._store, output_dir, disk)

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
        folder = self._attempt(token)
        for made in (folder, inside(folder, "final_model")):
            self._disk.make_folder(made, 0o700)
        return folder

    def forget_incoming(self, token: str) -> None:
        """Remove what a download attempt left, if anything; nothing of it is wanted any more."""
        self._disk.remove_folder(self._attempt(token))

    def _attempt(self, token: str) -> Path:
        return self._incoming / check_name(token)

    def partial(self, folder: Path, name: str) -> Partial:
        """Open a file of a download attempt for writing, where it stands."""
        return Partial(inside(folder, name), self._disk)

    def read(self, folder: Path, name: str, limit_bytes: int) -> bytes:
        """Read a whole small file."""
        with open(inside(folder, name), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > limit_bytes:
                raise CheckpointError(f"{name} is larger than {limit_bytes} bytes")
            return file.readall()

    def size_bytes(self, folder: Path, name: str) -> int | None:
        """Return a file's size, None where there is no such file."""
        return size_bytes(inside(folder, name))

    def sha256(self, folder: Path, name: str) -> str:
        """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
        with open(inside(folder, name), "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def discard(self, folder: Path, name: str) -> None:
        """Remove one file of a download attempt, so that it is fetched anew."""
        self._disk.unlink(below(folder, name))

    def promote(
        self, folder: Path, manifest_sha256: str, names: Iterable[str], *, anew: bool = False
    ) -> Path:
        """Move verified files of an attempt into the store, together or not at all.

        `anew` replaces a folder that is there and damaged, one file after the other.
        """
        final, disk = self.stored(manifest_sha256), self._disk
        if anew and final.is_dir():
            for name in names:
                replace_copy(self._disk, inside(folder, name), inside(final, name))
        elif not final.is_dir():
            ready = folder / ".verified"  # no file that arrives can have this name
            disk.remove_folder(ready)  # a promotion that died half way
            targets = {name: inside(ready, name) for name in names}
            made = sorted({str(ready), *map(os.path.dirname, targets.values())})
            for each in made:
                disk.make_folder(each, 0o700)
            for name, target in targets.items():
                source = inside(folder, name)
                self._flush_arrived(source)
                self._link(source, target)
            for each in reversed(made):
                disk.flush(each)
            disk.rename(ready, final)
        disk.flush(final.parent)  # also when an earlier promotion died just before this line
        disk.remove_folder(folder)
        return final

    def _flush_arrived(self, path: str) -> None:
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
        found = names_below(final)
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
            self._link(inside(stored, name), f"{folder}/{check_name(name)}")
        return folder

    def deliver(self, manifest_sha256: str, tell: Tell = lambda _name, _kept: None) -> None:
        """Copy what the user wants to hold into the output folder; see `Delivery`."""
        self._delivery.deliver(self.stored(manifest_sha256), tell)

    def _link(self, source: str, target: str) -> None:
        """Give a file a second name; copy it where the file system has no hard links."""
        try:
            self._disk.link(source, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            replace_copy(self._disk, source, target)
