"""From a verified checkpoint to the new head: publish it once, and believe only what is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orchestrator.checkpoints import MANIFEST, MANIFEST_LIMIT_BYTES, published_names
from orchestrator.kaggle.port import (
    DatasetInfo,
    Done,
    Gone,
    PublishRequest,
    Refused,
    Unreadable,
)
from orchestrator.machine import Kind, Publication
from orchestrator.model import Checkpoint
from orchestrator.phases import copies, preflight
from orchestrator.phases.adopt import adopt, leave_others_the_first_move
from orchestrator.phases.context import NOT_OURS, Context, Stop, Wake
from orchestrator.phases.launch import AGREEING_READS

# Kaggle said yes, so the version will most likely show up: a large one only when it is processed.
ACKNOWLEDGED_PATIENCE = 6.0  # times the settle window
PROCESSING_SECONDS = 6 * 3600  # minutes are usual; after hours it is stuck
PUBLISHED_AGAIN = "the checkpoint is published again"


def verified(context: Context) -> Wake:
    """VERIFIED: see where the dataset stands and write down the intent to publish."""
    slug, state = context.settings.dataset_slug, context.state
    if stop := _has_failed(context):
        return stop.wake
    info = context.kaggle.dataset(slug)
    known = state.dataset_version
    if isinstance(info, Unreadable) or (isinstance(info, Gone) and known):
        return context.missing(f"dataset {slug}", info)
    if isinstance(info, DatasetInfo) and (stop := _look_before(context, info)):
        return stop.wake
    if stop := leave_others_the_first_move(context):
        return stop.wake
    context.journal.append(
        Kind.PUBLISH_INTENT,
        token=context.new_token(),
        base_version=0 if isinstance(info, Gone) else info.current_version,
        create=isinstance(info, Gone),
        manifest_sha256=_pending(context).manifest_sha256,
    )
    return None


def _has_failed(context: Context) -> Stop | None:
    """Halt after too many publications that came to nothing; why tells what to look for."""
    slug, state = context.settings.dataset_slug, context.state
    limit = context.settings.chain.max_attempts
    if state.failed_publications >= limit:
        context.halt(
            "failing_publications",
            f"dataset {slug} did not hold what was published, {state.failed_publications} times;"
            " look at it on Kaggle, then run with --retry",
        )
    elif state.unknown_publications >= limit:
        context.halt(
            "unknown_publications",
            f"{state.unknown_publications} publications in a row left no version in dataset {slug}:"
            " their requests never arrived there, or kchain was killed before it sent them. Look at"
            " the dataset on Kaggle, then run with --retry",
        )
    else:
        return None
    return Stop(None)


def _look_before(context: Context, info: DatasetInfo) -> Stop | None:
    """Publish to nothing that is public or another's, and nothing that is there already."""
    slug, known = context.settings.dataset_slug, context.state.dataset_version
    if stop := preflight.dataset_is_private(context, info):
        return stop
    if info.current_version < known:
        way_out = "If that is well, run with --retry to add the checkpoints to it as new versions"
        shown = info.current_version
        return Stop(context.stale(f"dataset {slug}", shown, known, way_out, dataset_version=shown))
    if stop := _published_already(context, info):
        return stop
    if not known:
        context.halt(
            "foreign_dataset",
            f"dataset {slug} exists already and this journal did not make it; choose another name,"
            " or run with --retry to add the checkpoints to it as new versions. If it is this"
            " chain's and its journal was lost, `kchain recover` rebuilds it",
            dataset_version=info.current_version,
        )
        return Stop(None)
    return None


def _published_already(context: Context, info: DatasetInfo) -> Stop | None:
    """Adopt a version that holds what is pending and that this journal does not know: it was
    published late, or before the journal was lost or replaced by an older one.
    """
    known, wanted = context.state.dataset_version, _pending(context).manifest_sha256
    for version in range(info.current_version, known, -1):
        notes = [seen.notes for seen in info.versions if seen.number == version]
        found = any(wanted in text for text in notes) or _holds(context, version)
        if isinstance(found, Stop):
            return found
        if found:
            context.journal.append(Kind.PUBLISH_FOUND, version=version)
            return Stop(None)
    if info.current_version > known and (stop := _adopt(context)):
        return stop
    push = context.state.push
    is_recent = context.certain_since(push.ended_age if push else None) < PROCESSING_SECONDS
    if not known and is_recent and not (info.is_ready or info.has_failed):
        return _processing(context, info)  # a dataset's first version has no notes to know it by
    return None


