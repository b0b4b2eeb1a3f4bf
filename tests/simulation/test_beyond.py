"""Beyond the assumptions a session may be wasted; a head is still never lost, and never twice."""

import pytest

from tests.simulation.beyond import check_beyond, draw_beyond, wasted_sessions

SEEDS = 100
MANY_SEEDS = 5_000


def test_late_landings_waste_sessions_and_never_break_the_line_of_heads():
    late, wasted = _storms(range(SEEDS))

    assert late > SEEDS / 2
    assert wasted > SEEDS / 4  # otherwise these would be worlds like any other


@pytest.mark.prove
def test_thousands_of_late_landings_never_break_the_line_of_heads(proven):
    late, wasted = _storms(range(MANY_SEEDS))

    proven(
        f"{MANY_SEEDS:,} storms beyond the assumptions: requests land or show after hours",
        f"{late:,} landed late, {wasted:,} sessions wasted; heads lost, doubled or off course: 0",
    )


def _storms(seeds):
    late = wasted = 0
    for seed in seeds:
        with draw_beyond(seed) as run:
            check_beyond(run)
            late += run.plan.landed["late"]
            wasted += wasted_sessions(run)
    return late, wasted
