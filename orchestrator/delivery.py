"""What the user holds in hand: the newest checkpoint, copied out of the store.

Nothing that is not the chain's own is ever replaced or removed there.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path

from orchestrator.disk import CHUNK_BYTES, Disk, free_name, names_below, replace_copy, size_bytes

Tell = Callable[[str, str], None]


class Delivery:
    """The output folder, and the store that fills it."""

    def __init__(self, store: Path, output_dir: Path, disk: Disk) -> None:
        self._store, self._output_dir, self._disk = store, output_dir, disk
        disk.make_folders(output_dir)  # better now than after a whole session

    def deliver(self, source: Path, tell: Tell) -> None:
        """Copy a folder of the store into the output folder, each file by one rename.

        What somebody else put there under one of these names is set aside as `NAME.yours`; just
        before, `tell` is called with both names.
        """
        names = names_below(source)
        for name in names:
            self._make_way(name, tell)
            replace_copy(self._disk, f"{source}/{name}", self._place(name))
        for name in fnmatch.filter(os.listdir(self._output_dir), "checkpoint_epoch*_step*.pt"):
            if name not in names and self._was_delivered(name):
                self._disk.unlink(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._output_dir}/{name}"

    def _make_way(self, name: str, tell: Tell) -> None:
        """Set aside what is not this chain's where a file, or its folder, will be."""
        path = self._place(name)
        folder = os.path.dirname(path)
        if "/" in name and os.path.lexists(folder) and not os.path.isdir(folder):
            self._set_aside(folder, tell)
        if os.path.lexists(path) and not self._was_delivered(name):
            self._set_aside(path, tell)

    def _set_aside(self, path: str, tell: Tell) -> None:
        """Give what is there, whatever it is, the first of its own names that is free."""
        kept = free_name(Path(path), "yours")
        tell(*(os.path.relpath(each, self._output_dir) for each in (path, kept)))
        self._disk.rename(path, kept)
        self._disk.flush(os.path.dirname(path))

    def _was_delivered(self, name: str) -> bool:
        """Tell whether a file of the output folder is, byte for byte, one in the store."""
        path = self._place(name)
        size = size_bytes(path)
        if size is None:
            return False
        copies = (f"{self._store}/{folder}/{name}" for folder in os.listdir(self._store))
        return any(size_bytes(copy) == size and _are_equal(copy, path) for copy in copies)


def _are_equal(one: str, other: str) -> bool:
    """Compare the bytes of two files of one size; a read cut short only sets a file aside."""
    with open(one, "rb", buffering=0) as mine, open(other, "rb", buffering=0) as theirs:
        while chunk := mine.read(CHUNK_BYTES):
            if chunk != theirs.read(CHUNK_BYTES):
                return False
    return True
