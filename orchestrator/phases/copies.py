"""The copies on this disk: still what was verified, and in the user's hands. Disks rot, and people
tidy up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from orchestrator.archives import read_tensors
from orchestrator.checkpoints import MANIFEST, MANIFEST_LIMIT_BYTES, Manifest, is_as_listed
from orchestrator.errors import CheckpointError
from orchestrator.machine import Kind
from orchestrator.phases.context import Context
from orchestrator.tensors import Inventory


def is_whole(context: Context, manifest_sha256: str, names: Iterable[str]) -> bool:
    """Tell whether these files of the store are there, byte for byte what their manifest says."""
    files, stored = context.files, context.files.stored(manifest_sha256)
    if files.size_bytes(stored, MANIFEST) is None:
        return False
    if files.sha256(stored, MANIFEST) != manifest_sha256:
        return False
    body = json.loads(files.read(stored, MANIFEST, MANIFEST_LIMIT_BYTES))
    listed = {entry["name"]: entry for entry in body["files"]}
    return all(is_as_listed(files, stored, listed[name]) for name in names if name in listed)


def promoted(context: Context, manifest: Manifest) -> list[str]:
    """Return what a process kept that died before it said so; nothing if it is not whole."""
    kept = context.files.promoted(manifest.sha256)
    has_needed = any(
        all(entry["name"] in kept for entry in manifest.needed(checkpoint))
        for checkpoint in manifest.checkpoints
    )
    return kept if has_needed and is_whole(context, manifest.sha256, kept) else []


def deliver(context: Context, manifest_sha256: str) -> None:
    """Give the user a checkpoint's files; what of their own is in the way is named first."""

    def tell(name: str, kept: str) -> None:
        context.journal.append(Kind.SET_ASIDE, file=name, kept_as=kept)

    context.files.deliver(manifest_sha256, tell)


def head_tensors(context: Context) -> Inventory | None:
    """Return what tensors the head has, by its copy here; None if none can be read from it.

    The archive's own checksum vouches for what is read; an older kchain may have accepted what
    this one would not.
    """
    if (head := context.state.head) is None:
        return None
    stored = context.files.stored(head.checkpoint.manifest_sha256)
    try:
        return read_tensors(stored / head.checkpoint.file)
    except CheckpointError:
        return None
