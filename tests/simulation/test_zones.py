"""Whatever the laptop takes for local time, the same events are written.

The zones are spelled out as rules, so that no table of the machine's is needed and the clocks
change while the chain runs; in these rules the sign is the other way round.
"""

import time

import pytest

from tests.simulation.clock import MONDAY_AT
from tests.simulation.schedules import events_of

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs a zone per process")

SEEDS = range(4)
HOUR = 3600
# The zone, and how far from UTC its clocks are when a chain begins and when it ends.
ZONES = {
    "fourteen hours ahead": ("EAST-14", 14, 14),
    "twelve hours behind": ("WEST+12", -12, -12),
    "forward to summer time": ("WINTER-1SUMMER,10/04:00,300", 1, 2),
    "back from summer time": ("WINTER-1SUMMER,300,10/04:00", 2, 1),
}


@pytest.fixture
def set_zone(monkeypatch):
    """Move this process to another zone; it comes home after the test."""

    def move(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def _hours_from_utc(at):
    return time.localtime(at).tm_gmtoff / HOUR


@pytest.mark.parametrize("name", ZONES)
def test_a_chain_writes_the_same_events_in_every_zone(set_zone, name):
    zone, begins, ends = ZONES[name]
    set_zone("UTC")
    usual = [events_of(seed) for seed in SEEDS]

    set_zone(zone)
    stories = [events_of(seed) for seed in SEEDS]

    for story in stories:
        last_at = MONDAY_AT + story[-1].age
        assert (_hours_from_utc(MONDAY_AT), _hours_from_utc(last_at)) == (begins, ends)
    assert stories == usual