def _adopt(context: Context) -> Stop | None:
    """Publish nothing behind a head that the chain has reached without this journal."""
    found = adopt(context, f"dataset {context.settings.dataset_slug}")
    return found if isinstance(found, Stop) else None


def publishing(context: Context) -> Wake:
    """PUBLISHING: nothing has left yet. Stage anew, look once more, say it leaves, send it once."""
    publication, pending = _publication(context), _pending(context)
    names = _files(pending)
    if not copies.is_whole(context, pending.manifest_sha256, names):
        context.journal.append(
            Kind.CHECKPOINT_DAMAGED,
            message=f"the copy of {pending.file} is not what was verified; it is fetched anew",
        )
        retry_seconds = context.settings.timing.retry_seconds
        return context.wait("damaged", "a damaged copy is replaced", retry_seconds)
    folder = context.files.stage(publication.token, pending.manifest_sha256, names)
    request = PublishRequest(
        dataset=context.settings.dataset_slug,
        title=context.settings.dataset_slug,
        folder=folder,
        files=tuple(names),
        notes=_notes(context, publication, pending),
    )
    if stop := preflight.dataset_is_as_intended(context, publication):
        return stop.wake
    context.journal.append(Kind.PUBLISH_SENT)
    send = context.kaggle.create_dataset if publication.create else context.kaggle.publish_version
    answer = send(request)
    if isinstance(answer, Done):
        context.journal.append(Kind.PUBLISH_DONE)
    elif isinstance(answer, Refused):
        context.refused(Kind.PUBLISH_REFUSED, answer)
    else:
        context.journal.append(Kind.PUBLISH_UNCLEAR, message=answer.message)
    return None


def publish_unknown(context: Context) -> Wake:
    """PUBLISH_UNKNOWN: success is a version that carries our mark, not an answer that said Ok."""
    publication, slug = _publication(context), context.settings.dataset_slug
    info = context.kaggle.dataset(slug)
    if isinstance(info, Unreadable) or (isinstance(info, Gone) and publication.base_version):
        return context.missing(f"dataset {slug}", info)
    found = None if isinstance(info, Gone) else _find_ours(context, info)
    if isinstance(found, Stop):
        return found.wake
    if found is not None:
        context.journal.append(Kind.PUBLISH_SEEN, version=found)
        return None
    patience = ACKNOWLEDGED_PATIENCE if publication.acknowledged else 1.0
    if not context.is_settled(publication.sent_age, patience):
        return context.poll()
    if context.state.absent < AGREEING_READS:
        return context.absent(Kind.PUBLISH_ABSENT)
    context.journal.append(Kind.PUBLISH_GIVEN_UP, message="the version never became visible")
    return None


def published(context: Context) -> Wake:
    """PUBLISHED: the new head is what is ready and read back equal, file by file."""
    pending, version = _pending(context), _publication(context).version
    assert version is not None
    info = preflight.private_dataset(context)
    if isinstance(info, Stop):
        return info.wake
    if info.has_failed:
        return _incomplete(context, "Kaggle failed to process it")
    if info.current_version < version or not info.is_ready:
        if _is_stuck(context):
            return _incomplete(context, "Kaggle has been processing it for hours")
        return context.poll()
    if (problem := _read_back(context, version, pending)) is not None:
        return problem.wake
    copies.deliver(context, pending.manifest_sha256)
    context.journal.append(Kind.HEAD, version=version)
    return None


def _read_back(context: Context, version: int, pending: Checkpoint) -> Stop | None:
    """Compare a dataset version with what was published: its exact files and its manifest."""
    files = _listed(context, version)
    if isinstance(files, Stop):
        return files
    manifest = _manifest(context, pending)
    sizes = {entry["name"]: entry["bytes"] for entry in manifest["files"]}
    if published_names(files, manifest) != set(_files(pending)):
        return Stop(_incomplete(context, f"it holds {', '.join(sorted(files)) or 'nothing'}"))
    if wrong := [name for name, size in sizes.items() if files.get(name, size) != size]:
        return Stop(_incomplete(context, f"{', '.join(wrong)} has another size there"))
    return _compare_manifest(context, version, pending)


