"""Loops that alternate, and the tables of what they reached."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loops
from corpora import Text, quiet, say

WARM_UP = 2
POSITIONS = loops.BATCH * loops.ACCUMULATION * loops.TOKENS  # of one optimizer step
MATRIX_WEIGHTS = 50_304 * loops.WIDTH + 12 * loops.LAYERS * loops.WIDTH**2
# Multiplications and additions of one token, forward and backward: 6 a weight, and causal attention.
FLOPS_A_TOKEN = 6 * MATRIX_WEIGHTS + 6 * loops.LAYERS * loops.TOKENS * loops.WIDTH
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**40)}


@dataclass(frozen=True)
class Row:
    """One loop of the comparison: which it is, what it computes with, what a reader is told."""

    loop: str
    title: str
    precision: str
    dropout: str
    environment: str = ""  # "ours": the variables that the launcher sets


ROWS = [
    Row("guide", "the guide's way: rows padded to 512, transformers' model", "fp32", "0.1"),
    Row("trainer", "Hugging Face's Trainer, packed", "fp32", "0.1"),
    Row("plain-attention-dropout", "plain loop in nanoGPT's manner", "fp32", "0.1"),
    Row("plain", "plain loop in nanoGPT's manner", "fp32", "0.1, attention 0"),
    Row("plain", "the same with kchain's allocator settings", "fp32", "0.1, attention 0", "ours"),
    Row("plain-bf16", "plain loop in nanoGPT's manner", "bf16", "0.1, attention 0"),
    Row("ours-attention-dropout", "**kchain**", "fp32", "0.1", "ours"),
    Row("ours", "**kchain, defaults**", "fp32", "0.1, attention 0", "ours"),
    Row("ours-bf16", "**kchain**", "bf16", "0.1, attention 0", "ours"),
    Row("matrices", "matrix products alone", "fp32", ""),
    Row("matrices-bf16", "matrix products alone", "bf16", ""),
]


class Loop:
    """A loop in its own process, which takes a step each time it is asked."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", loops.__file__, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **quiet(), **environment},
        )
        self._first = self._read()  # taken while starting

    def step(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                facts: dict[str, Any] = json.loads(line)
                return facts
        _, errors = self.process.communicate()
        raise SystemExit(f"a loop ended: {errors[-2000:]}")

    def close(self) -> None:
        self.process.communicate()


def launcher_environment(folder: Path) -> dict[str, str]:
    """What the launcher gives its training process, from the launcher itself."""
    code = (
        "import json, launch, loops, parameters;"
        "p = parameters.parse_parameters(loops.session_parameters());"
        f"print(json.dumps(launch.make_environment(p, 0.0, {str(folder)!r})))"
    )
    path = os.pathsep.join([str(loops.KERNEL), str(Path(__file__).parent)])
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    environment: dict[str, str] = json.loads(told.stdout)
    del environment["KCHAIN_SESSION_STARTED_AT"]
    return {key: value for key, value in environment.items() if os.environ.get(key) != value}


def throughput(text: Text, rounds: int) -> dict[int, list[float]]:
    """Real tokens per second of every row, one value a round; flop/s for the matrix products."""
    ours = launcher_environment(text.folder)
    running = [
        Loop(row.loop, text.folder, pick(row, ours)) for row in say(ROWS, "starting the loops")
    ]
    found: dict[int, list[float]] = {number: [] for number in range(len(ROWS))}
    for turn in say(range(WARM_UP + rounds), "rounds"):
        for place in range(len(ROWS)):
            number = (place + turn) % len(ROWS)
            facts = running[number].step()
            useful = text.useful_share if ROWS[number].loop == "guide" else 1.0
            value = facts.get("flops") or POSITIONS * useful / facts["seconds"]
            if turn >= WARM_UP:
                found[number].append(value)
    for loop in running:
        loop.close()
    return found


def pick(row: Row, ours: dict[str, str]) -> dict[str, str]:
    if row.environment != "ours":
        return {}
    return ours if row.loop.startswith("ours") else ALLOCATOR


def throughput_table(text: Text, found: dict[int, list[float]]) -> Iterator[str]:
    medians = {number: statistics.median(values) for number, values in found.items()}
    by_loop = {(row.loop, row.environment): number for number, row in enumerate(ROWS)}
    limits = {
        row.precision: medians[number] / FLOPS_A_TOKEN
        for number, row in enumerate(ROWS)
        if row.loop.startswith("matrices")
    }
    yield "| Loop | Precision | Dropout | Real tokens/s | Spread | Guide's way | Limit |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for number, row in enumerate(ROWS):
        values = found[number]
        if row.loop.startswith("matrices"):
            values = [value / FLOPS_A_TOKEN for value in values]
        middle = statistics.median(values)
        yield (
            f"| {row.title} | {row.precision} | {row.dropout} | {middle:,.0f} | "
            f"{min(values):,.0f}-{max(values):,.0f} | {middle / medians[0]:.1f}x | "
            f"{100 * middle / limits[row.precision]:.0f} % |"
        )
    yield ""
    pairs = [
        ("guide's way, same dropout", ("ours-attention-dropout", "ours"), ("guide", "")),
        ("guide's way, defaults", ("ours", "ours"), ("guide", "")),
        ("guide's way, bf16", ("ours-bf16", "ours"), ("guide", "")),
        ("plain loop, defaults", ("ours", "ours"), ("plain", "")),
        ("plain loop with kchain's allocator settings", ("ours", "ours"), ("plain", "ours")),
        ("plain loop, dropout in attention", ("ours-attention-dropout", "ours"), PLAIN_DROPOUT),
        ("plain loop, bf16", ("ours-bf16", "ours"), ("plain-bf16", "")),
        ("Trainer, same dropout", ("ours-attention-dropout", "ours"), ("trainer", "")),
    ]
    yield "| kchain against | Median of the ratios | Spread |"
    yield "| --- | ---: | ---: |"
    for title, mine, other in pairs:
        pair = zip(found[by_loop[mine]], found[by_loop[other]], strict=True)
        ratios = [one / two for one, two in pair]
        yield (
            f"| {title} | {statistics.median(ratios):.2f}x | {min(ratios):.2f}-{max(ratios):.2f} |"
        )


PLAIN_DROPOUT = ("plain-attention-dropout", "")
