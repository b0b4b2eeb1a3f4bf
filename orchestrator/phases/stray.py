"""Pushes that landed elsewhere than they should: at another address, or behind somebody else's."""

from __future__ import annotations

from orchestrator import kernel
from orchestrator.kaggle.port import Gone, LandedBad, Unreadable
from orchestrator.machine import Kind, Push
from orchestrator.phases.adopt import own_tokens
from orchestrator.phases.context import NOT_OURS, Context, Stop, Wake


def halt_misplaced(context: Context, push: Push, answer: LandedBad) -> None:
    """A session runs where it cannot be watched: a person may end it, or it ends by itself."""
    context.halt(
        "misplaced_push",
        f"{answer.message}; what runs there cannot be watched, and nothing of it will be"
        " accepted. Look at it, and cancel it, on kaggle.com; --retry goes on with another"
        " attempt when it must have ended by itself",
        misplaced_token=push.token,
    )


def is_misplaced(context: Context, push: Push) -> bool:
    """Tell whether a halt said that this push was saved at another address."""
    return context.state.halt_facts.get("misplaced_token") == push.token


def misplaced(context: Context, push: Push) -> Wake:
    """Push nothing beside a session that may run elsewhere; when it is over, count it lost."""
    limit = push.time_budget_seconds + context.settings.timing.grace_seconds
    left = limit - context.certain_since(push.sent_age)
    if left > 0:
        message = "a session may run at another address, which ends by its limit"
        return context.wait("misplaced", message, left)
    context.fruitless("misplaced", "the session ran at another address")
    return None


def overtaken(context: Context, push: Push) -> Stop | None:
    """Look at versions that slipped in between the last look at the kernel and our push."""
    slug = context.settings.kernel_slug
    assert push.version is not None
    others, foreign = range(push.base_version + 1, push.version), []
    if not others:
        return None
    known = own_tokens(context)
    for version in others:
        found = context.kaggle.kernel(slug, version)
        what = f"kernel {slug} version {version}"
        if isinstance(found, Gone) and not context.is_settled(push.sent_age):
            return Stop(context.unreadable(what, found))
        if isinstance(found, Unreadable) and (stop := context.given_up(what, found, NOT_OURS)):
            return stop
        if isinstance(found, Gone | Unreadable) or not _is_ours(found.source, known):
            foreign.append(version)
    accepted = push.version - 1
    if foreign:
        numbers = ", ".join(map(str, foreign))
        context.halt(
            "foreign_kernel_version",
            f"kernel {slug} got version {numbers} just before version {push.version}, which is"
            " ours and runs: somebody else pushed. See on kaggle.com what it is, and cancel it if"
            " it is not wanted; run with --retry to go on watching our own",
            base_version=accepted,
        )
        return Stop(None)
    context.journal.append(Kind.PUSH_OVERTAKEN, base_version=accepted, versions=list(others))
    return None


def _is_ours(source: str, tokens: set[str]) -> bool:
    return any(kernel.carries(source, token) for token in tokens)