def _compare_manifest(context: Context, version: int, pending: Checkpoint) -> Stop | None:
    slug = context.settings.dataset_slug
    content = context.kaggle.dataset_file(slug, version, MANIFEST, MANIFEST_LIMIT_BYTES)
    if isinstance(content, Unreadable | Gone):
        what = f"the manifest of dataset {slug} version {version}"
        if stop := context.given_up(what, content, PUBLISHED_AGAIN):
            return stop
        return Stop(_incomplete(context, "its manifest cannot be read"))
    if hashlib.sha256(content).hexdigest() != pending.manifest_sha256:
        return Stop(_incomplete(context, "its manifest is not the one that was published"))
    return None


def _listed(context: Context, version: int) -> Mapping[str, int] | Stop:
    slug = context.settings.dataset_slug
    files = context.kaggle.dataset_files(slug, version)
    if isinstance(files, Gone) and _is_stuck(context):
        return Stop(_incomplete(context, "its files have not been there for hours"))
    if isinstance(files, Unreadable | Gone):
        what = f"the files of dataset {slug} version {version}"
        if stop := context.given_up(what, files, PUBLISHED_AGAIN):
            return stop
        return Stop(_incomplete(context, "its files cannot be read"))
    return files


def _is_stuck(context: Context) -> bool:
    """Tell whether a version that was seen must be ready by now, if it ever will be."""
    return context.certain_since(_publication(context).seen_age) > PROCESSING_SECONDS


def _find_ours(context: Context, info: DatasetInfo) -> int | Stop | None:
    """Return the version that carries our mark; None if it is certain that none does yet."""
    base_version = _publication(context).base_version
    if stop := preflight.dataset_is_private(context, info):
        return stop
    for version in range(base_version + 1, info.current_version + 1):
        ours = _is_ours(context, info, version)
        if isinstance(ours, Stop):
            return ours
        if ours:
            return version
    if info.current_version > base_version and not (info.is_ready or info.has_failed):
        if context.seconds_since(_publication(context).sent_age) > PROCESSING_SECONDS:
            context.halt(
                "stuck_dataset",
                f"{_being_processed(context, info)} for hours; if it stays so, add any version to"
                " it by hand, and when that one is ready, run with --retry",
            )
            return Stop(None)
        return _processing(context, info)
    return None


def _processing(context: Context, info: DatasetInfo) -> Stop:
    """A version without notes shows its files, and so whose it is, only when it is ready."""
    message = _being_processed(context, info)
    return Stop(context.wait("processing", message, context.settings.timing.poll_seconds))


def _being_processed(context: Context, info: DatasetInfo) -> str:
    slug = context.settings.dataset_slug
    return f"dataset {slug} version {info.current_version} is being processed"


def _is_ours(context: Context, info: DatasetInfo, version: int) -> bool | Stop:
    """Look for our token in the version's notes; where there are none, for our manifest."""
    token = _publication(context).token
    if any(token in listed.notes for listed in info.versions if listed.number == version):
        return True
    return _holds(context, version)


def _holds(context: Context, version: int) -> bool | Stop:
    """Tell whether a dataset version's manifest is the pending checkpoint's."""
    slug = context.settings.dataset_slug
    content = context.kaggle.dataset_file(slug, version, MANIFEST, MANIFEST_LIMIT_BYTES)
    if isinstance(content, Unreadable):
        what = f"dataset {slug} version {version}"
        return context.given_up(what, content, NOT_OURS) or False
    if isinstance(content, Gone):
        return False
    return hashlib.sha256(content).hexdigest() == _pending(context).manifest_sha256


def _manifest(context: Context, pending: Checkpoint) -> Mapping[str, Any]:
    stored = context.files.stored(pending.manifest_sha256)
    body: Mapping[str, Any] = json.loads(context.files.read(stored, MANIFEST, MANIFEST_LIMIT_BYTES))
    return body


def _incomplete(context: Context, why: str) -> Wake:
    """The version carries our mark and is unusable: another one must supersede it."""
    publication = _publication(context)
    context.journal.append(
        Kind.PUBLISH_INCOMPLETE,
        version=publication.version,
        message=f"dataset version {publication.version} is unusable: {why}",
    )
    return None


def _notes(context: Context, publication: Publication, pending: Checkpoint) -> str:
    name, session = context.settings.chain.name, context.state.session
    return (
        f"kchain {name} session {session} step {pending.step}"
        f" {publication.token} {pending.manifest_sha256}"
    )


def _files(pending: Checkpoint) -> list[str]:
    return [*pending.publish, MANIFEST]


def _pending(context: Context) -> Checkpoint:
    assert context.state.pending is not None
    return context.state.pending


def _publication(context: Context) -> Publication:
    assert context.state.publication is not None
    return context.state.publication
