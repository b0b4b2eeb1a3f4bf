"""A protection of the engine, and what breaks when it is removed from a copy of the code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import Mutant, has_test, run, run_test

PAGE = "docs/mutants.md"
STORMS = "storms"
SEEDS = 600  # storms that a protection may take to be missed


@dataclass(frozen=True)
class Protection(Mutant):
    """A rule of the engine; `test` may be the storms, of which one must break an invariant."""

    test: str = STORMS
    invariants: tuple[str, ...] = ()  # one of which is the first to break

    def fits(self) -> bool:
        is_there = self.test == STORMS or has_test(self.test)
        return is_there and all(edit.fits() for edit in self.edits)

    def accepts(self, found: "Catch | None") -> bool:
        """Whether what was found is what this protection is there for."""
        return found is not None and (found.invariant in self.invariants or not self.invariants)


@dataclass(frozen=True)
class Catch:
    """What noticed that a protection was missing."""

    invariant: str  # "" if a test failed with none
    where: str
    message: str


def catch(
    protection: Protection | None, test: str, folder: Path, seeds: int = SEEDS
) -> Catch | None:
    """Run the engine without a protection until an invariant breaks; None if none does."""
    if test == STORMS:
        storms = ["tests.simulation", "--seeds", str(seeds), "--processes", "1", "--until-failure"]
        done = run(protection, storms, folder)
        found = re.search(r"^seed (\d+) failed: (?:Violation: (I\d+): )?(.*)", done.stdout, re.M)
        return found and Catch(found[2] or "", f"seed {found[1]}", found[3])
    done = run_test(protection, test, folder)
    found = re.search(r"^E +(?:\S*Violation: (I\d+): )?(.*)", done.stdout, re.M)
    return found and Catch(found[1] or "", test.partition("::")[2], found[2])


PAGE_HEAD = """\
# Mutants

Made by `make prove` from `tests/simulation/mutants*.py`: each protection of the engine is removed from a copy of the code, alone, and the copy is run until something breaks.
What breaks first must be the invariant that the protection is there for; `tests/simulation/invariants.py` says what I1 to I12 are.
A seed is that of the storm that shows it, `make simulate SEEDS=1 FIRST=SEED` on the mutated copy; the rest are tests.

| protection | invariant | shown by |
| --- | --- | --- |
"""


def render_page(catches: Mapping[Protection, Catch | None]) -> str:
    """Return docs/mutants.md."""
    rows = [
        f"| {each.rule} | {(found and each.invariants and found.invariant) or '-'} |"
        f" {found and (found.where if each.test == STORMS else f'`{each.test}`')} |\n"
        for each, found in catches.items()
    ]
    return PAGE_HEAD + "".join(rows)
