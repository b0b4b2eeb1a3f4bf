"""Prints what is proven of the engine, in one table: part of `make figures`.

The storms are run here and now, through kchain and through the loop that people write first; the
long counts are the rows of docs/proven.md, each with its day, commit and machine. One that was
not counted yet is named too.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.simulation.naive import violations  # noqa: E402
from tests.simulation.schedules import (  # noqa: E402
    BATCH,
    YEAR_SECONDS,
    Tally,
    commit,
    cores,
    now,
    run_many,
)

PROVEN = ROOT / "docs" / "proven.md"
# What must never happen: how failures that say so begin, and what there was occasion for.
ZEROS = {
    "checkpoints lost": (("I4", "I7"), "heads", "heads"),
    "went back or off course": (("I3",), "heads", "heads"),
    "sessions started twice": (("I1", "I2: a token", "I2: another push"), "pushes", "pushes"),
    "versions duplicated": (("I2: versions", "I2: a complete"), "versions", "versions that landed"),
    "unverified published": (("I5",), "versions", "versions that landed"),
}
# The long counts of the engine: how their rows begin, and what enters them.
LONG = {
    "20,000 storms": "tests/faults",
    "200,000 storms": "tests/faults",
    "a crash before and after every effect": "tests/simulation/test_crashes.py",
    "every pair of crashes": "tests/simulation/test_crashes.py",
    "200 kills -9 in the real loop": "tests/crash/test_kills.py",
    "kill -9 in the real loop": "tests/crash/test_kills.py",
    "Power cut": "tests/crash/test_power_cuts.py",
    "ENOSPC and EIO": "tests/crash/test_disk_errors.py",
    "laptops lost in storms": "tests/simulation/test_lost_laptops.py",
    "5,000 storms beyond": "tests/simulation/test_beyond.py",
    "Protections of the engine": "tests/simulation/test_mutants.py",
    "The loop that people write first": "tests/simulation/test_mutants.py",
}


def main() -> None:
    """Run the storms twice, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many storms")
    seeds = parser.parse_args().seeds
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}; commit {commit()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    began, tally = now(), Tally()
    for part in run_many(0, seeds, cores()):
        tally.add(part)
    seconds = now() - began
    for row in rows(tally, naive(seeds), seconds):
        print(f"| {' | '.join(row)} |")
    for line in long_counts(PROVEN.read_text(encoding="utf-8").splitlines()):
        print(line)


def rows(tally: Tally, loop: Counter[str], seconds: float) -> list[tuple[str, str, str]]:
    """Return the table: what, kchain's, the naive loop's."""
    count = tally.schedules
    faults = sum(tally.faults.values())
    broken = [what.partition(": ")[2] for _, what in tally.failures]
    return [
        ("What", "kchain", "naive loop"),
        ("---", "---", "---"),
        ("storms, seeds from 0", f"{count:,}", f"{count:,}"),
        ("faults injected", f"{faults:,} ({faults / count:.1f} each)", "the same storms"),
        ("crashes survived", f"{tally.crashes:,} ({tally.crashes / count:.1f} each)", ""),
        ("simulated years", f"{tally.seconds / YEAR_SECONDS:,.1f}", ""),
        ("storms in which something broke", f"{len(tally.failures)}", f"{loop['storms']:,}"),
        *(
            (
                what,
                f"{sum(text.startswith(begins) for text in broken)} in"
                f" {getattr(tally, field):,} {told}",
                f"{loop[what]:,}" if what in loop else "",
            )
            for what, (begins, field, told) in ZEROS.items()
        ),
        ("invariants checked", f"{tally.opportunities:,} times", ""),
        ("storms per second and core", f"{count / seconds / cores():.1f}", ""),
    ]


def long_counts(lines: list[str]) -> list[str]:
    """Return the rows of docs/proven.md about the engine, and one for each that is missing."""
    told = []
    for begin, file in LONG.items():
        found = [line for line in lines if line.startswith(f"| {begin}")]
        told += found or [f"| {begin} | not counted yet | `pytest -m prove {file}` |"]
    return told


def naive(seeds: int) -> Counter[str]:
    """Run the naive loop through the same storms; count what it broke, and in how many."""
    counted: Counter[str] = Counter()
    with ProcessPoolExecutor(cores()) as pool:
        for broken in pool.map(violations, range(seeds), chunksize=BATCH):
            counted.update(broken)
            counted["storms"] += any(broken.values())
    return counted


if __name__ == "__main__":
    main()
