"""Prints the figures that README and docs quote: `make figures` (about a minute for each run).

Everything is measured on the project's own commands, on this machine, in this run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from orchestrator.kernel import SOURCE_LIMIT_BYTES, render

ROOT = Path(__file__).parent.parent
KCHAIN = [sys.executable, "-m", "orchestrator"]
SAMPLE_SECONDS = 0.05
PARAMETERS = {  # the rehearsal from its first step to its last, in one session
    "contract": 1,
    "chain": "whole",
    "session": 1,
    "attempt": 1,
    "token": "kc1." + "a" * 26,
    "parent": None,
    "time_budget_seconds": 3600,
    "sessions_planned": 1,
    "training": {"preset": "rehearsal", "overrides": {"steps_per_session": None}},
    "accelerator": {"kind": "none", "count": 0},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often to repeat the dry run")
    runs = parser.parse_args().runs
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    notebook()
    startup()
    for number in range(1, runs + 1):
        dry_run(number, runs)
    resume()


def notebook() -> None:
    """Print the outline and size of the notebook that is pushed."""
    source = render(PARAMETERS)
    cells = json.loads(source)["cells"]
    print(f"notebook: {len(source.encode()):,} bytes of {SOURCE_LIMIT_BYTES:,}, {len(cells)} cells")
    for cell in cells:
        first, _, rest = cell["source"].partition("\n")
        if first.startswith("## "):
            print(f"  {first.removeprefix('## ')}")
        elif first.startswith("%%writefile"):
            print(f"    {first.rpartition('/')[2]}: {len(rest.splitlines())} lines")


def startup() -> None:
    """Time the commands that must feel immediate, and what they import."""
    for command in (["--help"], ["status"]):
        with tempfile.TemporaryDirectory() as folder:
            if command == ["status"]:
                seed_chain(Path(folder))
            seconds = statistics.median(timed([*KCHAIN, *command], Path(folder)) for _ in range(7))
            imported = import_seconds(command, Path(folder))
        print(
            f"kchain {' '.join(command)}: {seconds:.2f} s (median of 7), imports {imported:.2f} s"
        )


def dry_run(number: int, runs: int) -> None:
    """Time one dry run of three sessions and watch the controller's memory."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        process = subprocess.Popen(
            [*KCHAIN, "run", "--sessions", "3", "--dry-run", "--json"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        peak = Peak(process.pid)
        output, errors = process.communicate()
        seconds = time.monotonic() - start
        peak.stop()
    if process.returncode:
        raise SystemExit(f"dry run {number} failed: {errors}")
    rows = json.loads(output)["rows"]
    steps = ", ".join(f"{row['first_step']}-{row['last_step']}" for row in rows)
    print(
        f"dry run {number} of {runs}: {seconds:.1f} s; steps {steps};"
        f" controller {peak.own / 1e6:.0f} MB, its client process {peak.children / 1e6:.0f} MB"
    )


def resume() -> None:
    """Compare a chain of three sessions with one uninterrupted run of the same steps."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "chain"
        checked([*KCHAIN, "init", "--preset", "rehearsal", str(project)], Path(folder))
        checked([*KCHAIN, "run", "--local"], project)
        for stored in (project / ".kchain" / "local" / "chain" / "store").iterdir():
            verdict = json.loads((stored / "session.json").read_text())
            if resumed := verdict["resumed_from"]:
                difference = abs(resumed["val_loss"] - resumed["val_loss_recomputed"])
                print(
                    f"session {verdict['session']} resumed at step {resumed['step']}: validation"
                    f" loss {resumed['val_loss']:.6f}, recomputed before the first step with"
                    f" difference {difference:.1e}"
                )
        chained = json.loads((project / "output" / "training_history.json").read_text())
        whole = uninterrupted(Path(folder) / "whole")
    pairs = list(zip(chained["steps"], whole["steps"], strict=True))
    worst = max(abs(one["loss"] - other["loss"]) for one, other in pairs)
    print(
        f"training loss, chain against uninterrupted run, {len(pairs)} steps: largest"
        f" difference {worst:.1e}"
    )


def uninterrupted(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Run the kernel template once over all steps and return its history."""
    (folder / "input").mkdir(parents=True)
    (folder / "parameters.json").write_text(json.dumps(PARAMETERS))
    subprocess.run(
        [sys.executable, str(ROOT / "kernel_template" / "launch.py")],
        env={
            **os.environ,
            "KCHAIN_INPUT_DIR": str(folder / "input"),
            "KCHAIN_WORKING_DIR": str(folder / "working"),
            "KCHAIN_PARAMETERS": str(folder / "parameters.json"),
        },
        check=True,
        capture_output=True,
    )
    history: dict[str, list[dict[str, float]]] = json.loads(
        (folder / "working" / "checkpoints" / "training_history.json").read_text()
    )
    return history


class Peak:
    """Samples the resident memory of a process and of the client process below it."""

    def __init__(self, pid: int) -> None:
        self.own = self.children = 0
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            try:
                self.own = max(self.own, self._process.memory_info().rss)
                for child in self._process.children():
                    if "orchestrator.kaggle.worker" in child.cmdline():
                        self.children = max(self.children, child.memory_info().rss)
            except psutil.Error:
                continue  # it ended between two looks


def timed(command: list[str], folder: Path) -> float:
    start = time.monotonic()
    checked(command, folder)
    return time.monotonic() - start


def checked(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return done.stderr


def import_seconds(command: list[str], folder: Path) -> float:
    """Return the seconds that Python spends on imports for one command."""
    text = checked([sys.executable, "-X", "importtime", "-m", "orchestrator", *command], folder)
    return sum(int(micros) for micros in re.findall(r"import time:\s+(\d+) \|", text)) / 1e6


def seed_chain(folder: Path) -> None:
    """Make a chain with a journal, so that `status` has something to show."""
    from orchestrator.clock import SystemClock
    from orchestrator.journal import Journal
    from orchestrator.machine import Kind

    (folder / "kchain.toml").write_text('[chain]\nname = "seeded"\n')
    state = folder / ".kchain" / "seeded"
    state.mkdir(parents=True)
    with Journal(state / "journal.db", "seeded", SystemClock()) as journal:
        journal.append(
            Kind.BOUND, endpoint="https://api.kaggle.com", owner="o", kernel="k", dataset="d"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
