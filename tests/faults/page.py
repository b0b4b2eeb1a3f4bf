"""docs/engine-faults.md: what a chain has to live through, and what shows that it does.

`python -m tests.faults.page` writes it anew with the counts that it has; they are entered by
`python -m tests.simulation --seeds 20000 --page`, and by `make prove`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from docs.facts import where_tests_are
from tests.faults import calls, machine, sessions
from tests.faults.row import CRASH, Row
from tests.simulation.schedules import Tally, commit

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "engine-faults.md"
GROUPS: Mapping[str, tuple[Row, ...]] = {
    "Calls": calls.WIRE,
    "Old answers": calls.READS,
    "Pushes and quota": calls.PUSHES,
    "Sessions": sessions.SESSIONS,
    "Files": sessions.FILES,
    "Publications": sessions.PUBLICATIONS,
    "Machine, account, other people": machine.MACHINE,
    "Besides": sessions.BESIDES,
}
ROWS = [row for rows in GROUPS.values() for row in rows]
COUNTED, COUNT = (
    re.compile(r"^Counted over .*$", re.MULTILINE),
    re.compile(r"`(.+?)` ([\d,]+) times"),
)
NEVER = "Counted over no storms yet."
HEAD = """\
# What a chain has to live through

Made from `tests/faults/` by `make docs`.
Each row is something that goes wrong with a chain, what kchain does about it, and where that is shown.
What local Kaggle can be told to do wrong, switch by switch, is in [faults.md](faults.md); what the official client does wrong is in [client-hazards.md](client-hazards.md).

**Storms** strike whole chains in simulation, by the names of `tests/simulation/storm.py`; after each, the chain has reached its target and no invariant was broken.
A number is how often that struck.
**Tests** are about this fault alone; they stand below `tests/`.

"""


def render(counts: Mapping[str, int], counted: str) -> str:
    """Return the page with these counts, and the line that says where they come from."""
    places, number, parts = where_tests_are(), 0, [HEAD, f"{counted}\n"]
    for group, rows in GROUPS.items():
        parts.append(f"\n## {group}\n\n| | What goes wrong | What kchain does | Shown by |\n")
        parts.append("| --- | --- | --- | --- |\n")
        for row in rows:
            number += 1
            parts.append(_line(number, row, counts, places))
    return "".join(parts)


def read() -> tuple[dict[str, int], str]:
    """The counts that the page has, and the line that says where they come from."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    line = COUNTED.search(text)
    counts = {name: int(count.replace(",", "")) for name, count in COUNT.findall(text)}
    return counts, line[0] if line else NEVER


def enter(tally: Tally) -> None:
    """Write the page with the counts of these storms."""
    struck = sum(tally.faults.values())
    counted = (
        f"Counted over {tally.schedules:,} storms with {struck:,} faults and {tally.crashes:,}"
        f" crashes, {len(tally.failures)} of them failed; {datetime.now(UTC):%Y-%m-%d}, {commit()}."
    )
    page = render({**tally.faults, CRASH: tally.crashes}, counted)
    PAGE.write_text(page, encoding="utf-8")


def complaints(rows: list[Row], places: Mapping[str, list[str]], kinds: set[str]) -> list[str]:
    """What is wrong with rows: nothing that shows them, or something that is not there."""
    wrong = []
    for row in rows:
        if not (row.kinds or row.tests or row.not_here):
            wrong.append(f"nothing shows: {row.fault}")
        wrong += [
            f"no such test as {test}: {row.fault}" for test in row.tests if not _file(test, places)
        ]
        wrong += [f"no such kind as {k}: {row.fault}" for k in row.kinds if k not in kinds]
    return wrong


def _line(number: int, row: Row, counts: Mapping[str, int], places: Mapping[str, list[str]]) -> str:
    answer = row.answer + (f"; {row.not_here}" if row.not_here else "")
    struck = [f"`{kind}` {counts.get(kind, 0):,} times" for kind in row.kinds]
    tests = [f"`{_file(test, places)}::{test}`" for test in row.tests]
    return f"| {number} | {row.fault} | {answer} | {'<br>'.join([*struck, *tests])} |\n"


def _file(test: str, places: Mapping[str, list[str]]) -> str | None:
    """The file that has a test, and its case if one is named."""
    name, _, case = test.rstrip("]").partition("[")
    for file in places.get(name, ()):
        if not case or f'"{case}"' in (TESTS / file).read_text(encoding="utf-8"):
            return file
    return None


if __name__ == "__main__":
    PAGE.write_text(render(*read()), encoding="utf-8")
