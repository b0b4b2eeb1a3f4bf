"""How long a session may be, by what is left of the week's quota."""

import pytest

from orchestrator.model import Quota
from orchestrator.quota import SHORTEST_SESSION_SECONDS, session_seconds

HOUR = 3600


def week(used=0.0, reserved=0.0, total=30.0 * HOUR):
    return Quota(used, reserved, total, refresh_at=None)


@pytest.mark.parametrize(
    ("quota", "budget", "seconds"),
    [
        (week(), 41_400, 41_400),
        (week(used=20 * HOUR), 41_400, 10 * HOUR),
        (week(used=20 * HOUR, reserved=9 * HOUR), 41_400, HOUR),
        (week(used=29.5 * HOUR), 41_400, SHORTEST_SESSION_SECONDS),
        (week(used=29.5 * HOUR + 1), 41_400, None),
        (week(used=30 * HOUR), 41_400, None),
        (week(used=31 * HOUR), 41_400, None),
        (week(used=29.9 * HOUR), 300, 300),  # asked for less than the shortest: its own limit
        (week(used=30 * HOUR - 299), 300, None),
        (week(total=0.0), 41_400, None),
    ],
)
def test_a_session_is_as_long_as_budget_and_quota_allow_or_not_at_all(quota, budget, seconds):
    assert session_seconds(quota, budget) == seconds


def test_what_is_left_is_never_negative():
    assert week(used=31 * HOUR).remaining_seconds == 0.0
    assert week(used=10 * HOUR, reserved=5 * HOUR).remaining_seconds == 15 * HOUR
