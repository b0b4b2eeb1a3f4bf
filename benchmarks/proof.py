"""Prints what is proven of the engine, in one table: part of `make figures`.

The storms are run here and now, through kchain and through the loop that people write first; the
long counts are the rows of docs/proven.md, each with the commit and the day it was made.
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
# What must never happen: the invariants that would say so, and what there was occasion for.
ZEROS = {
    "checkpoints lost": (("I4", "I7"), "heads", "heads"),
    "went back or off course": (("I3",), "heads", "heads"),
    "sessions started twice": (("I1", "I2"), "pushes", "pushes that landed"),
    "versions duplicated": (("I2",), "versions", "versions that landed"),
    "unverified published": (("I5",), "versions", "versions that landed"),
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
    for line in PROVEN.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            print(line)


def rows(tally: Tally, loop: Counter[str], seconds: float) -> list[tuple[str, str, str]]:
    """Return the table: what, kchain's, the naive loop's."""
    count = tally.schedules
    faults = sum(tally.faults.values())
    broken = Counter(what.split(":")[1].strip() for _, what in tally.failures if ":" in what)
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
                f"{sum(broken[name] for name in names)} in {getattr(tally, field):,} {told}",
                f"{loop[what]:,}" if what in loop else "",
            )
            for what, (names, field, told) in ZEROS.items()
        ),
        ("invariants checked", f"{tally.opportunities:,} times", ""),
        ("storms per second and core", f"{count / seconds / cores():.1f}", ""),
    ]


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
