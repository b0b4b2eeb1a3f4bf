"""How long the next session may be, by the week's accelerator quota."""

from __future__ import annotations

from orchestrator.model import Quota

# Below this a GPU session cannot start, resume, save and end: not worth a push.
SHORTEST_SESSION_SECONDS = 1800


def session_seconds(quota: Quota, budget_seconds: int) -> int | None:
    """Return the length of the next session in seconds, None if the quota is too small for one."""
    if quota.total_seconds <= 0:
        return None
    seconds = min(budget_seconds, int(quota.remaining_seconds))
    return seconds if seconds >= min(SHORTEST_SESSION_SECONDS, budget_seconds) else None
