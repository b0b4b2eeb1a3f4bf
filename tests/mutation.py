"""Remove one rule from a copy of the code, and see whether what is meant for it fails."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Edit:
    """A text in `module`, and what is put in its place."""

    module: str
    old: str
    new: str

    def fits(self) -> bool:
        """Whether the text is there exactly once."""
        return (ROOT / self.module).read_text().count(self.old) == 1 and self.old != self.new

    def apply(self, folder: Path) -> None:
        """Change the copy of the code in `folder`."""
        target = folder / self.module
        text = target.read_text()
        assert text.count(self.old) == 1, self.old
        target.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """A rule, the text in `module` that upholds it, what is put in its place, and its test."""

    rule: str
    module: str
    old: str
    new: str
    test: str  # path::name
    also: tuple[Edit, ...] = ()  # where one rule is upheld in more than one place

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (Edit(self.module, self.old, self.new), *self.also)

    def fits(self) -> bool:
        """Whether the texts are there exactly once and the test exists."""
        return all(edit.fits() for edit in self.edits) and has_test(self.test)


def has_test(test: str) -> bool:
    """Whether a test of this path and name exists."""
    path, _, name = test.partition("[")[0].partition("::")
    return re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE) is not None


def is_caught(mutant: Mutant | None, test: str, folder: Path) -> bool:
    """Run a test on a copy of the code with the mutation, or with none; whether it failed."""
    return run_test(mutant, test, folder).returncode == 1


def run_test(mutant: Mutant | None, test: str, folder: Path) -> Done:
    """Run a test on a copy of the code with the mutation, or with none."""
    return run(mutant, ["pytest", "-q", "-x", "-p", "no:cacheprovider", test], folder)


def run(mutant: Mutant | None, module: Sequence[str], folder: Path) -> Done:
    """Run a Python module, with its arguments, on a copy of the code: 0 is well, 1 a failure."""
    copy = folder / "orchestrator"
    shutil.copytree(ROOT / "orchestrator", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in mutant.edits if mutant else ():
        edit.apply(folder)
    done = subprocess.run(
        # -P: the copy is to be imported, not the code beside the tests
        [sys.executable, "-P", "-m", *module],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done
