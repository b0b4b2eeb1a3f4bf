"""The last look before something is sent: all is as this journal left it, private, and ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from orchestrator.checkpoints import MANIFEST, MANIFEST_LIMIT_BYTES
from orchestrator.kaggle.port import DatasetInfo, Gone, KernelInfo, Unreadable
from orchestrator.machine import Head, Kind, Publication
from orchestrator.phases.adopt import adopt, leave_others_the_first_move
from orchestrator.phases.context import NOT_OURS, Context, Stop

RECOVER = (
    "Another controller drove the chain, or this journal is not the chain's own: `kchain recover`"
    " keeps it as journal.db.old and goes on from what Kaggle holds"
)


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
        return _unknown_versions(context, info.current_version)
    return leave_others_the_first_move(context)


def _unknown_versions(context: Context, newest: int) -> Stop:
    """Go on from the chain's own versions if they continue this journal; else say whose they are."""
    slug, known = context.settings.kernel_slug, context.state.kernel_version
    if stop := _unread(context, range(known + 1, newest + 1)):
        return stop
    found = adopt(context, f"kernel {slug}")
    if isinstance(found, Stop):
        return found
    stands = f"kernel {slug} stands at version {newest}, this journal knows {known}"
    sessions = sorted(push.version for push in found.pushes_after(known))
    if sessions:
        context.halt(
            "foreign_kernel_version",
            f"{stands}: {_numbered(sessions)} of this chain, and nothing shows that they follow"
            f" from what this journal knows. {RECOVER}",
        )
    else:
        context.halt(
            "foreign_kernel_version",
            f"{stands}, and what came since is none of this chain's sessions: somebody else"
            " pushed. See on kaggle.com what it is, and cancel it if it is not wanted; run with"
            " --retry to push on top",
            kernel_version=newest,
        )
    return Stop(None)


def _unread(context: Context, versions: Iterable[int]) -> Stop | None:
    """Call no version somebody else's only because it cannot be read."""
    slug = context.settings.kernel_slug
    for version in versions:
        found, what = context.kaggle.kernel(slug, version), f"kernel {slug} version {version}"
        if isinstance(found, KernelInfo):
            continue
        if stop := context.given_up(what, found, NOT_OURS):
            return stop
    return None


def _numbered(versions: Sequence[int]) -> str:
    numbers = ", ".join(map(str, versions))
    return (
        f"version {numbers} is a session"
        if len(versions) == 1
        else f"versions {numbers} are sessions"
    )


def dataset_is_ours(context: Context) -> Stop | None:
    """Refuse to start a session that would mount anything but the head."""
    head, slug = context.state.head, context.settings.dataset_slug
    if head is None:
        return _dataset_before_any_head(context)
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


def _dataset_before_any_head(context: Context) -> Stop | None:
    """Repeat no first session whose checkpoint the chain has accepted without this journal.

    What somebody else made is of no concern until something is published to it.
    """
    slug = context.settings.dataset_slug
    info = context.kaggle.dataset(slug)
    if isinstance(info, Unreadable):
        return Stop(context.unreadable(f"dataset {slug}", info))
    if isinstance(info, Gone) or info.current_version <= context.state.dataset_version:
        return None
    found = adopt(context, f"dataset {slug}")
    return found if isinstance(found, Stop) else None


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
    return _foreign_dataset(context, what, newest, way_out)


def _foreign_dataset(context: Context, what: str, newest: int, way_out: str) -> Stop:
    """Go on from the chain's own head if it continues this journal's; else say what is mounted."""
    found = adopt(context, what)
    if isinstance(found, Stop):
        return found
    if further := [each for each in found.candidates() if each.session > context.state.heads]:
        context.halt(
            "foreign_dataset_version",
            f"{what} version {further[0].number} holds session {further[0].session} of this"
            f" chain, which does not follow from this journal's head. {RECOVER}",
        )
        return Stop(None)
    context.halt(
        "foreign_dataset_version",
        f"{what} stands at version {newest}, which does not hold the head: a session would mount"
        f" the wrong files. {way_out}",
    )
    return Stop(None)
