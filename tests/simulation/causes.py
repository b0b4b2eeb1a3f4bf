"""What a storm may cost a chain: nothing is lost, halted or waited for without a cause."""

from collections import Counter
from collections.abc import Iterable, Mapping

from orchestrator.machine import Event, Kind
from tests.simulation.chain import KERNEL, Simulation
from tests.simulation.invariants import DAY_SECONDS, require
from tests.simulation.storm import KINDS, SESSIONS, TWISTS
from tests.simulation.truth import ever_recorded

_SPOILT_VERSIONS = frozenset(TWISTS["publish"])
_NEVER_ARRIVED = frozenset({"request lost", "odd answer without effect", "crash"})
_SPOILT_SESSIONS = frozenset(
    {
        *(kind.name for kind in KINDS if kind.spoils),
        *(name for name, _script in SESSIONS),
        *(twist for operation in ("push", "start", "end") for twist in TWISTS[operation]),
    }
)
# By a halt's code, of what one must have struck since the last such halt. Any other code is a
# halt for what no storm brings about.
CAUSES: Mapping[str, frozenset[str]] = {
    "failing_sessions": _SPOILT_SESSIONS,
    "failing_publications": _SPOILT_VERSIONS,
    "foreign_dataset": _SPOILT_VERSIONS,  # a first version that does not show whose it is
    "foreign_dataset_version": _SPOILT_VERSIONS | {"published by hand"},
    "foreign_kernel_version": frozenset({"pushed by hand"}),
    "public": frozenset({"dataset made public"}),
    "misplaced_push": frozenset({"land_elsewhere"}),
    "stuck_dataset": _SPOILT_VERSIONS,
    "unreadable": frozenset({"suspended"}),  # two reads that failed, and slept hours between them
    "unknown_publications": _NEVER_ARRIVED | {"hide_version"},
    "unknown_pushes": _NEVER_ARRIVED,
}
# From the storm's end: what was begun in it may have to be waited for, and then each session.
LEFTOVER_SECONDS = 2 * DAY_SECONDS
BESIDE_A_SESSION_SECONDS = 3 * 3600.0
WEEK_SECONDS = 7 * DAY_SECONDS


def check_halt(run: Simulation, before: dict[str, Counter[str]]) -> None:
    """What could bring about a halt has struck since the last one of its code, in `before`."""
    fired, code = run.plan.fired, run.state.halt_code or ""
    seen = before.get(code, Counter())
    has_struck = any(fired[name] > seen[name] for name in CAUSES.get(code, ()))
    require(has_struck, "I12", f"a needless halt: {code}: {run.state.halt_message}")
    before[code] = fired.copy()


def check_spent(run: Simulation) -> None:
    """Each push that landed brought a head, or something had struck it, its session or files."""
    landed = {push.token: push.version for push in run.host.pushes(KERNEL) if push.token}
    spoilt, versions = run.plan.spoilt | run.host.twisted, run.plan.bad_versions
    lost = _lost(ever_recorded(run))
    for token, why in lost.items():
        is_struck = token in spoilt or landed.get(token) in versions
        require(is_struck, "I6", f"a session was given up that nothing had struck: {why}")
    brought = run.state.heads + len(landed.keys() & lost)
    is_known = brought == len(landed) or run.lost  # what a lost laptop knew is known no more
    require(is_known, "I6", f"{len(landed)} sessions, of which {brought} counted")


def check_healed(run: Simulation) -> None:
    """After a storm the chain needs no longer than what was left to do."""
    if run.plan.over is None:
        return
    over_at, heads = run.plan.over
    longest = max(run.plan.lengths)
    each = longest + BESIDE_A_SESSION_SECONDS
    bound = LEFTOVER_SECONDS + (run.settings.chain.sessions - heads) * each
    if longest * run.settings.chain.sessions > run.host.gpu_seconds_a_week():
        bound += WEEK_SECONDS
    passed = run.clock.true_at - over_at
    days = f"{passed / DAY_SECONDS:.1f} days after the storm, {bound / DAY_SECONDS:.1f} allowed"
    require(passed <= bound, "I11", days)


def _lost(events: Iterable[Event]) -> dict[str, str]:
    """Why each push that was counted as fruitless brought nothing, by its token."""
    token, lost = "", {}
    for event in events:
        if event.kind is Kind.PUSH_INTENT:
            token = event.data["token"]
        elif event.kind is Kind.RECOVERED_LIVE:
            token = event.data["push"]["token"]
        elif event.kind is Kind.FRUITLESS:
            lost[token] = event.data["message"]
    return lost
