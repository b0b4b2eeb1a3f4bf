"""From a lost journal to where the chain stands, by nothing but reading Kaggle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.checkpoints import as_checkpoint, is_complete
from orchestrator.errors import CheckpointError, ConfigError, NotNow
from orchestrator.kaggle.port import Gone, Unreadable
from orchestrator.machine import Kind, Phase, State
from orchestrator.model import Checkpoint, SessionStatus
from orchestrator.phases import account, copies
from orchestrator.phases.context import NOT_OURS, Context, Stop, Wake
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
# Halts that a recovery is a way out of: the account holds what does not follow from the journal.
LEFT_BEHIND = frozenset({"foreign_kernel_version", "foreign_dataset_version", "foreign_dataset"})


@dataclass(frozen=True, slots=True)
class Held:
    """A complete dataset version, and the sizes of its files by name."""

    version: FoundVersion
    listed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """The head as Kaggle holds it: a dataset version, and the record of its checkpoint."""

    version: FoundVersion
    checkpoint: Checkpoint


def newest_head(context: Context, found: Survey) -> Held | Stop | None:
    """Return the newest complete version whose lineage holds; None if there is none."""
    slug = context.settings.dataset_slug
    for version in found.candidates():
        listed = context.kaggle.dataset_files(slug, version.number)
        if isinstance(listed, Unreadable):
            what = f"the files of dataset {slug} version {version.number}"
            if stop := context.given_up(what, listed, NOT_OURS):
                return stop
        if isinstance(listed, Gone | Unreadable):
            continue
        was_accepted = found.was_accepted(version)
        if is_complete(version.manifest, listed, was_accepted=was_accepted):
            return Held(version, listed)
    return None


def begin(context: Context) -> None:
    """UNBOUND: bind an empty journal to the account, if anything of the chain is there.

    A journal that never sent anything, or that halted because the account is not as it left it,
    is kept under another name; an empty one takes its place.

    Raises:
        ConfigError: the journal is in use, or there is nothing to recover from.
        NotNow: Kaggle cannot be read.
    """
    settings, journal = context.settings, context.journal
    has_sent = not all(event.kind in IDLE_KINDS for event in journal.events)
    if has_sent and not is_left_behind(journal.state):
        raise ConfigError(
            f"the journal {journal.path} {_use(journal.state)}. To rebuild it from Kaggle all the"
            f" same, move {journal.path.parent} away first"
        )
    owner = context.kaggle.identity()
    if isinstance(owner, Unreadable):
        raise NotNow(f"Kaggle cannot be read ({owner.message}); try again later")
    account.refuse_another(context, owner)
    found = survey(context, is_patient=False)
    assert isinstance(found, Survey), "it says so at once"
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


def is_left_behind(state: State) -> bool:
    """Tell whether a chain is halted because Kaggle holds what does not follow from its journal."""
    return state.phase is Phase.HALTED and state.halt_code in LEFT_BEHIND


def _use(state: State) -> str:
    if state.phase is Phase.HALTED:
        return f"is halted ({state.halt_code}): {state.halt_message}"
    return "is in use, there is nothing to recover: `kchain run` goes on"


def recovering(context: Context) -> Wake:
    """RECOVERING: find the head, bring it here, and go on with the session that follows it."""
    found = survey(context, is_patient=True)
    if isinstance(found, Stop):
        return found.wake
    held = newest_head(context, found)
    if isinstance(held, Stop):
        return held.wake
    for check in (_lost_sight, _in_motion):
        if stop := check(context, found, held):
            return stop.wake
    head = _bring(context, found, held) if held else None
    if isinstance(head, Stop):
        return head.wake
    return _go_on(context, found, head)


def _go_on(context: Context, found: Survey, head: Found | None) -> Wake:
    heads, checkpoint = (head.version.session, head.checkpoint) if head else (0, None)
    body, push = _body(context, found, head), found.newest_push
    if push is None or push.session <= heads:
        attempt = context.state.attempt if heads == context.state.heads else 1
        context.journal.append(Kind.RECOVERED, **body, attempt=attempt)
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


def _body(context: Context, found: Survey, head: Found | None) -> dict[str, Any]:
    state, newest = context.state, found.newest_push.version if found.newest_push else 0
    # Without a head, a version with a manifest of ours may still be what is collected next, as far
    # as it could be published: it is looked at before it is published again.
    ours = max((version.number for version in found.versions), default=1) - 1
    return {
        "head": {"checkpoint": head.checkpoint.to_body(), "version": head.version.number}
        if head
        else None,
        "heads": head.version.session if head else 0,
        "kernel_version": max(newest, state.kernel_version),
        "dataset_version": max(head.version.number if head else ours, state.dataset_version),
    }


def _pushed(push: FoundPush) -> dict[str, Any]:
    told = ("session", "token", "parent", "time_budget_seconds")
    return {"version": push.version, **{key: push.parameters[key] for key in told}}


def _lost_sight(context: Context, found: Survey, held: Held | None) -> Stop | None:
    """Never go back: what Kaggle shows must descend from the head that is known, if any is."""
    known = context.state.head
    if known is None or (held and found.descends(held.version, known.checkpoint)):
        return None
    slug = context.settings.dataset_slug
    nothing = Gone(f"no version of dataset {slug} continues {known.checkpoint.file}")
    return Stop(context.missing("the head", nothing))


def _in_motion(context: Context, found: Survey, held: Held | None) -> Stop | None:
    """Wait until whatever was sent before the journal was lost must have become visible.

    A session that is open proves that nothing else was sent: nothing ever is, beside one. But one
    that the head is beyond already came late, and brings nothing: it is waited for.
    """
    push, slug = found.newest_push, context.settings.kernel_slug
    if push is not None:
        info = context.kaggle.session(slug, push.version)
        if isinstance(info, Unreadable):
            return Stop(context.unreadable(f"the session of {slug} version {push.version}", info))
        if not isinstance(info, Gone) and info.status in OPEN:
            return _wait_for_duplicate(context, push, held)
    since = context.state.recovering_age
    if not context.is_settled(since):
        left = context.settings.timing.settle_seconds - context.certain_since(since)
        message = "what was sent before the journal was lost must have become visible"
        return Stop(context.wait("settling", message, left))
    return None


def _wait_for_duplicate(context: Context, push: FoundPush, held: Held | None) -> Stop | None:
    if held is None or push.session > held.version.session:
        return None
    limit = push.parameters["time_budget_seconds"] + context.settings.timing.grace_seconds
    if context.certain_since(context.state.recovering_age) > limit:
        return None
    message = (
        f"kernel version {push.version} runs session {push.session} a second time: its push came"
        " late. It is waited for and will not count; cancel it on kaggle.com to go on at once"
    )
    return Stop(context.wait("duplicate", message, context.settings.timing.poll_seconds))


def _bring(context: Context, found: Survey, held: Held) -> Found | Stop:
    """Bring the head's files into the store, verified as any checkpoint is, and deliver them."""
    version = held.version
    push, slug = found.push_of(version), context.settings.dataset_slug
    place = Place(
        kernel=context.settings.kernel_slug,
        kernel_version=push.version if push else None,
        dataset=slug,
        dataset_version=version.number,
    )
    try:
        brought = retrieve(context, place, version, held.listed)
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
    return Found(version, checkpoint)
