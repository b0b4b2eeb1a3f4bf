"""Is what came out of a session what its manifest says, and does it continue the chain?

The controller never unpickles: a checkpoint is bytes with a hash, and a zip whose members are
listed in the manifest. Verification climbs a ladder and stops at the first step that fails:
name and size, manifest and lineage, SHA-256 of every file, container (`containers.py`), members,
finite numbers, the head's tensors (`tensors.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import contract
from orchestrator.archives import read_listed
from orchestrator.containers import check_container, check_suffix
from orchestrator.errors import CheckpointError
from orchestrator.files import Files
from orchestrator.model import Checkpoint, Parent
from orchestrator.names import check_name
from orchestrator.tensors import Inventory, check_like

MANIFEST = "manifest.json"
MANIFEST_LIMIT_BYTES = 4 << 20
CHECKPOINT_LIMIT_BYTES = 20 << 30  # what a session can save at all
# What the next session makes anew from the checkpoint: never a reason to lose it.
REBUILT_KINDS = frozenset({"best", "history", "pointer"})
_KEPT_NAMES = frozenset({MANIFEST, "session.json", "final_model"})  # kept for other things


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a session was told, and so what its manifest and verdict must repeat."""

    chain: str
    session: int
    attempt: int
    token: str
    parent: Parent | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that keeps the contract; `sha256` is that of its exact bytes."""

    body: Mapping[str, Any]
    sha256: str

    @property
    def latest(self) -> Mapping[str, Any]:
        """The entry of the newest checkpoint."""
        return self.entry(self.body["latest"])

    def entry(self, name: str) -> Mapping[str, Any]:
        """Return the entry of one file; raise CheckpointError if it is not listed."""
        for entry in self.body["files"]:
            if entry["name"] == name:
                found: Mapping[str, Any] = entry
                return found
        raise CheckpointError(f"the manifest does not list {name}")

    @property
    def wanted(self) -> list[str]:
        """The files to fetch: what is to be published, and the finished model."""
        final = [entry["name"] for entry in self.body["files"] if entry["kind"] == "final"]
        return list(dict.fromkeys([*self.body["publish"], *final]))

    @property
    def checkpoints(self) -> list[Mapping[str, Any]]:
        """The checkpoints that continue the chain, newest first: one is enough."""
        parent, newest = self.body["parent"], self.latest["step"]
        reached = parent["step"] if parent else 0
        found = [
            entry
            for entry in self.body["files"]
            if entry["kind"] == "checkpoint"
            and _tells_its_step(entry)
            and reached < entry["step"] <= newest
        ]
        return sorted(found, key=lambda entry: entry["step"], reverse=True)

    def needed(self, checkpoint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The entries without which this checkpoint does not count, itself first.

        An older one stands alone: whatever else there is belongs to the newest.
        """
        if checkpoint["name"] != self.body["latest"]:
            return [checkpoint]
        others = [entry for entry in map(self.entry, self.wanted) if entry != checkpoint]
        return [checkpoint, *(each for each in others if each["kind"] not in REBUILT_KINDS)]

    def spare(self, checkpoint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The entries that are kept beside this checkpoint if they are what is listed.

        History and pointer tell of the newest checkpoint, and would lie beside an older one.
        """
        kinds = REBUILT_KINDS if checkpoint["name"] == self.body["latest"] else {"best"}
        return [entry for entry in map(self.entry, self.wanted) if entry["kind"] in kinds]


def parse_manifest(content: bytes, expected: Expectation) -> Manifest:
    """Read a manifest and hold it against what the session was told.

    Raises:
        CheckpointError: another session wrote it, or its checkpoint does not continue the chain.
    """
    body = contract.parse("manifest", content)
    check_identity("manifest", body, expected)
    manifest = Manifest(body, hashlib.sha256(content).hexdigest())
    for entry in body["files"]:
        for part in entry["name"].split("/"):
            check_name(part)
    names = [entry["name"].casefold() for entry in body["files"]]
    if len(set(names)) != len(names):
        raise CheckpointError("the manifest lists a name twice")
    if kept := _KEPT_NAMES.intersection(names):
        raise CheckpointError(f"the manifest may not list {', '.join(kept)}")
    for entry in body["files"]:
        check_suffix(entry["name"])
    if (size := sum(entry["bytes"] for entry in body["files"])) > CHECKPOINT_LIMIT_BYTES:
        raise CheckpointError(f"the manifest lists {size:,} bytes, more than a session can save")
    for name in body["publish"]:
        manifest.entry(name)
    _check_latest(manifest, expected)
    return manifest


def _check_latest(manifest: Manifest, expected: Expectation) -> None:
    latest, name = manifest.latest, manifest.latest["name"]
    if latest["kind"] != "checkpoint" or name not in manifest.body["publish"]:
        raise CheckpointError("the manifest's newest file is not a checkpoint to publish")
    step = latest["step"]
    if not _tells_its_step(latest):
        raise CheckpointError(f"the name {name} does not tell its epoch and step")
    if expected.parent and step <= expected.parent.step:
        raise CheckpointError(f"step {step} is not beyond the parent's {expected.parent.step}")


def _tells_its_step(entry: Mapping[str, Any]) -> bool:
    """Tell whether the next session can be told this checkpoint as its parent."""
    epoch, step = entry["epoch"], entry["step"]
    return bool(step >= 1) and entry["name"] == f"checkpoint_epoch{epoch}_step{step}.pt"


def check_identity(name: str, body: Mapping[str, Any], expected: Expectation) -> None:
    """Raise CheckpointError unless a document belongs to exactly this attempt."""
    for key in ("chain", "session", "attempt", "token"):
        if body[key] != getattr(expected, key):
            raise CheckpointError(f"the {name} carries another {key}: {body[key]!r}")
    parent = expected.parent.to_body() if expected.parent else None
    if "parent" in body and body["parent"] != parent:
        raise CheckpointError(f"the {name} names another parent")


def is_as_listed(files: Files, folder: Path, entry: Mapping[str, Any]) -> bool:
    """Tell whether a file that was verified once still has the size and bytes of then."""
    name = entry["name"]
    if files.size_bytes(folder, name) != entry["bytes"]:
        return False
    return bool(files.sha256(folder, name) == entry["sha256"])


def verify_file(
    files: Files,
    folder: Path,
    entry: Mapping[str, Any],
    head: Callable[[], Inventory | None] = lambda: None,
) -> None:
    """Raise CheckpointError unless a downloaded file is, byte for byte, the one listed.

    Args:
        files: the door to the disk.
        folder: where the file arrived.
        entry: what the manifest says of it.
        head: returns the tensors that a checkpoint is to have, None if there are none.
    """
    name = entry["name"]
    size = files.size_bytes(folder, name)
    if size is None:
        raise CheckpointError(f"{name} is missing")
    if size != entry["bytes"]:
        raise CheckpointError(f"{name} has {size} bytes instead of {entry['bytes']}")
    if files.sha256(folder, name) != entry["sha256"]:
        raise CheckpointError(f"{name} does not match its SHA-256")
    try:
        if entry["kind"] == "checkpoint":
            check_like(read_listed(folder / name, entry.get("members")), head())
        elif "members" in entry:
            read_listed(folder / name, entry["members"])
        else:
            check_container(folder / name)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


def published_names(files: Mapping[str, int], manifest: Mapping[str, Any]) -> set[str]:
    """Return the file names of a dataset version, a `.pt` that Kaggle unpacked counted as one.

    It becomes a folder of its own name, with or without the archive's root folder in it.
    """
    names = set(files)
    for entry in manifest["files"]:
        folder = entry["name"] + "/"
        below = {name for name in names if name.startswith(folder)}
        paths = {name.removeprefix(folder) for name in below}
        members = {member["path"] for member in entry.get("members", [])}
        if members and members in (paths, {path.partition("/")[2] for path in paths}):
            names = (names - below) | {entry["name"]}
    return names


def is_complete(
    manifest: Manifest, files: Mapping[str, int], *, was_accepted: bool = False
) -> bool:
    """Tell whether a dataset version holds exactly what its manifest says is to be published.

    A checkpoint older than the newest is published without what tells of the newest. Of a
    checkpoint that is known to have been accepted, files may be missing that are rebuilt: they
    could not be verified when it was published.
    """
    names = published_names(files, manifest.body)
    sizes = {entry["name"]: entry["bytes"] for entry in manifest.body["files"]}
    held = names - {MANIFEST}
    if MANIFEST not in names or not held <= sizes.keys():
        return False
    if any(files.get(name, sizes[name]) != sizes[name] for name in held):
        return False
    if manifest.latest["name"] in held:
        wanted = set(manifest.body["publish"])
        lacking = {manifest.entry(name)["kind"] for name in wanted - held}
        return held <= wanted and (not lacking or (was_accepted and lacking <= REBUILT_KINDS))
    try:
        checkpoint = as_checkpoint(manifest, None, held)
    except CheckpointError:
        return False
    return checkpoint.file in held and set(checkpoint.publish) == held


def as_checkpoint(
    manifest: Manifest, verdict: Mapping[str, Any] | None, kept: Collection[str]
) -> Checkpoint:
    """Return the record of the newest checkpoint that is here, with what its session said.

    Args:
        manifest: the verified manifest.
        verdict: the session's own word, None if it left none.
        kept: names of the files that are here and verified; only these can be published.

    Raises:
        CheckpointError: none of the manifest's checkpoints is among them.
    """
    here = [entry for entry in manifest.checkpoints if entry["name"] in kept]
    if not here:
        raise CheckpointError("none of the listed checkpoints is here")
    chosen, said = here[0], verdict or {}
    is_latest = chosen["name"] == manifest.body["latest"]
    parent = manifest.body["parent"]
    published = [name for name in manifest.body["publish"] if name in kept]
    return Checkpoint(
        file=chosen["name"],
        epoch=chosen["epoch"],
        step=chosen["step"],
        bytes=chosen["bytes"],
        sha256=chosen["sha256"],
        manifest_sha256=manifest.sha256,
        publish=list(dict.fromkeys([*([] if is_latest else [chosen["name"]]), *published])),
        first_step=said.get("first_step", parent["step"] if parent else 0),
        first_loss=said.get("first_loss"),
        last_loss=(said if is_latest else {}).get("last_loss", chosen["train_loss"]),
        val_loss=chosen["val_loss"],
        outcome=said.get("outcome", "unknown"),
        reason=said.get("reason"),
        training_complete=is_latest and manifest.body["training_complete"],
    )
