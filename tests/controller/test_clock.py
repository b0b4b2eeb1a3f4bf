"""How much time has passed, whatever the wall clock was set to meanwhile."""

import pytest

from orchestrator.clock import Moment, SystemClock
from orchestrator.journal import Journal
from orchestrator.machine import Kind

DAY, YEAR = 86_400.0, 365 * 86_400.0


@pytest.mark.parametrize(
    ("later", "passed"),
    [
        (Moment(160.0, "boot", 70.0), 60.0),
        (Moment(100.0 + YEAR, "boot", 70.0), 60.0),  # set ahead meanwhile
        (Moment(100.0 - DAY, "boot", 70.0), 60.0),  # set back
        (Moment(160.0, "other", 3.0), 60.0),  # started anew: only the wall clock can tell
        (Moment(90.0, "other", 3.0), 0.0),
        (Moment(160.0, "boot", 9.0), 0.0),
    ],
)
def test_passed_time_is_the_steady_clocks_within_one_boot(later, passed):
    assert later.seconds_since(Moment(100.0, "boot", 10.0)) == passed


def test_two_machines_that_do_not_know_their_boot_go_by_the_wall_clock():
    assert Moment(160.0, "", 9.0).seconds_since(Moment(100.0, "", 10.0)) == 60.0


def test_where_a_boot_has_no_name_its_steady_clock_tells_as_long_as_it_goes_on():
    first, wrong, again = Moment(100.0, "", 10.0), Moment(YEAR, "", 70.0), Moment(160.0, "", 9.0)

    assert wrong.seconds_since(first) == 60.0
    assert wrong.is_same_boot(first)
    assert not again.is_same_boot(first)


def test_the_systems_steady_clock_goes_on():
    clock = SystemClock()
    first, second = clock.moment(), clock.moment()

    assert second.boot_id == first.boot_id
    assert 0.0 <= second.seconds_since(first) < 60.0
    assert abs(first.at - clock.now()) < 60.0


class _Clock:
    def __init__(self):
        self.here = Moment(1000.0, "first", 5.0)

    def moment(self):
        return self.here


def test_a_chain_ages_by_passed_time_and_a_reopened_journal_agrees(tmp_path):
    clock = _Clock()
    body = {"reason": "rate", "message": "later", "until": 0.0}
    bound = {"endpoint": "e", "owner": "o", "kernel": "k", "dataset": "d"}
    moments = [
        (Moment(1000.0, "first", 5.0), 0.0),
        (Moment(1000.0 + YEAR, "first", 65.0), 60.0),
        (Moment(1100.0, "first", 105.0), 100.0),
        (Moment(1150.0, "second", 1.0), 150.0),
        (Moment(1000.0, "second", 11.0), 160.0),
    ]
    with Journal(tmp_path / "journal.db", "demo", clock) as journal:
        assert journal.age == 0.0
        for number, (moment, age) in enumerate(moments):
            clock.here = moment
            assert journal.age == age
            kind, data = (Kind.WAITING, body) if number else (Kind.BOUND, bound)
            assert journal.append(kind, **data).age == age
        events = journal.events

    with Journal(tmp_path / "journal.db", "demo", clock) as journal:
        assert journal.events == events
        assert [event.boot_age for event in events] == [0.0, 0.0, 0.0, 150.0, 150.0]
        assert not journal.is_restarted
        clock.here = Moment(1000.0 + YEAR, "third", 1.0)
        assert journal.is_restarted
        assert [event.at for event in events] == [moment.at for moment, _ in moments]
