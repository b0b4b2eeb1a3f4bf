"""Brings a published checkpoint back to this disk: from its session's output, or its dataset.

The output is asked first: it has the session's own word and the finished model, and no platform
has unpacked anything in it. Either way each file is verified against the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import contract
from orchestrator.checkpoints import (
    CHECKPOINT_LIMIT_BYTES,
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    check_identity,
    published_names,
    verify_file,
)
from orchestrator.errors import CheckpointError
from orchestrator.kaggle.port import Gone, OutputFile, Trouble, Unreadable
from orchestrator.phases.collect import ROOM_FACTOR, VERDICT
from orchestrator.phases.context import Context, Stop
from orchestrator.phases.fetch import FOLDER, FRESH_DOWNLOADS
from orchestrator.phases.survey import FoundVersion

Address = OutputFile | Gone | Unreadable
Locate = Callable[[Context, "Place", str], Address]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is on Kaggle: a session's output, if it is known, and a dataset."""

    kernel: str
    kernel_version: int | None
    dataset: str
    dataset_version: int


@dataclass(frozen=True, slots=True)
class Brought:
    """What is in the store now: verified files, and what the session said of itself."""

    kept: list[str]
    verdict: Mapping[str, Any] | None


def retrieve(
    context: Context, place: Place, version: FoundVersion, listed: Mapping[str, int]
) -> Brought | Stop:
    """Put what a dataset version holds into the store, or verify it where it is already.

    Raises:
        CheckpointError: a file is nowhere as its manifest says.
    """
    manifest, files = version.manifest, context.files
    held = sorted(published_names(listed, manifest.body) - {MANIFEST})
    stored = files.stored(manifest.sha256)
    if not stored.is_dir():
        folder = files.incoming(manifest.body["token"])
        names = _fetch_all(context, place, version, folder, held)
        if isinstance(names, Stop):
            return names
        files.promote(folder, manifest.sha256, names)
    for name in held:
        verify_file(files, stored, manifest.entry(name))
    return Brought(held, _verdict(context, stored, version))


def _fetch_all(
    context: Context, place: Place, version: FoundVersion, folder: Path, held: list[str]
) -> list[str] | Stop:
    """Download the files into a folder; return the names of what is there in the end."""
    entries = [version.manifest.entry(name) for name in held]
    size = sum(entry["bytes"] for entry in entries)
    if context.files.free_bytes() < ROOM_FACTOR * size:
        message = f"less than {ROOM_FACTOR * size:,} bytes are free for the head"
        return Stop(context.wait("disk", message, context.settings.timing.retry_seconds))
    for entry in entries:
        if stop := _fetch(context, place, folder, entry, _in_output, _in_dataset):
            return stop
    extra = _fetch_extra(context, place, version, folder)
    if isinstance(extra, Stop):
        return extra
    with context.files.partial(folder, MANIFEST) as sink:
        sink.restart()
        sink.write(version.content)
    return [*held, MANIFEST, *extra]


def _fetch_extra(
    context: Context, place: Place, version: FoundVersion, folder: Path
) -> list[str] | Stop:
    """Bring what only a session's output has; what is not there any more is no loss."""
    final = [entry for entry in version.manifest.body["files"] if entry["kind"] == "final"]
    found = []
    for entry in final:
        try:
            if stop := _fetch(context, place, folder, entry, _in_output):
                return stop
            found.append(entry["name"])
        except CheckpointError:
            continue
    said = _fetch_verdict(context, place, folder)
    return said if isinstance(said, Stop) else [*found, *said]


def _fetch_verdict(context: Context, place: Place, folder: Path) -> list[str] | Stop:
    address = _output(context, place, VERDICT)
    if isinstance(address, OutputFile):
        context.files.discard(folder, VERDICT)
        with context.files.partial(folder, VERDICT) as sink:
            answer = context.kaggle.download(address, sink, MANIFEST_LIMIT_BYTES)
        if isinstance(answer, int):
            return [VERDICT]
        address = answer
    if isinstance(address, Unreadable) and address.trouble is not Trouble.ODD:
        return Stop(context.unreadable(VERDICT, address))
    return []


def _fetch(
    context: Context, place: Place, folder: Path, entry: Mapping[str, Any], *ways: Locate
) -> Stop | None:
    """Bring one file and verify it; a wrong one is fetched anew, and from wherever it is."""
    problems: list[Gone | Unreadable] = []
    for locate in ways * FRESH_DOWNLOADS:
        problem = _fetch_once(context, place, folder, entry, locate)
        if problem is None:
            return None
        problems.append(problem)
    for problem in problems:
        if isinstance(problem, Unreadable) and problem.trouble is not Trouble.ODD:
            return Stop(context.unreadable(entry["name"], problem))
    raise CheckpointError(problems[-1].message)


def _fetch_once(
    context: Context, place: Place, folder: Path, entry: Mapping[str, Any], locate: Locate
) -> Gone | Unreadable | None:
    """Download what is missing of one file, and verify it; return what went wrong."""
    name, files = entry["name"], context.files
    if files.size_bytes(folder, name) != entry["bytes"]:
        address = locate(context, place, name)
        if not isinstance(address, OutputFile):
            return address
        with files.partial(folder, name) as sink:
            limit = min(entry["bytes"], CHECKPOINT_LIMIT_BYTES)
            answer = context.kaggle.download(address, sink, limit)
        if not isinstance(answer, int):
            if isinstance(answer, Unreadable) and answer.trouble is Trouble.ODD:
                files.discard(folder, name)
            return answer
    try:
        verify_file(files, folder, entry)
    except CheckpointError as error:
        files.discard(folder, name)
        return Unreadable(Trouble.ODD, str(error))
    return None


def _in_output(context: Context, place: Place, name: str) -> Address:
    return _output(context, place, FOLDER + name)


def _output(context: Context, place: Place, name: str) -> Address:
    """Find a file in the session's output, by a URL listed this moment: URLs expire."""
    if place.kernel_version is None:
        return Gone(f"no kernel version is known to have made {name}")
    listed = context.kaggle.outputs(place.kernel, place.kernel_version)
    if isinstance(listed, Gone | Unreadable):
        return listed
    found = [file for file in listed if file.name == name]
    return found[0] if found else Gone(f"the session's output lacks {name}")


def _in_dataset(context: Context, place: Place, name: str) -> Address:
    return context.kaggle.dataset_address(place.dataset, place.dataset_version, name)


def _verdict(context: Context, stored: Path, version: FoundVersion) -> Mapping[str, Any] | None:
    """Return the session's own word as it was kept; None if there is none, or a spoilt one."""
    if context.files.size_bytes(stored, VERDICT) is None:
        return None
    try:
        body = contract.parse("verdict", context.files.read(stored, VERDICT, MANIFEST_LIMIT_BYTES))
        check_identity("verdict", body, version.expected)
    except CheckpointError:
        return None
    return body
