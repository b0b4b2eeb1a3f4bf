"""LIVE: watch version N's session until it ends, or until it must have ended."""

from __future__ import annotations

from orchestrator.kaggle.port import Gone, Unreadable
from orchestrator.machine import Kind, Push
from orchestrator.model import SessionStatus
from orchestrator.phases import stray
from orchestrator.phases.context import Context, Wake

UNREADABLE_SECONDS = 86_400  # how long a status is asked for after its session must have ended


def live(context: Context) -> Wake:
    """LIVE: watch version N's session until Kaggle says that it ended."""
    push, slug = _push(context), context.settings.kernel_slug
    assert push.version is not None
    if stop := stray.overtaken(context, push):
        return stop.wake
    info = context.kaggle.session(slug, push.version)
    if isinstance(info, Gone) and _is_overdue(context, push):
        context.fruitless("gone", f"Kaggle no longer knows the session: {info.message}")
        return None
    if isinstance(info, Unreadable | Gone):
        return _unreadable(context, push, info)
    if info.status.is_terminal:
        context.journal.append(
            Kind.SESSION_ENDED, status=info.status.value, message=info.failure_message
        )
        return None
    if context.state.wait_reason:
        context.journal.append(Kind.SESSION_READABLE)  # what is counted next begins anew
    if info.status is SessionStatus.RUNNING and push.running_age is None:
        context.journal.append(Kind.SESSION_SEEN, status=info.status.value)
    return _overrun(context) or context.poll()


def _unreadable(context: Context, push: Push, answer: Unreadable | Gone) -> Wake:
    """Wait for a status; after all patience halt, and never push beside what may still run."""
    what = f"the session of {context.settings.kernel_slug} version {push.version}"
    state = context.state
    is_long = context.seconds_since(state.wait_since_age) > UNREADABLE_SECONDS
    if not (state.wait_reason and is_long and _is_overdue(context, push, UNREADABLE_SECONDS)):
        return context.unreadable(what, answer)
    context.halt(
        "unreadable",
        f"{what} could not be read for a day after it must have ended ({answer.message}); look at"
        " it on kaggle.com. When it can be read again, run with --retry",
    )
    return None


def _overrun(context: Context) -> Wake:
    """After the limit plus grace, doom the session; after as much again, stop waiting for it."""
    push, grace = _push(context), context.settings.timing.grace_seconds
    if push.running_age is None:
        return None
    late = context.certain_since(push.running_age) - push.time_budget_seconds
    if late > grace and push.doomed is None:
        context.journal.append(Kind.SESSION_OVERRUN, message="it ran past its limit")
    if late > 2 * grace:
        context.fruitless("overrun", "the session never ended by itself")
        return context.clock.now()
    return None


def _is_overdue(context: Context, push: Push, more_seconds: float = 0.0) -> bool:
    """Tell whether a session that started when it was pushed must have ended long ago."""
    started_age = push.sent_age if push.running_age is None else push.running_age
    limit = push.time_budget_seconds + context.settings.timing.grace_seconds
    return context.certain_since(started_age) > limit + more_seconds


def _push(context: Context) -> Push:
    assert context.state.push is not None
    return context.state.push
