"""Weekly accelerator quota: what sessions have used, and what follows from it. No I/O, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from orchestrator.emulator.records import Accelerator, Quota, Session
from orchestrator.emulator.settings import Settings

WEEK_SECONDS = 7 * 86400
_FIRST_SATURDAY_AT = 2 * 86400  # 1970-01-03 00:00 UTC


def week_start(now: float) -> float:
    """The last Saturday 00:00 UTC, when quotas were last reset."""
    return now - (now - _FIRST_SATURDAY_AT) % WEEK_SECONDS


def refresh_at(now: float) -> float:
    return week_start(now) + WEEK_SECONDS


class Meter:
    """Bills each session its wall clock, once, to the weeks in which it ran."""

    def __init__(self) -> None:
        self._billed: defaultdict[tuple[Accelerator, float], float] = defaultdict(float)
        self._ever: set[Accelerator] = set()

    def start(self, accelerator: Accelerator) -> None:
        self._ever.add(accelerator)

    def end(self, session: Session, ended_at: float) -> None:
        """Bill a session that has started and now ended."""
        if session.started_at is None:
            return
        for week, seconds in _by_week(session.started_at, ended_at):
            self._billed[session.accelerator, week] += seconds

    def measure(
        self, accelerator: Accelerator, running: Iterable[Session], settings: Settings, now: float
    ) -> Quota:
        """What `accelerator` has used and reserved this week; `running` sessions accrue."""
        since = week_start(now)
        total = total_seconds(settings, accelerator)
        used = self._billed.get((accelerator, since), 0.0)
        reserved = 0.0
        for session in running:
            if session.accelerator is accelerator and session.started_at is not None:
                used += max(0.0, now - max(session.started_at, since))
                reserved += max(0.0, session.started_at + session.limit_seconds - now)
        reserved = min(reserved, max(0.0, total - used))
        return Quota(used, reserved, total, accelerator in self._ever)


def _by_week(start: float, end: float) -> Iterator[tuple[float, float]]:
    while start < end:
        week = week_start(start)
        until = min(end, week + WEEK_SECONDS)
        yield week, until - start
        start = until


def total_seconds(settings: Settings, accelerator: Accelerator) -> float:
    if accelerator is Accelerator.GPU:
        return settings.gpu_quota_seconds
    return settings.tpu_quota_seconds


def refusal_text(quota: Quota, accelerator: Accelerator) -> str | None:
    """Why a push for `accelerator` is refused now, if it is."""
    if quota.used_seconds < quota.total_seconds:
        return None
    hours = quota.total_seconds / 3600
    return f"Maximum weekly {accelerator} quota of {hours:.2f} hours reached."


def session_limit_seconds(
    requested_seconds: float, accelerator: Accelerator, settings: Settings, quota: Quota
) -> float:
    """How long a session that starts now may run: asked for, platform's cap, what is left."""
    cap = {
        Accelerator.CPU: settings.cpu_session_seconds,
        Accelerator.GPU: settings.gpu_session_seconds,
        Accelerator.TPU: settings.tpu_session_seconds,
    }[accelerator]
    limit = min(requested_seconds, cap) if requested_seconds > 0 else cap
    if accelerator is Accelerator.CPU:
        return limit
    return min(limit, max(0.0, quota.total_seconds - quota.used_seconds))
