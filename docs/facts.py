"""The table of facts in docs/local-kaggle.md: `python docs/facts.py` counts its rows.

`make docs` writes the counts into the page and follows tests that moved to another file.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "local-kaggle.md"
BEGIN, END = "<!-- facts -->", "<!-- end of facts -->"
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
_COUNT = re.compile(r"^Of \d+ facts, .*$", re.MULTILINE)


@dataclass(frozen=True)
class Fact:
    """One row; `tests` are (file below tests/, name)."""

    section: str
    fact: str
    confidence: str
    here: str
    tests: tuple[tuple[str, str], ...]

    @property
    def is_imitated(self) -> bool:
        return not self.here.startswith("no:")

    @property
    def reason(self) -> str:
        return self.here.removeprefix("no:").strip()


def read_facts(text: str) -> list[Fact]:
    """Every row of the page's table, in order."""
    facts, section = [], ""
    for line in _inside(text).splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        elif line.startswith("| ") and not line.startswith(("| Fact ", "| --- ")):
            fact, confidence, here, tests = (cell.strip() for cell in line[1:-1].split("|"))
            facts.append(Fact(section, fact, confidence, here, tuple(_TEST.findall(tests))))
    return facts


def where_tests_are(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """The files below `tests` that have a test of each name."""
    found = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE):
            found[name].append(path.relative_to(tests).as_posix())
    return found


def complaints(facts: list[Fact], places: dict[str, list[str]]) -> list[str]:
    """What is wrong with rows: no test, a test that is not there, no reason, no confidence."""
    wrong = []
    for fact in facts:
        if fact.is_imitated and not fact.tests:
            wrong.append(f"no test: {fact.fact}")
        if not fact.is_imitated and len(fact.reason) < 10:
            wrong.append(f"no reason: {fact.fact}")
        if fact.confidence not in ("high", "medium", "low"):
            wrong.append(f"no confidence: {fact.fact}")
        for path, name in fact.tests:
            if path not in places.get(name, ()):
                wrong.append(f"no such test as {path}::{name}: {fact.fact}")
    return wrong


def count_line(facts: list[Fact]) -> str:
    imitated = sum(fact.is_imitated for fact in facts)
    return f"Of {len(facts)} facts, {imitated} are imitated and {len(facts) - imitated} are not."


def render_page() -> str:
    """The page with its counts and the paths of its tests as they are now."""
    places = where_tests_are()

    def follow(test: re.Match[str]) -> str:
        path, name = test.groups()
        now = places.get(name, [path])
        return f"`{path if path in now else now[0]}::{name}`"

    text = PAGE.read_text()
    text = text.replace(_inside(text), _TEST.sub(follow, _inside(text)))
    return _COUNT.sub(count_line(read_facts(text)), text)


def _inside(text: str) -> str:
    return text.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    facts = read_facts(PAGE.read_text())
    for section in dict.fromkeys(fact.section for fact in facts):
        rows = [fact for fact in facts if fact.section == section]
        imitated = sum(fact.is_imitated for fact in rows)
        print(f"{section:32} {imitated:4} imitated {len(rows) - imitated:4} not")
    print(count_line(facts))


if __name__ == "__main__":
    main()
