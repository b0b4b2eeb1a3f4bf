"""Remove one rule from a copy of the code, and see whether the test meant for it fails."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    """A rule, the text in `module` that upholds it, what is put in its place, and its test."""

    rule: str
    module: str
    old: str
    new: str
    test: str  # path::name

    def fits(self) -> bool:
        """Whether the text is there exactly once and the test exists."""
        path, _, name = self.test.partition("::")
        has_test = re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
        return (ROOT / self.module).read_text().count(self.old) == 1 and has_test is not None


def is_caught(mutant: Mutant | None, test: str, folder: Path) -> bool:
    """Run a test on a copy of the code with the mutation, or with none; whether it failed."""
    copy = folder / "orchestrator"
    shutil.copytree(ROOT / "orchestrator", copy, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant:
        target = folder / mutant.module
        target.write_text(target.read_text().replace(mutant.old, mutant.new))
    done = subprocess.run(
        # -P: the copy is to be imported, not the code beside the tests
        [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1
