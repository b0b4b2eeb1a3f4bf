"""From IDLE to a session on Kaggle: check that nothing has changed, and push once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator import kernel, quota
from orchestrator.kaggle.port import (
    Done,
    Gone,
    LandedBad,
    PushRequest,
    Refused,
    Unreadable,
)
from orchestrator.machine import Head, Kind, Push
from orchestrator.phases import preflight, stray
from orchestrator.phases.context import NOT_OURS, Context, Stop, Wake

AGREEING_READS = 3  # how often "not there" must be read before it is believed
FRESH_SECONDS = 5.0  # for which the quota is taken for what it was when it was read


def bind(context: Context) -> Wake:
    """UNBOUND: the first event ties the chain to endpoint, account and slugs, for ever."""
    owner = context.kaggle.identity()
    if isinstance(owner, Unreadable):
        return context.poll()
    context.journal.append(
        Kind.BOUND,
        endpoint=context.endpoint,
        owner=owner,
        kernel=context.settings.kernel_slug,
        dataset=context.settings.dataset_slug,
    )
    return None


def idle(context: Context) -> Wake:
    """IDLE: finish, halt or wait for quota; or write down the intent to push the next session."""
    for check in (_has_failed, _is_finished, _is_stopped):
        if stop := check(context):
            return stop.wake
    seconds = _session_seconds(context)
    if isinstance(seconds, Stop):
        return seconds.wake
    state, token = context.state, context.new_token()
    source = _render(context, token, seconds)
    context.journal.append(
        Kind.PUSH_INTENT,
        token=token,
        session=state.session,
        attempt=state.attempt,
        parent=state.parent.to_body() if state.parent else None,
        base_version=state.kernel_version,
        time_budget_seconds=seconds,
        source_sha256=kernel.source_sha256(source),
    )
    return None


def pushing(context: Context) -> Wake:
    """PUSHING: nothing has left yet. Look once more, say that it will leave, send it, once."""
    if context.files.is_stop_asked():
        return _withdraw(context, "a stop was asked for")
    for check in (preflight.kernel_is_ours, preflight.dataset_is_ours, _has_quota):
        if stop := check(context):
            return stop.wake
    push = _push(context)
    source = _render(context, push.token, push.time_budget_seconds)
    if kernel.source_sha256(source) != push.source_sha256:
        return _withdraw(context, "its notebook is not the one that was written down")
    request = PushRequest(
        kernel=context.settings.kernel_slug,
        title=context.settings.kernel_slug,
        source=source,
        dataset_sources=_dataset_sources(context),
        machine_shape=context.settings.accelerator.shape,
        enable_internet=context.settings.kernel.internet,
        session_timeout_seconds=push.time_budget_seconds,
    )
    context.journal.append(Kind.PUSH_SENT)
    answer = context.kaggle.push(request)
    if isinstance(answer, Done):
        context.journal.append(
            Kind.PUSH_DONE, version=answer.value.version, url=answer.value.url, adopted=False
        )
    elif isinstance(answer, Refused):
        context.refused(Kind.PUSH_REFUSED, answer)
    elif isinstance(answer, LandedBad):
        _landed_bad(context, answer)
    else:
        context.journal.append(Kind.PUSH_UNCLEAR, message=answer.message)
    return None


def _withdraw(context: Context, why: str) -> Wake:
    """Nothing was sent: begin anew, from what holds now."""
    context.journal.append(Kind.PUSH_WITHDRAWN, message=why)
    return None


def _has_quota(context: Context) -> Stop | None:
    """An intent may have waited for days: ask no longer session than there is quota left for."""
    push = _push(context)
    is_of_this_start = push.intent_age > context.state.boot_age
    if is_of_this_start and context.seconds_since(push.intent_age) < FRESH_SECONDS:
        return None
    seconds = _session_seconds(context)
    if isinstance(seconds, Stop):
        return seconds
    if seconds < push.time_budget_seconds:
        return Stop(_withdraw(context, f"the week's quota allows {seconds:,} seconds by now"))
    return None


def push_unknown(context: Context) -> Wake:
    """PUSH_UNKNOWN: find out by reading whether our push landed; never push again blindly."""
    push = _push(context)
    if stray.is_misplaced(context, push):
        return stray.misplaced(context, push)
    return _look_for(context, push)


def _look_for(context: Context, push: Push) -> Wake:
    slug = context.settings.kernel_slug
    newest = context.kaggle.kernel(slug)
    if isinstance(newest, Unreadable) or (isinstance(newest, Gone) and push.base_version):
        return context.missing(f"kernel {slug}", newest)
    current = 0 if isinstance(newest, Gone) else newest.current_version
    for version in range(push.base_version + 1, current + 1):
        found = context.kaggle.kernel(slug, version)
        if isinstance(found, Unreadable | Gone):
            what = f"kernel {slug} version {version}"
            if stop := context.given_up(what, found, NOT_OURS):
                return stop.wake
        elif kernel.carries(found.source, push.token):
            context.journal.append(Kind.PUSH_DONE, version=version, url="", adopted=True)
            return None
    if not context.is_settled(push.sent_age):
        return context.poll()
    if context.state.absent < AGREEING_READS:
        return context.absent(Kind.PUSH_ABSENT)
    context.journal.append(Kind.PUSH_GIVEN_UP, message="the push never became visible")
    return None


def _is_finished(context: Context) -> Stop | None:
    state, planned = context.state, context.settings.chain.sessions
    if state.head and state.head.checkpoint.training_complete:
        reason = "training is complete"
    elif state.heads >= planned:
        reason = f"all {planned} sessions are done"
    else:
        return None
    context.journal.append(Kind.FINISHED, reason=reason)
    return Stop(None)


def _is_stopped(context: Context) -> Stop | None:
    if not context.files.is_stop_asked():
        return None
    done, planned = context.state.heads, context.settings.chain.sessions
    reason = f"stopped as asked, with {done} of {planned} sessions done"
    context.journal.append(Kind.FINISHED, reason=reason)
    return Stop(None)


def _has_failed(context: Context) -> Stop | None:
    state = context.state
    if state.head and _diverged(state.halt_facts, state.head):
        context.halt(
            "nonfinite_loss",
            f"the loss was not finite after step {state.head.checkpoint.step}; lower the"
            " learning rate, then run with --retry to go on from the last good checkpoint",
            step=state.head.checkpoint.step,
        )
    elif context.has_failed():
        context.halt(
            "failing_sessions",
            f"session {state.session} failed {state.fruitless} times, last with"
            f" {state.last_failure}; see `kchain logs`, mend the cause, then run with --retry",
        )
    elif state.unknown_pushes >= context.settings.chain.max_attempts:
        context.halt(
            "unknown_pushes",
            f"{state.unknown_pushes} pushes in a row were sent and never became visible; look on"
            f" kaggle.com at kernel {context.settings.kernel_slug} and at what runs there, then"
            " run with --retry",
        )
    else:
        return None
    return Stop(None)


def _diverged(last_halt: Mapping[str, Any], head: Head) -> bool:
    """Tell whether the head ends in a loss that is not finite and that no person has seen yet."""
    seen = (last_halt.get("code"), last_halt.get("step"))
    is_seen = seen == ("nonfinite_loss", head.checkpoint.step)
    return head.checkpoint.reason == "nonfinite_loss" and not is_seen


def _session_seconds(context: Context) -> int | Stop:
    """Return the session's length in seconds; stop and wait if the week's quota is too small."""
    budget = context.settings.kernel.time_budget_seconds
    if context.settings.accelerator.shape is None:
        return budget
    left = context.kaggle.quota()
    if isinstance(left, Unreadable):
        return Stop(context.unreadable("the accelerator quota", left))
    seconds = quota.session_seconds(left, budget)
    if seconds is not None:
        return seconds
    now = context.clock.now()
    hours = left.remaining_seconds / 3600
    message = f"{hours:.1f} GPU hours are left this week; it goes on when the quota refreshes"
    return Stop(context.wait("quota", message, (left.refresh_at or now + 3600) - now + 60))


def _render(context: Context, token: str, seconds: int) -> str:
    """Return the notebook for the next session; equal arguments give equal text."""
    parameters = kernel.session_parameters(
        context.settings, context.state, token=token, seconds=seconds
    )
    return kernel.render(parameters, context.template)


def _dataset_sources(context: Context) -> tuple[str, ...]:
    binding = context.state.binding
    assert binding is not None
    return (f"{binding.owner}/{binding.dataset}",) if context.state.head else ()


def _landed_bad(context: Context, answer: LandedBad) -> None:
    """A session runs that must not count; without a version it cannot even be watched."""
    if answer.version is None:
        stray.halt_misplaced(context, _push(context), answer)
    else:
        context.journal.append(Kind.PUSH_LANDED_BAD, version=answer.version, message=answer.message)


def _push(context: Context) -> Push:
    assert context.state.push is not None
    return context.state.push
