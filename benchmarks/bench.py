"""Measures the training kernel beside other ways to write the same training: `make bench`.

One run, about half an hour on two cores. Loops alternate step by step, each in its own process, so
that drift of the machine meets all alike. Medians, with the lowest and highest value beside them.
The text is the standard library's own unless KCHAIN_BENCH_TEXT names a folder with `valid.txt` and
`test.txt` of WikiText.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import loops
from corpora import Text, prepare
from sessions import goodput, guides_data, seek, stalls, startup
from throughput import WARM_UP, throughput, throughput_table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
WIKITEXT_103_ROWS = 1_801_350  # of the training split, as published
WIKITEXT_103_TOKENS = 118e6  # of GPT-2's vocabulary, roughly: 116 to 122 M
SESSION_SECONDS = 12 * 3600.0


def spread(values: list[float], *, scale: float = 1.0, digits: int = 2) -> str:
    low, middle, high = (
        f"{scale * value:,.{digits}f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}-{high})"


def other_figures(text: Text, rounds: int, stalled: list[list[float]]) -> Iterator[str]:
    yield "| Figure | Median (spread) |"
    yield "| --- | ---: |"
    yield (
        "| training process's start to the end of its first optimizer step (1 x 512), data "
        f"prepared | {spread(startup(text, rounds))} s |"
    )
    for batch, values in zip(("0", "10,000", "14,000"), seek(rounds), strict=True):
        yield (
            f"| finding batch {batch} of an epoch of WikiText-103 | "
            f"{spread(values, scale=1000, digits=1)} ms |"
        )
    for size, values in zip(("10.0 M", "19.3 M"), stalled, strict=True):
        yield f"| a save holds the training up, {size} | {spread(values, scale=1000)} ms |"


def goodput_lines(text: Text, minutes: float, stall: float) -> Iterator[str]:
    session, guides_row = goodput(text, minutes), guides_data(text)
    seconds = session.verdict["seconds"]
    yield (
        f"One session through the rendered notebook and papermill, {session.wall:.0f} s, "
        f"{session.verdict['last_step']} steps, {session.saves} saves, ended "
        f"`{session.verdict['outcome']}`: **{100 * session.share:.1f} %** of the wall time went "
        "into optimizer steps, the writer's slowdown not counted as such; the verdict, which does "
        f"count it, says {100 * session.verdict['goodput']:.1f} %."
    )
    yield f"Before the first step: {session.start:.1f} s, of them {seconds['data']:.1f} s for data."
    yield f"Each save slowed the training beside it by {1000 * session.slowdown:.0f} ms."
    tokens = json.loads((text.folder / "tokens.json").read_text())
    rate = (tokens["train_tokens"] + tokens["validation_tokens"]) / max(seconds["data"], 0.1)
    start = session.start - seconds["data"]
    saves = SESSION_SECONDS / 60 * (stall + session.slowdown)
    end = seconds["evaluate"] + seconds["save"]
    tokenised = WIKITEXT_103_TOKENS / rate
    attached = 1 - (start + saves + end) / SESSION_SECONDS
    guide = guides_row * WIKITEXT_103_ROWS
    yield ""
    yield "What follows for 12 hours, a save a minute, from these parts:"
    yield ""
    yield "| | Before the first step | Share of 12 h in steps | Useful positions | Both |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    yield (
        f"| kchain, tokens.bin attached | {start:.0f} s | {100 * attached:.2f} % | 100 % | "
        f"{100 * attached:.1f} % |"
    )
    with_data = attached - tokenised / SESSION_SECONDS
    yield (
        f"| kchain, WikiText-103 tokenised in the session | {start + tokenised:.0f} s | "
        f"{100 * with_data:.2f} % | 100 % | {100 * with_data:.1f} % |"
    )
    guides_share = 1 - (guide + start) / SESSION_SECONDS
    yield (
        f"| the guide's way, its saves and lost tail not counted | {guide + start:.0f} s | "
        f"{100 * guides_share:.2f} % | {100 * text.useful_share:.1f} % | "
        f"{100 * guides_share * text.useful_share:.1f} % |"
    )


def page(text: Text, rounds: int, minutes: float) -> Iterator[str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    import torch
    import transformers

    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench`: one run on one machine, to be read as ratios."
    yield (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, "
        f"{platform.machine()}, {os.cpu_count()} cores, no GPU; Python "
        f"{platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}."
    )
    yield f"Text: {text.name}, {text.rows:,} rows, GPT-2's vocabulary of 50,257 words."
    yield (
        f"Padded to 512, {100 * text.useful_share:.1f} % of its positions are real tokens; only "
        "those count."
    )
    yield ""
    yield "## Throughput"
    yield ""
    yield (
        f"10 M parameters, 512 tokens, {loops.BATCH} x {loops.ACCUMULATION} blocks a step, AdamW, "
        f"gradient clipped; {rounds} interleaved rounds after {WARM_UP} to warm up."
    )
    yield "*Limit* is what this machine's matrix products alone would allow in that precision."
    yield ""
    yield from throughput_table(text, throughput(text, rounds))
    yield ""
    yield "## Start, position, saves"
    yield ""
    stalled = [stalls(text, loop, rounds) for loop in ("ours-saving", "ours-19m-saving")]
    yield from other_figures(text, rounds, stalled)
    yield ""
    yield "## Goodput"
    yield ""
    yield from goodput_lines(text, minutes, statistics.median(stalled[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    parser.add_argument("--minutes", type=float, default=10, help="the long session (default 10)")
    parser.add_argument("--write", action="store_true", help="replace docs/benchmarks.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kchain-bench-") as folder:
        text = prepare(Path(folder))
        lines = []
        for line in page(text, given.rounds, given.minutes):
            print(line, flush=True)
            lines.append(line)
    if given.write:
        PAGE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
