"""Names of files come from outside, so they are checked before they touch the disk."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from orchestrator.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_PORTS = (f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))
_RESERVED = frozenset({"con", "prn", "aux", "nul", *_PORTS})


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


def below(folder: Path, name: str) -> str:
    """Return the path of `name` (at most one folder deep) below `folder`, checked."""
    if name.count("/") > 1:
        raise CheckpointError(f"refused file name {name!r}")
    for part in name.split("/"):
        check_name(part)
    return f"{folder}/{name}"


def inside(folder: Path, name: str) -> str:
    """Return the path of `name` below `folder`, with no symlink on the way."""
    path = below(folder, name)
    for place in (path, os.path.dirname(path), folder) if "/" in name else (path, folder):
        if os.path.islink(place):
            raise CheckpointError(f"{place} is a symbolic link, which nobody but a person makes")
    return path
