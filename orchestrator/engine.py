"""The engine: one tick makes all the progress that is possible without waiting.

It never sleeps. `run` sleeps between ticks, `kchain tick` exits between them, and a crash
between any two lines is the same to it as either: the journal tells where to go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from orchestrator.clock import Clock
from orchestrator.config import Settings
from orchestrator.errors import ConfigError
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle.port import Kaggle
from orchestrator.kernel import Template
from orchestrator.machine import TERMINAL, Kind, Phase, State
from orchestrator.phases import account, collect, launch, publish, watch
from orchestrator.phases import recover as recovery
from orchestrator.phases.context import HEARTBEAT_SECONDS, Context, Wake

STEPS: dict[Phase, Callable[[Context], Wake]] = {
    Phase.UNBOUND: launch.bind,
    Phase.RECOVERING: recovery.recovering,
    Phase.IDLE: launch.idle,
    Phase.PUSHING: launch.pushing,
    Phase.PUSH_UNKNOWN: launch.push_unknown,
    Phase.LIVE: watch.live,
    Phase.ENDED: collect.ended,
    Phase.VERIFIED: publish.verified,
    Phase.PUBLISHING: publish.publishing,
    Phase.PUBLISH_UNKNOWN: publish.publish_unknown,
    Phase.PUBLISHED: publish.published,
}

BEFORE_A_PUSH = frozenset({Phase.IDLE, Phase.PUSHING})  # where nothing runs, nothing is half done


def tick(  # noqa: PLR0913 - the engine's seam: every part of the world it may touch
    settings: Settings,
    journal: Journal,
    kaggle: Kaggle,
    files: Files,
    clock: Clock,
    rng: random.Random,
    *,
    endpoint: str,
    template: Template = None,
) -> float | None:
    """Go on until the chain is done, halted or has to wait.

    Returns:
        The Unix time at which the next tick makes sense; None when the chain is done or halted.

    Raises:
        ConfigError: the configuration points elsewhere than where this chain is bound to.
        JournalConflict: another controller is driving the same chain.
    """
    context = Context(settings, template, endpoint, journal, kaggle, files, clock, rng)
    _check_binding(context)
    _reopen(context)
    return _go_on(context, lambda: journal.state.phase not in TERMINAL)


def recover(  # noqa: PLR0913 - the engine's seam, as above
    settings: Settings,
    journal: Journal,
    kaggle: Kaggle,
    files: Files,
    clock: Clock,
    rng: random.Random,
    *,
    endpoint: str,
) -> float | None:
    """Rebuild a lost journal from what Kaggle holds of the chain, and change nothing there.

    Returns:
        The Unix time at which to call again; None when the journal is rebuilt, or halted.

    Raises:
        ConfigError: the journal is in use, or nothing of the chain is on the account.
        NotNow: Kaggle cannot be read.
    """
    context = Context(settings, None, endpoint, journal, kaggle, files, clock, rng)
    _check_binding(context)
    if journal.state.phase is not Phase.RECOVERING:
        recovery.begin(context)
    return _go_on(context, lambda: journal.state.phase is Phase.RECOVERING)


def _go_on(context: Context, is_due: Callable[[], bool]) -> float | None:
    """Take one step after the other; return when to look again, None when none is due."""
    journal, clock = context.journal, context.clock
    if journal.is_restarted and is_due():
        journal.append(Kind.RESTARTED)  # from here on, passed time is certain again
    is_account_known = False
    while is_due():
        state = journal.state
        # A wait holds for an hour, then its reason is looked at again: it may be mended.
        until_age = min(state.wait_until_age, state.age + HEARTBEAT_SECONDS)
        if state.wait_reason and journal.age < until_age and not _may_stop(context):
            return clock.now() + state.wait_until_age - journal.age
        if state.binding and not is_account_known and not _may_stop(context):
            if (ask_again := account.is_not_known(context)) is not None:
                return ask_again
            is_account_known = True
        wake = STEPS[state.phase](context)
        if wake is not None and wake > clock.now():
            return wake
        assert wake is not None or journal.state.seq > state.seq, f"no progress in {state.phase}"
    return None


def _may_stop(context: Context) -> bool:
    """Tell whether a wait is for a push that nobody wants any more."""
    return context.state.phase in BEFORE_A_PUSH and context.files.is_stop_asked()


def retry(journal: Journal) -> State:
    """Let a halted chain go on from where it halted; a chain that is not halted is left alone."""
    if journal.state.phase is Phase.HALTED:
        return journal.append(Kind.RETRIED)
    return journal.state


def _reopen(context: Context) -> None:
    """A finished chain goes on when more sessions are asked for than it has."""
    state = context.state
    complete = state.head is not None and state.head.checkpoint.training_complete
    wanted = state.heads < context.settings.chain.sessions
    if state.phase is Phase.DONE and wanted and not complete and not context.files.is_stop_asked():
        context.journal.append(Kind.REOPENED)


def _check_binding(context: Context) -> None:
    binding = context.state.binding
    if binding is None:
        return
    settings = context.settings
    for name, bound, asked in (
        ("endpoint", binding.endpoint, context.endpoint),
        ("kernel", binding.kernel, settings.kernel_slug),
        ("dataset", binding.dataset, settings.dataset_slug),
    ):
        if bound != asked:
            raise ConfigError(
                f"chain {settings.chain.name!r} is bound to {name} {bound}, not {asked};"
                " give a new chain its own name"
            )
