import re
from collections import Counter

import pytest

from tests.mutation import ROOT, is_caught
from tests.simulation.mutants import PROTECTIONS
from tests.simulation.naive import INVARIANTS, violations
from tests.simulation.protections import PAGE, STORMS, catch, render_page
from tests.simulation.schedules import cores, run_many

SAMPLE = PROTECTIONS[:: len(PROTECTIONS) // 3][:3]
LEAST = 30  # protections that a named invariant must catch
NAIVE = 2_000  # seeds


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda protection: protection.rule)
def test_every_mutant_fits_the_code(protection):
    assert protection.fits()


def test_most_protections_are_caught_by_a_named_invariant():
    named = [each for each in PROTECTIONS if each.invariants]

    assert len(named) >= LEAST
    assert len({each.rule for each in PROTECTIONS}) == len(PROTECTIONS)
    assert all(each.invariants or each.test != STORMS for each in PROTECTIONS)


def test_the_page_lists_every_protection():
    rows = re.findall(r"^\| (.*?) \| (.*?) \|", (ROOT / PAGE).read_text(), re.MULTILINE)

    assert [rule for rule, _invariant in rows[2:]] == [each.rule for each in PROTECTIONS]


@pytest.mark.parametrize("protection", SAMPLE, ids=lambda protection: protection.rule)
def test_a_protection_is_missed_when_it_is_removed(protection, tmp_path):
    assert protection.accepts(catch(protection, protection.test, tmp_path))


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_every_protection_is_missed_when_it_is_removed(tmp_path, proven):
    catches = {
        each: catch(each, each.test, tmp_path / str(number))
        for number, each in enumerate(PROTECTIONS)
    }
    survivors = [each.rule for each, found in catches.items() if not each.accepts(found)]
    assert survivors == []
    directed = {each.test for each in PROTECTIONS} - {STORMS}
    for number, test in enumerate(sorted(directed)):
        assert not is_caught(None, test, tmp_path / f"sound-{number}"), test
    assert catch(None, STORMS, tmp_path / "storms") is None

    (ROOT / PAGE).write_text(render_page(catches), encoding="utf-8")
    named = Counter(found.invariant for each, found in catches.items() if each.invariants)
    by = ", ".join(f"{name} {named[name]}" for name in sorted(named, key=lambda n: int(n[1:])))
    count = len(PROTECTIONS)
    proven(
        "Protections of the engine removed one at a time",
        f"{count} of {count} caught: {named.total()} by a named invariant ({by}),"
        f" {count - named.total()} by a named test",
    )


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_the_loop_that_people_write_first_breaks_where_ours_does_not(proven):
    counted, broken = Counter(), 0
    for seed in range(NAIVE):
        found = violations(seed)
        counted += found
        broken += found.total() > 0
    failures = [each for part in run_many(0, NAIVE, cores()) for each in part.failures]

    assert failures == []
    assert broken > NAIVE / 2
    assert counted.keys() <= INVARIANTS.keys()
    told = ", ".join(f"{name} {what} {counted[what]:,}" for what, name in INVARIANTS.items())
    proven(
        f"The loop that people write first, in the same {NAIVE:,} storms",
        f"it broke an invariant in {broken:,} of them: {told}; kchain broke one in 0 of {NAIVE:,}",
    )
