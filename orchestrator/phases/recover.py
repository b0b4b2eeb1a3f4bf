"""From a lost journal to where the chain stands, by nothing but reading Kaggle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoints import as_checkpoint, is_complete
from orchestrator.errors import CheckpointError, ConfigError, NotNow
from orchestrator.kaggle.port import Gone, Unreadable
from orchestrator.machine import Kind
from orchestrator.model import Checkpoint, SessionStatus
from orchestrator.phases import account, copies
from orchestrator.phases.context import Context, Stop, Wake
from orchestrator.phases.retrieve import Place, retrieve
from orchestrator.phases.survey import FoundPush, FoundVersion, Survey, survey

OPEN = frozenset({SessionStatus.QUEUED, SessionStatus.RUNNING})
# All that a journal holds which was begun after the real one was lost: it never sent anything.
IDLE_KINDS = frozenset(
    {
        *(Kind.BOUND, Kind.WAITING, Kind.RESTARTED, Kind.PUSH_INTENT, Kind.PUSH_WITHDRAWN),
        *(Kind.FINISHED, Kind.REOPENED, Kind.HALTED, Kind.RETRIED),
    }
)


@dataclass(frozen=True, slots=True)
class Found:
    """The head as Kaggle holds it: a dataset version, and the record of its checkpoint."""

    version: FoundVersion
    checkpoint: Checkpoint


def begin(context: Context) -> None:
    """UNBOUND: bind an empty journal to the account, if anything of the chain is there.

    A journal that never sent anything is kept under another name; an empty one takes its place.

    Raises:
        ConfigError: the journal is in use, or there is nothing to recover from.
        NotNow: Kaggle cannot be read.
    """
    settings, journal = context.settings, context.journal
    if not all(event.kind in IDLE_KINDS for event in journal.events):
        raise ConfigError(
            f"the journal {journal.path} is in use, there is nothing to recover: `kchain run` goes"
            f" on. To rebuild it from Kaggle all the same, move {journal.path.parent} away first"
        )
    owner = context.kaggle.identity()
    if isinstance(owner, Unreadable):
        raise NotNow(f"Kaggle cannot be read ({owner.message}); try again later")
    account.refuse_another(context, owner)
    found = survey(context)
    if isinstance(found, Unreadable):
        raise NotNow(f"Kaggle cannot be read ({found.message}); try again later")
    if not (found.pushes or found.versions):
        raise ConfigError(
            f"nothing of chain {settings.chain.name!r} is on {owner}'s account: neither kernel"
            f" {settings.kernel_slug} nor dataset {settings.dataset_slug} is this chain's. Check"
            " the name and the credential; `kchain run` starts a new chain"
        )
    kept = journal.set_aside().name if journal.events else None
    journal.append(
        Kind.RECOVERING,
        set_aside=kept,
        endpoint=context.endpoint,
        owner=owner,
        kernel=settings.kernel_slug,
        dataset=settings.dataset_slug,
    )


def recovering(context: Context) -> Wake:
    """RECOVERING: find the head, bring it here, and go on with the session that follows it."""
    found = survey(context)
    if isinstance(found, Unreadable):
        return context.unreadable("what Kaggle holds of the chain", found)
    if stop := _in_motion(context, found):
        return stop.wake
    head = _head(context, found)
    if isinstance(head, Stop):
        return head.wake
    heads, checkpoint = (head.version.session, head.checkpoint) if head else (0, None)
    body, push = _body(found, head), found.newest_push
    if push is None or push.session <= heads:
        context.journal.append(Kind.RECOVERED, **body, attempt=1)
    elif push.continues(checkpoint, heads):
        attempt = push.parameters["attempt"]
        context.journal.append(Kind.RECOVERED_LIVE, **body, attempt=attempt, push=_pushed(push))
    else:
        context.halt(
            "broken_lineage",
            f"kernel version {push.version} is session {push.session} and continues a checkpoint"
            f" that dataset {context.settings.dataset_slug} does not hold as session"
            f" {push.session - 1}'s; see what became of it on Kaggle, then run with --retry",
        )
    return None


def _body(found: Survey, head: Found | None) -> dict[str, Any]:
    # Without a head, a version with a manifest of ours may still be what is collected next, as far
    # as it could be published: it is looked at before it is published again.
    ours = max((version.number for version in found.versions), default=1) - 1
    return {
        "head": {"checkpoint": head.checkpoint.to_body(), "version": head.version.number}
        if head
        else None,
        "heads": head.version.session if head else 0,
        "kernel_version": found.newest_push.version if found.newest_push else 0,
        "dataset_version": head.version.number if head else ours,
    }


def _pushed(push: FoundPush) -> dict[str, Any]:
    told = ("session", "token", "parent", "time_budget_seconds")
    return {"version": push.version, **{key: push.parameters[key] for key in told}}


def _in_motion(context: Context, found: Survey) -> Stop | None:
    """Wait until whatever was sent before the journal was lost must have become visible.

    A session that is open proves that nothing else was sent: nothing ever is, beside one.
    """
    push, slug = found.newest_push, context.settings.kernel_slug
    if push is not None:
        info = context.kaggle.session(slug, push.version)
        if isinstance(info, Unreadable):
            return Stop(context.unreadable(f"the session of {slug} version {push.version}", info))
        if not isinstance(info, Gone) and info.status in OPEN:
            return None
    if not context.is_settled(None):
        left = context.settings.timing.settle_seconds - context.journal.age
        message = "what was sent before the journal was lost must have become visible"
        return Stop(context.wait("settling", message, left))
    return None


def _head(context: Context, found: Survey) -> Found | Stop | None:
    """Bring the newest complete checkpoint whose lineage holds; None if there is none."""
    slug = context.settings.dataset_slug
    for version in found.candidates():
        listed = context.kaggle.dataset_files(slug, version.number)
        if isinstance(listed, Unreadable):
            what = f"the files of dataset {slug} version {version.number}"
            return Stop(context.unreadable(what, listed))
        if isinstance(listed, Gone):
            continue
        was_accepted = found.was_accepted(version)
        if not is_complete(version.manifest, listed, was_accepted=was_accepted):
            continue
        checkpoint = _bring(context, found, version, listed)
        return checkpoint if isinstance(checkpoint, Stop) else Found(version, checkpoint)
    return None


def _bring(
    context: Context, found: Survey, version: FoundVersion, listed: Mapping[str, int]
) -> Checkpoint | Stop:
    """Bring the head's files into the store, verified as any checkpoint is, and deliver them."""
    push, slug = found.push_of(version), context.settings.dataset_slug
    place = Place(
        kernel=context.settings.kernel_slug,
        kernel_version=push.version if push else None,
        dataset=slug,
        dataset_version=version.number,
    )
    try:
        brought = retrieve(context, place, version, listed)
        if isinstance(brought, Stop):
            return brought
        checkpoint = as_checkpoint(version.manifest, brought.verdict, brought.kept)
    except CheckpointError as error:
        context.halt(
            "lost_checkpoint",
            f"the head, dataset version {version.number}, cannot be brought here: {error};"
            " mend that, then run with --retry",
        )
        return Stop(None)
    copies.deliver(context, version.manifest.sha256)
    return checkpoint
