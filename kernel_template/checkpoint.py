"""Checkpoints: what makes one complete, reading one back, and saving new ones.

A checkpoint counts only if a manifest lists it, and the manifest is replaced by one rename after
everything it lists is on the disk: a kill at any moment leaves the old set or the new one.
Verifying needs the standard library alone; torch is imported where a checkpoint is opened.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import time
import zipfile
from pathlib import Path

from parameters import Parameters
from session import (
    CONTRACT,
    Refusal,
    copy_flushed,
    flush_folder,
    sha256_file,
    write_atomically,
    write_flushed,
)

MANIFEST = "manifest.json"
BEST = "best_model.pt"
HISTORY = "training_history.json"
POINTER = "latest_checkpoint.txt"
GUIDE_KEYS = {"epoch", "step", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict"}
ARCHIVE_ROOT = "archive"  # torch's name for the folder inside a .pt, which is a zip


def read_manifest(path: Path) -> dict | None:
    """The manifest, or None if there is none that this contract can read."""
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError:
        return None
    known = isinstance(manifest, dict) and manifest.get("contract") == CONTRACT
    return manifest if known else None


def find_entry(manifest: dict | None, name: str) -> dict | None:
    """What the manifest says about one of its files."""
    files = manifest["files"] if manifest else []
    return next((entry for entry in files if entry["name"] == name), None)


def is_intact(place: Path, entry: dict) -> bool:
    """Whether a file, or a folder that was a .pt, holds exactly what the manifest's entry says."""
    if place.is_file():
        return place.stat().st_size == entry["bytes"] and sha256_file(place) == entry["sha256"]
    return bool(entry.get("members")) and all(
        (place / member["path"]).is_file() and is_intact(place / member["path"], member)
        for member in entry["members"]
    )


def read_archive(place: Path) -> bytes:
    """The .pt's bytes; a folder that was one is packed again, uncompressed, in memory."""
    if place.is_file():
        return place.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            archive.write(path, f"{ARCHIVE_ROOT}/{path.relative_to(place)}")
    return packed.getvalue()


def open_checkpoint(place: Path) -> dict:
    """The training state in a .pt, tensors mapped from the disk; code in the file is never run."""
    import torch  # noqa: PLC0415 - takes two seconds, and only opening and saving need it

    mapped = place.is_file()
    source = place if mapped else io.BytesIO(read_archive(place))
    harmless = [torch.torch_version.TorchVersion]  # a str; the guide's multi-GPU notebook stores it
    try:
        with torch.serialization.safe_globals(harmless):
            state = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        detail = f"not a checkpoint that can be opened safely: {error}".partition("\n")[0]
        raise Refusal("parent_mismatch", detail) from error
    if not is_ours(state) and not is_guides(state):
        raise Refusal("parent_mismatch", "neither this template's nor the guide's own format")
    return state


def is_ours(state) -> bool:
    return isinstance(state, dict) and state.get("contract") == CONTRACT


def is_guides(state) -> bool:
    """Whether one of the guide's notebooks wrote it: a training loop with a scheduler object."""
    return isinstance(state, dict) and state.keys() >= GUIDE_KEYS


class CheckpointFolder:
    """The session's own checkpoints: the newest few, the best model, the history, the manifest."""

    def __init__(self, folder: Path, parameters: Parameters):
        self.folder = folder
        self.parameters = parameters
        self.entries: dict[str, dict] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def adopt(self, entries: list[dict]) -> None:
        """Go on from these intact files of our own; what else a kill left here is removed."""
        self.entries = {entry["name"]: entry for entry in entries}
        for path in [*self.folder.glob("checkpoint_*.pt"), *self.folder.glob("*.tmp")]:
            if path.is_dir():  # an export that a kill cut short
                shutil.rmtree(path)
            elif path.name not in self.entries:
                path.unlink()

    def carry_best(self, place: Path, entry: dict) -> None:
        """Copy a predecessor's best model, so that the next dataset version has it too."""
        write_atomically(self.folder / BEST, read_archive(place))
        self.entries[BEST] = {**entry, **_describe_archive(self.folder / BEST)}

    def save(self, state: dict, *, best: bool, final: list[dict] | None = None) -> dict:
        """Save one state so that a kill at any moment leaves this manifest or the one before.

        `best` makes it the best model as well. `final` lists the exported model's files; it is
        given once, when training is complete. Returns the checkpoint's entry in the manifest.

        Raises:
            OSError: it could not be written; manifest and older checkpoints are as they were.
        """
        import torch  # noqa: PLC0415

        name = f"checkpoint_epoch{state['epoch']}_step{state['step']}.pt"
        small = {HISTORY: json.dumps(state["history"]).encode(), POINTER: f"{name}\n".encode()}
        names = [name, *small, *([BEST] if best else [])]
        temporary = {name: self.folder / f"{name}.tmp" for name in names}
        try:
            with temporary[name].open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            facts = {key: state[key] for key in ("epoch", "step", "train_loss", "val_loss")}
            facts.update(_describe_archive(temporary[name]), created_at=state["created_at"])
            if best:
                copy_flushed(temporary[name], temporary[BEST])
            for file, data in small.items():
                write_flushed(temporary[file], data)
            for file in names:
                temporary[file].replace(self.folder / file)
        finally:  # a full disk must not stay full of halves
            for path in temporary.values():
                path.unlink(missing_ok=True)
        flush_folder(self.folder)
        self.entries[name] = {"name": name, "kind": "checkpoint", **facts}
        if best:
            self.entries[BEST] = {"name": BEST, "kind": "best", **facts}
        for file, kind in ((HISTORY, "history"), (POINTER, "pointer")):
            described = {**_describe(small[file]), "created_at": time.time()}
            self.entries[file] = {"name": file, "kind": kind, **described}
        self._commit(name, final or [])
        return self.entries[name]

    def _commit(self, latest: str, final: list[dict]) -> None:
        """Replace the manifest, and only when that is durable delete what it no longer lists."""
        checkpoints = [entry for entry in self.entries.values() if entry["kind"] == "checkpoint"]
        checkpoints.sort(key=lambda entry: entry["step"])
        superseded = checkpoints[: -self.parameters.settings.keep_checkpoints]
        for entry in superseded:
            del self.entries[entry["name"]]
        publish = (latest, BEST, HISTORY, POINTER)
        manifest = {
            "contract": CONTRACT,
            "chain": self.parameters.chain,
            "session": self.parameters.session,
            "attempt": self.parameters.attempt,
            "token": self.parameters.token,
            "parent": self.parameters.parent,
            "created_at": time.time(),
            "training_complete": bool(final),
            "latest": latest,
            "files": [*self.entries.values(), *final],
            "publish": [name for name in publish if name in self.entries],
        }
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        flush_folder(self.folder)
        for entry in superseded:
            (self.folder / entry["name"]).unlink(missing_ok=True)


def describe_final(folder: Path) -> list[dict]:
    """The exported model's files as entries of the manifest."""
    return [
        {
            "name": f"{folder.name}/{path.name}",
            "kind": "final",
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
            "created_at": path.stat().st_mtime,
        }
        for path in sorted(folder.iterdir())
    ]


def _describe(data: bytes) -> dict:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _describe_archive(path: Path) -> dict:
    """Size and hash of a .pt, and of its members below the root, in case Kaggle unpacks it.

    Read back from the file, and every member against the checksum that torch wrote beside it.
    """
    members = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                sha256 = hashlib.file_digest(member, "sha256").hexdigest()
            inner = info.filename.partition("/")[2]
            members.append({"path": inner, "bytes": info.file_size, "sha256": sha256})
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path), "members": members}
