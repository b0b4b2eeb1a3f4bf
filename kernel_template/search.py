"""Section 3: finding the checkpoint to start from, and nothing else.

Own checkpoints win (this process was restarted), then the parent that the parameters name, then
whatever a person attached by hand. A session that should have a parent never starts without it.
Standard library only, except where checkpoints attached by hand have to be opened.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from checkpoint import (
    ARCHIVE_ROOT,
    BEST,
    MANIFEST,
    CheckpointFolder,
    find_entry,
    is_intact,
    is_ours,
    open_checkpoint,
    read_archive,
    read_manifest,
)
from parameters import Parameters, parse_parameters, read_parameters
from session import Paths, Refusal, find_files, find_paths, sha256_file


@dataclass(frozen=True)
class Listing:
    """What could be a checkpoint below one folder."""

    manifests: list[Path]
    files: list[Path]  # *.pt
    unpacked: list[Path]  # folders that were a .pt before Kaggle unpacked them


@dataclass(frozen=True)
class Found:
    """A verified checkpoint to start from."""

    origin: str  # "own", "parent" or "attached"
    entry: dict  # name, step, bytes, sha256, members: as in the manifest
    place: Path  # the file, or the folder into which Kaggle unpacked it
    manifest: dict | None  # the one that lists it
    listing: Listing

    @property
    def is_complete(self) -> bool:
        """Whether it is the last of a training that is complete, and not an older one."""
        latest = self.manifest and self.manifest["latest"] == self.entry["name"]
        return bool(latest and self.manifest["training_complete"])


def search(folder: Path) -> Listing:
    """Look everywhere below `folder`."""
    listing = Listing([], [], [])
    for path in find_files(folder):
        if path.name == MANIFEST:
            listing.manifests.append(path)
        elif path.name == "data.pkl" and path.with_name("version").exists():
            listing.unpacked.append(path.parent)
        elif path.suffix == ".pt":
            listing.files.append(path)
    return listing


def locate(listing: Listing, entry: dict) -> Path | None:
    """Where the entry's bytes are, whatever Kaggle made of the file's name."""
    named = [path for path in listing.files if path.name == entry["name"]]
    return next((place for place in named + listing.unpacked if is_intact(place, entry)), None)


def find_start(paths: Paths, parameters: Parameters) -> Found | None:
    """The checkpoint this session continues from; None only where a chain may begin."""
    promised = find_promised(paths, parameters)
    if promised is not None:
        return promised
    listing = search(paths.input)
    attached = find_attached(listing)
    return choose_attached(attached, listing) if attached else None


def find_promised(paths: Paths, parameters: Parameters) -> Found | None:
    """Own checkpoints or the parent, verified without torch; None where neither is expected."""
    own = find_own(paths, parameters)
    if own is not None:
        return own
    if parameters.parent is not None:
        return find_parent(paths.input, parameters)
    if parameters.session > 1 and not find_attached(search(paths.input)):
        detail = f"session {parameters.session} has no parent, and none is below {paths.input}"
        raise Refusal("parent_missing", detail)
    return None


def find_own(paths: Paths, parameters: Parameters) -> Found | None:
    """The newest intact checkpoint that this very session saved before it was restarted."""
    manifest = read_manifest(paths.checkpoints / MANIFEST)
    if manifest is None:
        return None
    if manifest["token"] != parameters.token:
        detail = f"{paths.checkpoints} holds another session's checkpoints; empty it to go on"
        raise Refusal("parent_mismatch", detail)
    listing = search(paths.checkpoints)
    entries = [entry for entry in manifest["files"] if entry["kind"] == "checkpoint"]
    for entry in sorted(entries, key=lambda entry: entry["step"], reverse=True):
        place = locate(listing, entry)
        if place is not None:
            return Found("own", entry, place, manifest, listing)
        print(
            f"  Damaged: {entry['name']} is not what the manifest lists; an older one is looked for"
        )
    if parameters.parent is not None:
        return None  # the parent is still there
    detail = f"none of this session's {len(entries)} checkpoints in {paths.checkpoints} is intact"
    raise Refusal("parent_mismatch", f"{detail}; remove that folder to start from scratch")


def find_parent(folder: Path, parameters: Parameters) -> Found:
    """The checkpoint that the parameters name, with its manifest; anything else is refused."""
    parent, name = parameters.parent, parameters.parent["file"]
    listing = search(folder)
    is_there = any(path.name == name for path in listing.files)
    path = next((m for m in listing.manifests if sha256_file(m) == parent["manifest_sha256"]), None)
    if path is None:
        others = [m for m in map(read_manifest, listing.manifests) if m]
        latest = [m.get("latest") for m in others if m.get("chain") == parameters.chain]
        if not latest and not is_there:
            raise Refusal("parent_missing", f"no {name} with its manifest is below {folder}")
        detail = f"the manifest of {name} is not below {folder}; there is {latest or 'no other'}"
        raise Refusal("parent_mismatch", detail)
    manifest = read_manifest(path)
    entry = find_entry(manifest, name)
    if entry is None or entry["sha256"] != parent["sha256"] or entry["step"] != parent["step"]:
        raise Refusal("parent_mismatch", f"{path} does not list the {name} that was promised")
    place = locate(listing, entry)
    if place is None and not is_there and not listing.unpacked:
        raise Refusal("parent_missing", f"{path} lists {name}, which is not below {folder}")
    if place is None:
        raise Refusal("parent_mismatch", f"{name} below {folder} is not what its manifest lists")
    return Found("parent", entry, place, manifest, listing)


def find_attached(listing: Listing) -> list[Path]:
    """The guide's rule for checkpoints attached by hand: "checkpoint" or "model" in the name."""
    return [
        place
        for place in listing.files + listing.unpacked
        if any(word in _original(place).name.lower() for word in ("checkpoint", "model"))
    ]


