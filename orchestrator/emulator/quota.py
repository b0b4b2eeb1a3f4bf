"""Weekly accelerator quota: pure functions over sessions."""

from collections.abc import Iterable

from orchestrator.emulator.records import Accelerator, Quota, Session
from orchestrator.emulator.settings import Settings

WEEK_SECONDS = 7 * 86400
_FIRST_SATURDAY_AT = 2 * 86400  # 1970-01-03 00:00 UTC


def week_start(now: float) -> float:
    """The last Saturday 00:00 UTC, when quotas were last reset."""
    return now - (now - _FIRST_SATURDAY_AT) % WEEK_SECONDS


def refresh_at(now: float) -> float:
    return week_start(now) + WEEK_SECONDS


def total_seconds(settings: Settings, accelerator: Accelerator) -> float:
    if accelerator is Accelerator.GPU:
        return settings.gpu_quota_seconds
    return settings.tpu_quota_seconds


def measure(
    sessions: Iterable[Session], accelerator: Accelerator, settings: Settings, now: float
) -> Quota:
    """What `accelerator` has used and reserved this week; each session bills its wall clock once."""
    since = week_start(now)
    total = total_seconds(settings, accelerator)
    used = reserved = 0.0
    ever = False
    for session in sessions:
        if session.accelerator is not accelerator:
            continue
        ever = ever or session.started_at is not None
        used += session.used_seconds(since, now)
        reserved += session.reserved_seconds(now)
    return Quota(used, min(reserved, max(0.0, total - used)), total, ever)


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
