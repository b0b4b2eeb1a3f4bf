"""Every fault of the catalogue is shown by something that exists and that really strikes."""

from dataclasses import replace

import pytest

from docs.facts import where_tests_are
from tests.faults import page
from tests.faults.row import CRASH, ONE_FAULT
from tests.simulation.schedules import YEAR_SECONDS, Tally, cores, now, run_many
from tests.simulation.storm import names

PLACES = where_tests_are()
KINDS = {*names(), CRASH}
OFTEN = 100


def test_every_row_is_shown_by_a_storm_or_a_test_that_exists():
    assert page.complaints(page.ROWS, PLACES, KINDS) == []
    assert len({row.fault for row in page.ROWS}) == len(page.ROWS) > 80


def test_everything_that_storms_strike_with_is_in_the_catalogue():
    assert {kind for row in page.ROWS for kind in row.kinds} == KINDS


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kinds": (), "tests": ()}, "nothing shows"),
        ({"tests": ("test_that_was_renamed",)}, "no such test"),
        ({"tests": (f"{ONE_FAULT}[bad luck]",)}, "no such test"),
        ({"kinds": ("bad luck",)}, "no such kind"),
    ],
)
def test_a_row_that_shows_nothing_is_noticed(change, complaint):
    [found] = page.complaints([replace(page.ROWS[0], **change)], PLACES, KINDS)

    assert found.startswith(complaint)


def test_the_page_is_what_the_catalogue_says_with_the_last_counts():
    counts, counted = page.read()

    assert page.PAGE.read_text(encoding="utf-8") == page.render(counts, counted), "run `make docs`"
    assert counted != page.NEVER
    assert min(counts[kind] for kind in KINDS) >= OFTEN


@pytest.mark.prove
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("storms", [20_000, 200_000])
def test_everything_strikes_often_in_many_storms_and_breaks_nothing(proven, storms):
    began, tally = now(), Tally()
    for part in run_many(0, storms, cores()):
        tally.add(part)

    assert not tally.failures
    assert min(tally.faults[kind] for kind in names()) >= OFTEN
    assert tally.crashes > OFTEN
    page.enter(tally)
    proven(
        f"{storms:,} storms, seeds from 0, each to its target",
        f"0 failed; {sum(tally.faults.values()):,} faults, {tally.crashes:,} crashes,"
        f" {tally.seconds / YEAR_SECONDS:.1f} simulated years; checkpoints lost: 0 in"
        f" {tally.heads:,} heads; sessions started twice: 0 in {tally.pushes:,} pushes,"
        f" {tally.lost_answers:,} answers lost; versions duplicated, unverified published: 0 in"
        f" {tally.versions:,}; {(now() - began) / 60:.1f} minutes, {storms / tally.cpu_seconds:.1f}"
        " storms per second of a core",
    )
