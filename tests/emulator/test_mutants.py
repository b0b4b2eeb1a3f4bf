import pytest

from tests.emulator.mutants import MUTANTS
from tests.mutation import is_caught


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_every_mutant_fits_the_code(mutant):
    assert mutant.fits()
    assert mutant.old != mutant.new


@pytest.mark.prove
def test_removing_any_rule_of_the_world_fails_its_test(tmp_path, proven):
    survivors = []
    for index, mutant in enumerate(MUTANTS):
        if not is_caught(mutant, mutant.test, tmp_path / str(index)):
            survivors.append(mutant.rule)
    for index, test in enumerate(sorted({mutant.test for mutant in MUTANTS})):
        assert not is_caught(None, test, tmp_path / f"sound-{index}"), test

    proven(
        "Rules of local Kaggle's world removed one at a time, caught by the named test",
        f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)}",
    )
    assert not survivors
