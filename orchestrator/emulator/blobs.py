"""Where the bytes are: one read-only file per key in one folder."""

import os
import shutil
from pathlib import Path


class Blobs:
    """A folder of blobs; keys are made by us and safe as file names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self._folder / key

    def adopt(self, source: Path, key: str) -> int:
        """Store a finished file under `key` without copying where possible; returns its size.

        Safe to call twice: what was stored under the key before is replaced.
        """
        target = self.path(key)
        target.unlink(missing_ok=True)
        link_or_copy(source, target)
        target.chmod(0o444)
        return target.stat().st_size

    def text(self, key: str) -> str:
        """A blob's text; the empty key is the empty text."""
        return self.path(key).read_text(encoding="utf-8") if key else ""

    def lend(self, key: str, target: Path) -> None:
        """Make the blob appear at `target`, read-only."""
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(self.path(key), target)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
