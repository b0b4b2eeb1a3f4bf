"""The command behind `make simulate`."""

import argparse
import sys

from tests.faults import page
from tests.simulation.schedules import Tally, cores, events_of, now, run_many, summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--faults", action="store_true", help="list how often each kind struck")
    parser.add_argument("--page", action="store_true", help="enter that in docs/engine-faults.md")
    options = parser.parse_args()
    began, tally = now(), Tally()
    for part in run_many(options.first, options.seeds, options.processes):
        tally.add(part)
        for seed, what in part.failures:
            print(f"seed {seed} failed: {what}")
            print(f"  replay: python -m tests.simulation --seeds 1 --first {seed} --processes 1")
    if options.seeds == 1 and tally.failures:
        run_again(options.first)
    if options.faults:
        for name, count in sorted(tally.faults.items()):
            print(f"{count:>9,}  {name}")
    if options.page:
        page.enter(tally)
    print(summary(tally, now() - began, options.processes))
    return 1 if tally.failures else 0


def run_again(seed: int) -> None:
    """Tell the story of one schedule that failed."""
    for event in events_of(seed):
        print(f"{event.seq:>5} {event.age:>12.0f} s  {event.kind.value:<20} {dict(event.data)}")


if __name__ == "__main__":
    sys.exit(main())
