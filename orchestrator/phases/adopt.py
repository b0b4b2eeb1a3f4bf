"""What this journal does not know of its own chain: adopted if the lineage proves it.

A journal restored from a backup, or left behind by another controller, meets versions that it
never heard of; so does one whose push landed after it was given up. They belong to the chain if
they carry this journal's tokens or descend from its head. Then it goes on from what Kaggle holds,
as a recovery does.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.machine import Event, Kind
from orchestrator.phases.context import Context, Stop
from orchestrator.phases.recover import newest_head
from orchestrator.phases.survey import FoundPush, FoundVersion, Survey, survey


def adopt(context: Context, what: str) -> Survey | Stop:
    """Go on from what Kaggle holds if it continues this journal; else return what was found."""
    found = survey(context, is_patient=True)
    if isinstance(found, Stop):
        return found
    held = newest_head(context, found)
    if isinstance(held, Stop):
        return held
    head = held.version if held else None
    own = _own_pushes(context, found)
    if not own and not _continues_here(context, found, head):
        return found
    if not own and was_overtaken(context):
        context.halt(
            "second_controller",
            f"{what} got versions again that this journal does not know, though they continue its"
            " chain: another kchain drives it too. End one of the two; if this one is to go on,"
            " run it with --retry",
        )
        return Stop(None)
    _begin(context, what, own)
    return Stop(None)


def own_tokens(context: Context) -> set[str]:
    """Return the token of every push that this journal tells of."""
    events = context.journal.events
    told = [event.data for event in events if event.kind is Kind.PUSH_INTENT]
    adopted = [event.data["push"] for event in events if event.kind is Kind.RECOVERED_LIVE]
    return {data["token"] for data in (*told, *adopted)}


def was_overtaken(context: Context) -> bool:
    """Tell whether others drove the chain on, and neither a push nor a person came since."""
    for event in reversed(context.journal.events):
        if event.kind in (Kind.PUSH_DONE, Kind.RETRIED):
            return False
        if event.kind is Kind.RECOVERING:
            return bool(event.data.get("is_overtaken"))
    return False


def leave_others_the_first_move(context: Context) -> Stop | None:
    """Before the first mutation after others drove the chain on: if they still do, theirs must
    have become visible.
    """
    if not was_overtaken(context) or context.is_settled(since := _since(context.journal.events)):
        return None
    left = context.settings.timing.settle_seconds - context.certain_since(since)
    message = "another controller drove this chain on; if it still does, that must become visible"
    return Stop(context.wait("settling", message, left))


def _since(events: Sequence[Event]) -> float:
    begins = (Kind.PUSH_INTENT, Kind.CHECKPOINT_VERIFIED)
    return next(event.age for event in reversed(events) if event.kind in begins)


def _own_pushes(context: Context, found: Survey) -> list[FoundPush]:
    """Return the pushes of this journal that landed after they were given up."""
    own = own_tokens(context)
    unknown = _unknown_pushes(context, found)
    return [push for push in unknown if push.parameters["token"] in own]


def _unknown_pushes(context: Context, found: Survey) -> list[FoundPush]:
    if context.state.pending:
        return []  # a checkpoint in hand comes first
    return found.pushes_after(context.state.kernel_version)


def _continues_here(context: Context, found: Survey, head: FoundVersion | None) -> bool:
    """Tell whether the account's chain is this journal's, and further along."""
    state = context.state
    if state.head:
        is_ours = head is not None and found.descends(head, state.head.checkpoint)
    else:
        own = own_tokens(context)
        is_ours = any(push.parameters["token"] in own for push in found.pushes)
    return is_ours and (_is_further(context, head) or _is_continued(context, found, head))


def _is_further(context: Context, head: FoundVersion | None) -> bool:
    state = context.state
    in_hand = state.pending.manifest_sha256 if state.pending else None
    return head is not None and head.session > state.heads and head.manifest.sha256 != in_hand


def _is_continued(context: Context, found: Survey, head: FoundVersion | None) -> bool:
    unknown = _unknown_pushes(context, found)
    return bool(unknown) and unknown[0].follows(head)


def _begin(context: Context, what: str, own: Sequence[FoundPush]) -> None:
    binding = context.state.binding
    assert binding is not None
    late = ", ".join(str(push.version) for push in reversed(own))
    context.journal.append(
        Kind.RECOVERING,
        message=f"kernel version {late} is a push of ours that came late"
        if own
        else f"{what} is further along than this journal, and continues it",
        is_overtaken=not own,
        **binding.to_body(),
    )
