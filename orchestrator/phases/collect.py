"""From a session that ended to a checkpoint that is here and proven, or a fruitless attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import contract
from orchestrator.checkpoints import (
    MANIFEST,
    Expectation,
    Manifest,
    as_checkpoint,
    check_identity,
    parse_manifest,
)
from orchestrator.errors import CheckpointError
from orchestrator.kaggle.port import OutputFile
from orchestrator.machine import Kind, Push
from orchestrator.phases import copies
from orchestrator.phases.context import Context, Stop, Wake
from orchestrator.phases.fetch import FOLDER, fetch_document, fetch_verified, list_output

VERDICT = "session.json"
ROOM_FACTOR = 3  # times the download's size that must be free before it begins


def ended(context: Context) -> Wake:
    """ENDED: fetch what the session left, verify it, and keep it; or count the attempt lost."""
    push = _push(context)
    if push.doomed:
        return _fruitless(context, "rejected", push.doomed)
    try:
        listed = list_output(context)
    except CheckpointError as error:
        return _fruitless(context, error.reason, str(error))
    if isinstance(listed, Stop):
        return listed.wake
    try:
        return _collect(context, push, listed)
    except CheckpointError as error:
        if not _is_listing_stable(context, push, listed):
            return _look_again(context, push)
        return _fruitless(context, error.reason, str(error))


def _collect(context: Context, push: Push, listed: Mapping[str, OutputFile]) -> Wake:
    folder = context.files.incoming(push.token)
    expected = _expectation(context, push)
    verdict = _verdict(context, folder, listed, expected)
    if isinstance(verdict, Stop):
        return verdict.wake
    if verdict and verdict["outcome"] == "refused":
        return _fruitless(context, verdict["reason"] or "refused", verdict["detail"])
    if FOLDER + MANIFEST not in listed:
        raise _without_checkpoint(push, verdict)
    if verdict is None and not _is_listing_stable(context, push, listed):
        return _look_again(context, push)
    manifest = fetch_document(
        context, folder, FOLDER + MANIFEST, lambda content: parse_manifest(content, expected)
    )
    if isinstance(manifest, Stop):
        return manifest.wake
    kept, why = copies.promoted(context, manifest), ""
    if kept:
        context.files.forget_incoming(push.token)
    else:
        fetched = _fetch_newest(context, push, folder, manifest, listed)
        if isinstance(fetched, Stop):
            return fetched.wake
        said = [VERDICT] if verdict else []
        names, why = fetched
        kept = [*names, MANIFEST, *said]
        context.files.promote(folder, manifest.sha256, kept, anew=True)
    checkpoint = as_checkpoint(manifest, verdict, kept)
    lost = [entry["name"] for entry in manifest.checkpoints if entry["step"] > checkpoint.step]
    context.journal.append(
        Kind.CHECKPOINT_VERIFIED, checkpoint=checkpoint.to_body(), lost=lost, why=why
    )
    return None


def _verdict(
    context: Context, folder: Path, listed: Mapping[str, OutputFile], expected: Expectation
) -> Mapping[str, Any] | Stop | None:
    """Return the session's own word about how it ended; None if it left none."""

    def parse(content: bytes) -> Mapping[str, Any]:
        body = contract.parse("verdict", content)
        check_identity("verdict", body, expected)
        return body

    if VERDICT not in listed:
        return None
    try:
        return fetch_document(context, folder, VERDICT, parse)
    except CheckpointError:
        return None  # a spoilt verdict says nothing, and spoils no checkpoint


def _fetch_newest(
    context: Context,
    push: Push,
    folder: Path,
    manifest: Manifest,
    listed: Mapping[str, OutputFile],
) -> tuple[list[str], str] | Stop:
    """Bring the newest checkpoint that can be accepted; return the names to keep, and what was
    wrong with the newer one.

    An older one is turned to only when Kaggle has finished saving: until then the newest may
    still come.
    """
    size = sum(manifest.entry(name)["bytes"] for name in manifest.wanted)
    if context.files.free_bytes() < ROOM_FACTOR * size:
        message = f"less than {ROOM_FACTOR * size:,} bytes are free for the next checkpoint"
        return Stop(context.wait("disk", message, context.settings.timing.retry_seconds))
    problems: list[CheckpointError] = []
    for checkpoint in manifest.checkpoints:
        try:
            names = _fetch_files(context, folder, manifest, checkpoint)
            return names if isinstance(names, Stop) else (names, "".join(map(str, problems[:1])))
        except CheckpointError as error:
            problems.append(error)
            if not _is_listing_stable(context, push, listed):
                break
    raise problems[0]


def _fetch_files(
    context: Context, folder: Path, manifest: Manifest, checkpoint: Mapping[str, Any]
) -> list[str] | Stop:
    """Bring and verify one checkpoint and what belongs to it; return the names to keep.

    A kill between two renames leaves files with a fixed name ahead of the manifest. The next
    session rebuilds them from the checkpoint, so they are left out and cost nothing.
    """
    kept, needed = [], manifest.needed(checkpoint)
    for entry in [*needed, *manifest.spare(checkpoint)]:
        try:
            if stop := fetch_verified(context, folder, entry):
                return stop
            kept.append(entry["name"])
        except CheckpointError:
            if entry in needed:
                raise
    return kept


def _is_listing_stable(context: Context, push: Push, listed: Mapping[str, OutputFile]) -> bool:
    """Two equal listings, the last after the settle window: Kaggle has saved what there is."""
    digest = hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()
    if push.listing != digest:
        context.journal.append(Kind.OUTPUTS_LISTED, digest=digest, count=len(listed))
        return False
    if not context.is_settled(push.ended_age):
        return False  # what is not listed is more often "not yet" than "lost"
    gap = context.settings.timing.read_gap_seconds
    return context.seconds_since(push.listed_age) >= gap


def _look_again(context: Context, push: Push) -> float:
    """Return when to list again: seldom, until Kaggle must have saved all there is."""
    if not context.is_settled(push.ended_age):
        return context.poll()
    return context.clock.now() + context.settings.timing.read_gap_seconds


def _without_checkpoint(push: Push, verdict: Mapping[str, Any] | None) -> CheckpointError:
    if verdict and verdict["detail"]:
        return CheckpointError(verdict["detail"], verdict["reason"] or verdict["outcome"])
    said = push.end_message or f"Kaggle's status is {push.end_status}"
    return CheckpointError(f"the session left no checkpoint; {said}", "no_checkpoint")


def _expectation(context: Context, push: Push) -> Expectation:
    state = context.state
    return Expectation(
        chain=context.settings.chain.name,
        session=state.session,
        attempt=state.attempt,
        token=push.token,
        parent=state.parent,
    )


def _fruitless(context: Context, reason: str, message: str) -> Wake:
    if context.state.is_damaged:
        context.halt(
            "damaged_checkpoint",
            f"the copy in {context.files.state_dir / 'store'} is damaged, and the session's output"
            f" cannot bring it again ({message}). Restore it from a backup, then run with --retry;"
            " without one, --retry runs the session again",
        )
        return None
    context.fruitless(reason, message)
    return None


def _push(context: Context) -> Push:
    assert context.state.push is not None
    return context.state.push
