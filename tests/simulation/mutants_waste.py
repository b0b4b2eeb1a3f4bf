"""Protections against waste: sessions thrown away, halts and waits that nothing brought about."""

from tests.mutation import Edit
from tests.simulation.protections import Protection

_LAUNCH = "orchestrator/phases/launch.py"
_PREFLIGHT = "orchestrator/phases/preflight.py"
_COLLECT = "orchestrator/phases/collect.py"
_PUBLISH = "orchestrator/phases/publish.py"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_SETTLED = "    if not context.is_settled(push.ended_age):\n        return False"
_UNSETTLED = "    if not context.is_settled(push.ended_age):\n        return "

WASTE = [
    Protection(
        "what is not listed minutes after a session's end may still come",
        _COLLECT,
        _SETTLED,
        _SETTLED.replace("if not", "if not listed and not"),
        also=(
            Edit(_COLLECT, f"{_UNSETTLED}context.poll()", f"{_UNSETTLED}context.clock.now() + 30"),
        ),
        invariants=("I6",),
    ),
    Protection(
        "a session that ended badly counts by what it saved",
        _COLLECT,
        "    if push.doomed:\n",
        '    if push.end_status != "complete":\n'
        '        return _fruitless(context, "rejected", "it did not complete")\n'
        "    if push.doomed:\n",
        invariants=("I6",),
    ),
    Protection(
        "a read that fails before a push halts nothing",
        _PREFLIGHT,
        "    if isinstance(info, Unreadable) or (isinstance(info, Gone) and known):\n",
        "    if isinstance(info, Unreadable):\n"
        '        context.halt("public", f"kernel {slug} cannot be read")\n'
        "        return Stop(None)\n"
        "    if isinstance(info, Gone) and known:\n",
        invariants=("I12",),
    ),
    Protection(
        "a session is worth its push only if it can start, save and end",
        "orchestrator/quota.py",
        "return seconds if seconds >= min(SHORTEST_SESSION_SECONDS, budget_seconds) else None",
        "return seconds or None",
        _SESSIONS + "what_is_left_of_a_quota_is_not_spent_on_a_session_that_cannot_save",
        invariants=("I6",),
    ),
    Protection(
        "the settle window is kept before every push, not only before the first ones",
        _LAUNCH,
        "if not context.is_settled(push.sent_age):",
        "if context.state.heads < 3 and not context.is_settled(push.sent_age):",
        invariants=("I1", "I6", "I9"),
    ),
    Protection(
        "the settle window is kept before every publication, not only before the first ones",
        _PUBLISH,
        "if not context.is_settled(publication.sent_age, patience):",
        "if context.state.heads < 3 and not context.is_settled(publication.sent_age, patience):",
        invariants=("I2",),
    ),
    Protection(
        "SENT is written before every push, not only before the first ones",
        _LAUNCH,
        "    context.journal.append(Kind.PUSH_SENT)\n    answer = context.kaggle.push(request)\n",
        "    is_late = context.state.heads >= 3\n"
        "    if not is_late:\n        context.journal.append(Kind.PUSH_SENT)\n"
        "    answer = context.kaggle.push(request)\n"
        "    if is_late:\n        context.journal.append(Kind.PUSH_SENT)\n",
        invariants=("I8",),
    ),
]