def choose_attached(places: list[Path], listing: Listing) -> Found:
    """The most recent by the time stored in it; ties: the larger step, then a "checkpoint"."""
    ranked = []
    for place in places:
        name, folder = _name_of(place), _original(place).parent
        try:
            state = open_checkpoint(place)
        except Refusal as refusal:
            print(f"  Ignored: {name} in {folder.name}/ ({refusal.detail})")
            continue
        form = "" if is_ours(state) else ", in the format of the guide's notebooks"
        print(f"  Found: {name} in {folder.name}/ (step {state['step']}{form})")
        rank = (stored_time(state), state["step"], "checkpoint" in name.lower())
        ranked.append((rank, place))
    if not ranked:
        detail = f"{len(places)} .pt files are attached and none can be continued; detach them"
        raise Refusal("parent_mismatch", detail)
    (_, step, _), place = max(ranked, key=lambda pair: pair[0])
    sha256 = hashlib.sha256(read_archive(place)).hexdigest()
    entry = {"name": _name_of(place), "step": step, "sha256": sha256}
    manifest = read_manifest(_original(place).parent / MANIFEST)
    return Found("attached", entry, place, manifest, listing)


def stored_time(state: dict) -> float:
    """When a checkpoint was made, in Unix seconds: ours say so, the guide's in one of two forms."""
    stamp = state["created_at"] if is_ours(state) else state.get("timestamp")
    if isinstance(stamp, str):
        try:
            moment = datetime.fromisoformat(stamp)
        except ValueError:
            return 0.0
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(stamp) if isinstance(stamp, int | float) else 0.0


def _name_of(place: Path) -> str:
    name = _original(place).name
    return name if name.endswith(".pt") else f"{name}.pt"


def _original(place: Path) -> Path:
    """The .pt itself, or the folder that stands for it when Kaggle unpacked it."""
    return place.parent if place.is_dir() and place.name == ARCHIVE_ROOT else place


def take_over(found: Found | None, folder: CheckpointFolder) -> None:
    """Bring the predecessor's best model, and own checkpoints that are still intact.

    A best model that is missing or torn is no loss: the next validation writes a new one.
    """
    entries = found.manifest["files"] if found and found.origin == "own" else []
    intact = [entry for entry in entries if entry["kind"] in ("checkpoint", "best")]
    folder.adopt([entry for entry in intact if locate(found.listing, entry) is not None])
    best = find_entry(found.manifest, BEST) if found and found.origin != "own" else None
    place = locate(found.listing, best) if best else None
    if place is not None:
        folder.carry_best(place, best)


def report() -> None:
    """Print what was found and which checkpoint the training below will use (Section 3)."""
    paths = find_paths()
    print(f"Searching for checkpoints below {paths.input} ...")
    try:
        found = find_start(paths, parse_parameters(read_parameters(paths)))
    except Refusal as refusal:
        print(f"The session will be refused ({refusal.reason}): {refusal.detail}")
        return
    if found is None:
        print(
            "No checkpoint found: the training starts from scratch, at step 0. If there should be "
            "one: attach its dataset (Add Input); the file must end in .pt and have "
            '"checkpoint" or "model" in its name.'
        )
        return
    name, origin = found.entry["name"], _original(found.place).parent
    if found.origin != "attached":  # those were printed one by one
        print(f"  Found: {name} in {origin.name}/ (step {found.entry['step']}, verified)")
    print(f"Will use checkpoint: {name}")
