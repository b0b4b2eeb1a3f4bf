"""The command behind `make simulate`."""

import argparse
import json
import sys

from tests.faults import page
from tests.simulation.schedules import (
    BATCH,
    Tally,
    cores,
    events_of,
    figures,
    now,
    run_many,
    summary,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--until-failure", action="store_true", help="stop at the first one")
    parser.add_argument("--faults", action="store_true", help="list how often each kind struck")
    parser.add_argument("--page", action="store_true", help="enter that in docs/engine-faults.md")
    parser.add_argument("--json", action="store_true", help="print nothing but the tally, as JSON")
    options = parser.parse_args()
    began, tally = now(), Tally()
    batch = 1 if options.until_failure else BATCH
    for part in run_many(options.first, options.seeds, options.processes, batch):
        tally.add(part)
        show_progress(tally, options.seeds, now() - began)
        if not options.json:
            tell_failures(part)
        if options.until_failure and part.failures:
            break
    wall_seconds = now() - began
    if options.json:
        print(json.dumps(figures(tally, wall_seconds, options.processes)))
        return 1 if tally.failures else 0
    if options.seeds == 1 and tally.failures:
        run_again(options.first)
    if options.faults:
        for name, count in sorted(tally.faults.items()):
            print(f"{count:>9,}  {name}")
    if options.page:
        page.enter(tally)
    print(summary(tally, wall_seconds, options.processes))
    return 1 if tally.failures else 0


def show_progress(tally: Tally, count: int, wall_seconds: float) -> None:
    """Rewrite one line on a terminal; elsewhere say nothing."""
    if sys.stderr.isatty():
        line = (
            f"{tally.schedules:,} of {count:,} schedules, {len(tally.failures)} failed,"
            f" {tally.schedules / wall_seconds:.1f}/s"
        )
        is_last = tally.schedules >= count
        print(f"\r\033[K{'' if is_last else line}", end="", file=sys.stderr, flush=True)


def tell_failures(part: Tally) -> None:
    """Tell which seeds failed, and how each is replayed."""
    for seed, what in part.failures:
        print(f"seed {seed} failed: {what}")
        print(f"  replay: make simulate SEEDS=1 FIRST={seed}")


def run_again(seed: int) -> None:
    """Tell the story of one schedule that failed."""
    for event in events_of(seed):
        print(f"{event.seq:>5} {event.age:>12.0f} s  {event.kind.value:<20} {dict(event.data)}")


if __name__ == "__main__":
    sys.exit(main())
