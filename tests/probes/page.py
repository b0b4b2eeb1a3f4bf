"""docs/client-hazards.md, written from what a run of the probes and of their tests showed.

`python -m tests.probes.page` (or `make hazards`) runs the probes with the bare client of each
version, then the tests that kchain contains what they found, and writes what came out.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from orchestrator.emulator.client_env import REDIRECT
from tests.probes.catalogue import HAZARDS

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "client-hazards.md"
CLIENTS = ROOT / ".venv" / "clients"
SECTIONS = ("authentication", "transport", "kernels", "outputs", "datasets")
_OTHERS = sorted(
    path.stem.removeprefix("kaggle-") for path in (ROOT / "tests/clients").glob("*.txt")
)
VERSIONS = tuple(dict.fromkeys([metadata.version("kaggle"), *_OTHERS]))
NOWHERE = "http://127.0.0.1:9"  # until a probe says where
_WORDS = {True: "present", False: "gone", None: "-"}

HEAD = """\
# Hazards of the official client

What Kaggle's own client does that could harm a chain, version by version, and what in kchain contains it.
`make hazards` writes this page from a run; `make test` compares each row with what its probe finds.

- **present**, **gone**: a probe in `tests/probes/bare/` puts the bare client of that version into the situation and looks.
- **contained**: the test drives kchain's own worker, with either version, into the same situation.
- **never called**: kchain calls nothing that has it; the test watches the worker while every verb is called.
- **platform**: the hazard is the service's; local Kaggle or the simulation imitates it by the rule or switch that is named, and the test shows it.

"""


def find(version, section):
    """Run the probes of one section with the bare client of a version: hazard to present."""
    path = [REDIRECT, ROOT]
    if version != VERSIONS[0]:
        path.insert(0, CLIENTS / f"kaggle-{version}")
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "tests.probes.bare.program", section],
            env={
                "HOME": home,
                "PATH": os.defpath,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                "KCHAIN_KAGGLE_ENDPOINT": NOWHERE,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    failed = [result["error"] for result in found.values() if "error" in result]
    assert not failed, "\n".join(failed)
    return {hazard: result["present"] for hazard, result in found.items()}


def written_tests():
    """The tests of each hazard: of a platform's the ones it names, else those named after it."""
    tests = {hazard.id: [f"tests/{name}" for name in hazard.evidence] for hazard in HAZARDS}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (number := hazard_of(node.name)):
                tests[number].append(f"tests/probes/{path.name}::{node.name}")
    return tests


def hazard_of(name):
    """Return the hazard that a test is named after; None if it is named after none."""
    match = re.match(r"test_(c\d+)_", name)
    return match[1].upper() if match else None


def passed(tests):
    """Run tests; return for each the versions in which it passed, all if it knows of none."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "--junit-xml", report.name]
        subprocess.run([*command, *tests], cwd=ROOT, check=False)
        cases = list(ElementTree.parse(report.name).iter("testcase"))  # noqa: S314 - our own file
    good, bad = defaultdict(set), defaultdict(set)
    for case in cases:
        name, _, parameters = case.get("name").partition("[")
        file = case.get("classname").replace(".", "/") + ".py"
        told = {version for version in VERSIONS if version in parameters} or set(VERSIONS)
        (good if len(case.findall("*")) == len(case.findall("system-out")) else bad)[
            f"{file}::{name}"
        ] |= told
    return {test: good[test] - bad[test] for test in tests}


def verdicts(tests, passing):
    """A hazard's word for the page: contained, platform or never called, if its tests passed."""
    words = {"probe": "contained", "platform": "platform", "never called": "never called"}
    return {
        hazard.id: words[hazard.kind]
        if tests[hazard.id] and all(passing[test] == set(VERSIONS) for test in tests[hazard.id])
        else "**not contained**"
        for hazard in HAZARDS
    }


def render(present, words, tests):
    """The page: `present` maps a version to hazard to bool."""
    head = ["Hazard", "Where", "What it does", *VERSIONS, "In kchain", "By", "Test"]
    lines = [_summary(present, words), "", _row(head), _row(["---"] * len(head))]
    for hazard in HAZARDS:
        cells = [_WORDS[present[version].get(hazard.id)] for version in VERSIONS]
        shown = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests[hazard.id])
        what = [hazard.id, hazard.where, hazard.what]
        lines.append(_row([*what, *cells, words[hazard.id], hazard.contained_by, shown]))
    return HEAD + "\n".join(lines) + "\n"


def _summary(present, words):
    there = " and ".join(f"{sum(present[version].values())} in {version}" for version in VERSIONS)
    kinds = ("contained", "platform", "never called", "**not contained**")
    counts = [(kind, list(words.values()).count(kind)) for kind in kinds]
    said = ", ".join(f"{count} {kind}" for kind, count in counts if count)
    return f"{len(HAZARDS)} hazards: {there} are present; {said}."


def _row(cells):
    return f"| {' | '.join(cells)} |"


def parse(page):
    """Read back what a page says is present, of which version and hazard."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| C")]
    meaning = {word: value for value, word in _WORDS.items()}
    return {
        version: {
            row[0]: meaning[row[3 + column]] for row in rows if meaning[row[3 + column]] is not None
        }
        for column, version in enumerate(VERSIONS)
    }


def main():
    """Run everything; write the page; fail if anything is not contained."""
    present = {
        version: {
            hazard: there
            for section in SECTIONS
            for hazard, there in find(version, section).items()
        }
        for version in VERSIONS
    }
    tests = written_tests()
    words = verdicts(tests, passed(sorted({test for each in tests.values() for test in each})))
    PAGE.write_text(render(present, words, tests), encoding="utf-8")
    sys.exit("a hazard is not contained" if "**not contained**" in words.values() else 0)


if __name__ == "__main__":
    main()
