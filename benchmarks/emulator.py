"""Speed and scale of local Kaggle: `make bench-local`.

Calls through the rules in process, calls over HTTP by the official SDK, big files beside a plain
static HTTP server that the same client programs use in the same run. On two cores; about three
minutes on an idle machine, and 12 GB of its disk meanwhile. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local_calls import CHAINS, in_process, over_http, start_up
from local_transfers import Transfer, transfers

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "local-kaggle.md"
BEGIN = "<!-- make bench-local writes from here -->"
END = "<!-- to here -->"
CORES = 2
OPERATIONS = 100_000
CALLS_PER_SECOND = 50_000
CALLS_PER_SECOND_HTTP = 500
SHARE_OF_PLAIN = 1 / 3
RESIDENT_BYTES = 150 * 10**6
SECONDS_OF_A_CALL = 1.0  # while a big file passes
SECONDS_TO_START = 10.0


@dataclass(frozen=True)
class Target:
    """A figure that must be reached, or if `at_most` must not be passed."""

    what: str
    measured: float
    bound: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


class Results:
    """Lines of the page, and the targets met and missed on the way."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.targets: list[Target] = []

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def aim(self, what: str, measured: float, bound: float, *, at_most: bool = False) -> str:
        """Note a target; returns how the table says whether it was met."""
        target = Target(what, measured, bound, at_most)
        self.targets.append(target)
        return "yes" if target.is_met else "**no**"


def calls_table(results: Results, calls: int, seconds: float) -> None:
    results.say("| Calls, half of them changing state | Measured | Target | Met |")
    results.say("| --- | ---: | ---: | --- |")
    tenths = in_process(calls)
    speed = statistics.harmonic_mean(tenths)
    met = results.aim("calls in process", speed, CALLS_PER_SECOND)
    results.say(
        f"| through `world.py` in process, {calls:,} calls of {CHAINS} chains (tenths of the "
        f"history: {min(tenths):,.0f}-{max(tenths):,.0f}, first {tenths[0]:,.0f}, last "
        f"{tenths[-1]:,.0f}) | {speed:,.0f}/s | {CALLS_PER_SECOND:,}/s | {met} |"
    )
    for clients in (1, 2):
        called = over_http(clients, seconds)
        met = results.aim(f"calls over HTTP, {clients}", called.per_second, CALLS_PER_SECOND_HTTP)
        results.say(
            f"| over HTTP by the official SDK, {clients} client process"
            f"{'es' if clients > 1 else ''}, state on disk, {called.calls:,} calls (median "
            f"{1000 * called.median_seconds:.1f} ms, slowest {1000 * called.worst_seconds:.0f} ms; "
            f"server {called.server_cores:.2f} cores) | {called.per_second:,.0f}/s | "
            f"{CALLS_PER_SECOND_HTTP}/s | {met} |"
        )
    seconds, size_bytes = start_up(OPERATIONS)
    met = results.aim("start", seconds, SECONDS_TO_START, at_most=True)
    results.say(
        f"| loading a record of {OPERATIONS:,} operations, {size_bytes / 1e6:.0f} MB, at the start "
        f"| {seconds:.1f} s | {SECONDS_TO_START:.0f} s | {met} |"
    )


def transfers_table(results: Results, megabytes: int, rounds: int) -> None:
    results.say(
        f"One file of {megabytes:,} MiB, medians of {rounds} turns (lowest-highest). "
        f"Targets: {SHARE_OF_PLAIN:.2f} of the plain server's speed; "
        f"{RESIDENT_BYTES / 1e6:.0f} MB resident in the server; "
        f"{SECONDS_OF_A_CALL:.0f} s for the slowest of the other calls made meanwhile, 50 a second "
        "at most."
    )
    results.say()
    results.say(
        "| Transfer | Local Kaggle | Plain static server | Share | Resident | Slowest call | Met |"
    )
    results.say("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    with tempfile.TemporaryDirectory(prefix="kchain-bench-") as folder:
        for transfer in transfers(Path(folder), megabytes, rounds):
            results.say(_row(results, transfer))


def _row(results: Results, transfer: Transfer) -> str:
    title, call_seconds = transfer.title, transfer.worst_call_seconds
    met = [
        results.aim(f"{title}: memory", transfer.resident_bytes, RESIDENT_BYTES, at_most=True),
        results.aim(f"{title}: calls", call_seconds, SECONDS_OF_A_CALL, at_most=True),
    ]
    if transfer.is_one_file:
        met.append(results.aim(f"{title}: speed", transfer.share, SHARE_OF_PLAIN))
    return (
        f"| {title} | {_speeds(transfer.speeds)} | {_speeds(transfer.plain_speeds)} | "
        f"{transfer.share:.2f} | {transfer.resident_bytes / 1e6:.0f} MB | "
        f"{1000 * call_seconds:.0f} ms | {'yes' if set(met) == {'yes'} else '**no**'} |"
    )


def _speeds(values: list[float]) -> str:
    low, middle, high = (v / 1e6 for v in (min(values), statistics.median(values), max(values)))
    return f"{middle:,.0f} ({low:,.0f}-{high:,.0f}) MB/s"


def introduction() -> Iterator[str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    yield (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, "
        f"{platform.machine()}, {CORES} cores for server and clients together, "
        f"Python {platform.python_version()}."
    )
    yield ""


def write(lines: list[str]) -> None:
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=240_000, help="in process (default 240,000)")
    parser.add_argument("--seconds", type=float, default=10, help="over HTTP (default 10)")
    parser.add_argument("--megabytes", type=int, default=1024, help="of the file (default 1024)")
    parser.add_argument("--rounds", type=int, default=3, help="of each transfer (default 3)")
    parser.add_argument("--write", action="store_true", help="replace the table in the docs")
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # inherited by all processes
    results = Results()
    for line in introduction():
        results.say(line)
    calls_table(results, given.calls, given.seconds)
    results.say()
    transfers_table(results, given.megabytes, given.rounds)
    if given.write:
        write(results.lines)
    missed = [target for target in results.targets if not target.is_met]
    if missed:
        raise SystemExit("\n".join(f"missed: {t.what}: {t.measured:,.3f}" for t in missed))


if __name__ == "__main__":
    main()
