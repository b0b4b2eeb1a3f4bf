"""The last look before something is sent: all is as this journal left it, private, and ours."""

from __future__ import annotations

import hashlib

from orchestrator.checkpoints import MANIFEST, MANIFEST_LIMIT_BYTES
from orchestrator.kaggle.port import DatasetInfo, Gone, Unreadable
from orchestrator.machine import Head, Kind, Publication
from orchestrator.phases.context import NOT_OURS, Context, Stop


def kernel_is_ours(context: Context) -> Stop | None:
    """Refuse to push on top of a version that this journal does not know."""
    slug, known = context.settings.kernel_slug, context.state.kernel_version
    info = context.kaggle.kernel(slug)
    if isinstance(info, Unreadable) or (isinstance(info, Gone) and known):
        return Stop(context.missing(f"kernel {slug}", info))
    if isinstance(info, Gone):
        return None
    if info.is_private is False:
        return _public(context, f"kernel {slug}")
    shown = info.current_version
    if shown < known:
        way_out = "If that is well, run with --retry to push on top"
        return Stop(context.stale(f"kernel {slug}", shown, known, way_out, kernel_version=shown))
    if info.current_version > known:
        context.halt(
            "foreign_kernel_version",
            f"kernel {slug} stands at version {info.current_version}, this journal knows"
            f" {known}: somebody else pushed, or this journal is not the chain's own. If it was"
            " lost, see `kchain recover`; only if that is well, run with --retry to push on top",
            kernel_version=info.current_version,
        )
        return Stop(None)
    return None


def dataset_is_ours(context: Context) -> Stop | None:
    """Refuse to start a session that would mount anything but the head."""
    head, slug = context.state.head, context.settings.dataset_slug
    if head is None:
        return None
    info = private_dataset(context)
    if isinstance(info, Stop):
        return info
    is_heads = info.current_version == head.version
    if not is_heads and (stop := _newest_holds_the_head(context, head, info.current_version)):
        return stop
    if not info.is_ready:
        return Stop(context.wait("processing", f"dataset {slug} is being processed again", 60.0))
    return None


def private_dataset(context: Context) -> DatasetInfo | Stop:
    """Read the dataset, which must be there and nobody else's to see."""
    slug = context.settings.dataset_slug
    info = context.kaggle.dataset(slug)
    if isinstance(info, Unreadable | Gone):
        return Stop(context.missing(f"dataset {slug}", info))
    return dataset_is_private(context, info) or info


def dataset_is_private(context: Context, info: DatasetInfo) -> Stop | None:
    """Let nothing be added, and no version become the head, where everybody can read it."""
    return None if info.is_private else _public(context, f"dataset {context.settings.dataset_slug}")


def dataset_is_as_intended(context: Context, publication: Publication) -> Stop | None:
    """Refuse to publish to a dataset that changed since the intent was written down."""
    slug = context.settings.dataset_slug
    info = context.kaggle.dataset(slug)
    if isinstance(info, Unreadable) or (isinstance(info, Gone) and publication.base_version):
        return Stop(context.missing(f"dataset {slug}", info))
    if isinstance(info, Gone):
        return None
    if stop := dataset_is_private(context, info):
        return stop
    if info.current_version != publication.base_version:
        message = f"dataset {slug} stands at version {info.current_version} by now"
        context.journal.append(Kind.PUBLISH_WITHDRAWN, message=message)
        return Stop(None)
    return None


def _public(context: Context, what: str) -> Stop:
    context.halt("public", f"{what} is public; make it private, then run with --retry")
    return Stop(None)


def _newest_holds_the_head(context: Context, head: Head, newest: int) -> Stop | None:
    """A version that somebody added is harmless if it is the head's, byte for byte."""
    what = f"dataset {context.settings.dataset_slug}"
    content = context.kaggle.dataset_file(
        context.settings.dataset_slug, newest, MANIFEST, MANIFEST_LIMIT_BYTES
    )
    if isinstance(content, Unreadable):
        version = f"{what} version {newest}"
        if stop := context.given_up(version, content, NOT_OURS):
            return stop
    wanted = head.checkpoint.manifest_sha256
    if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() == wanted:
        return None
    way_out = (
        f"Publish {context.files.stored(wanted)} as its next version by hand, then run with --retry"
    )
    if newest < head.version:
        return Stop(context.stale(what, newest, head.version, way_out, dataset_version=newest))
    context.halt(
        "foreign_dataset_version",
        f"{what} stands at version {newest}, the head is version {head.version}: a session"
        f" would mount the wrong files. {way_out}",
    )
    return Stop(None)
