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
from sessions import VALIDATION_BLOCKS, goodput, guides_data, ours_data, seek, stalls, startup
from throughput import WARM_UP, parts, throughput, throughput_table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
WIKITEXT_103_ROWS = 1_801_350  # of the training split, as published
WIKITEXT_103_TOKENS = 118e6  # of GPT-2's vocabulary, roughly: 116 to 122 M
PRESET = json.loads((loops.KERNEL / "presets.json").read_text())["wikitext103"]
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
        f"prepared, files cached | {spread(startup(text, rounds))} s |"
    )
    for batch, values in zip(("0", "10,000", "14,000"), seek(rounds), strict=True):
        yield (
            f"| finding and reading batch {batch} of an epoch of WikiText-103 | "
            f"{spread(values, scale=1000, digits=1)} ms |"
        )
    for size, values in zip(("10.0 M", "19.3 M"), stalled, strict=True):
        yield f"| a save after the first holds the training up, {size} | {spread(values, scale=1000)} ms |"


def goodput_lines(text: Text, minutes: float) -> Iterator[str]:
    session, guides_row = goodput(text, minutes), guides_data(text)
    verdict, seconds = session.verdict, session.verdict["seconds"]
    steps = verdict["last_step"] - verdict["first_step"]
    yield (
        f"A second session through the rendered notebook and papermill: {session.wall:.0f} s, "
        f"{steps} steps, {session.saves} saves, ended `{verdict['outcome']}`."
    )
    yield (
        f"**{100 * session.share:.1f} %** of the wall time went into optimizer steps, the writer's "
        f"slowdown not counted as such; the verdict, which does count it, says "
        f"{100 * verdict['goodput']:.1f} %."
    )
    yield (
        f"Before the first step: {session.start:.1f} s, of them {seconds['data']:.1f} s for data, "
        "the rest for the notebook, the parent's verification, imports, and the validation that "
        "checks the resume."
    )
    error = statistics.pstdev(session.slowdowns) / max(1, len(session.slowdowns) - 1) ** 0.5
    yield (
        f"Each save slowed the steps beside it by {1000 * statistics.mean(session.slowdowns):.0f} "
        f"ms (standard error {1000 * error:.0f} ms), on two cores that the training uses both."
    )
    blocks = steps * loops.BATCH * loops.ACCUMULATION
    validated = seconds["evaluate"] / (session.validations * VALIDATION_BLOCKS)  # one block
    more = (PRESET["evaluation_blocks"] - VALIDATION_BLOCKS) * validated  # to check the resume
    start = session.start - seconds["data"] + more
    saves = SESSION_SECONDS / 60 * session.slowdown
    trained = PRESET["evaluation_steps"] * PRESET["batch_size"] * PRESET["accumulation"]
    a_validation = PRESET["evaluation_blocks"] * validated
    validations = SESSION_SECONDS * a_validation / (trained * seconds["train"] / blocks)
    tokenised = WIKITEXT_103_TOKENS * ours_data(text)
    guide = guides_row * WIKITEXT_103_ROWS + start
    ways = [
        ("kchain, tokens.bin attached", start, saves, validations, 1.0),
        ("kchain, tokenising WikiText-103 first", start + tokenised, saves, validations, 1.0),
        ("the guide's way", guide, 0.0, 0.0, text.useful_share),
    ]
    yield ""
    yield (
        "What follows for 12 billed hours from these parts, with a save a minute and the preset's "
        "validations, the one that checks the resume included. The guide's saves, validations and lost tail are not held against it. The "
        "reserve of 90 s before the limit is neither used nor billed."
    )
    yield ""
    yield "| | Before the first step | Saves | Validations | In steps | Useful positions | Both |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for title, *parts_of_it, useful in ways:
        share = 1 - sum(parts_of_it) / SESSION_SECONDS
        cells = " | ".join(f"{part:,.0f} s" for part in parts_of_it)
        yield (
            f"| {title} | {cells} | {100 * share:.2f} % | {100 * useful:.1f} % | "
            f"{100 * share * useful:.1f} % |"
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
    yield "What keeps kchain from the limit, fp32, its default dropout:"
    yield ""
    yield from parts(text)
    yield ""
    yield "## Start, position, saves"
    yield ""
    stalled = [stalls(text, loop, rounds) for loop in ("ours-saving", "ours-19m-saving")]
    yield from other_figures(text, rounds, stalled)
    yield ""
    yield "## Goodput"
    yield ""
    yield from goodput_lines(text, minutes)


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
