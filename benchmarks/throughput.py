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


@dataclass(frozen=True)
class Row:
    """One loop of the comparison: which it is, what it computes with, what a reader is told."""

    loop: str
    title: str
    precision: str
    dropout: str
    launched: bool = False  # with the variables that kchain's launcher sets


PLAIN = "plain loop in nanoGPT's manner"
ROWS = [
    Row("guide", "the guide's way: rows padded to 512, transformers' model", "fp32", "0.1"),
    Row("trainer", "Hugging Face's Trainer, packed", "fp32", "0.1"),
    Row("plain-attention-dropout", PLAIN, "fp32", "0.1"),
    Row("plain", PLAIN, "fp32", "0.1, attention 0"),
    Row("plain-bf16", PLAIN, "bf16", "0.1, attention 0"),
    Row("plain-attention-dropout", f"{PLAIN}, kchain's environment", "fp32", "0.1", launched=True),
    Row("plain", f"{PLAIN}, kchain's environment", "fp32", "0.1, attention 0", launched=True),
    Row("plain-bf16", f"{PLAIN}, kchain's environment", "bf16", "0.1, attention 0", launched=True),
    Row("ours-attention-dropout", "**kchain**", "fp32", "0.1", launched=True),
    Row("ours", "**kchain, defaults**", "fp32", "0.1, attention 0", launched=True),
    Row("ours-bf16", "**kchain**", "bf16", "0.1, attention 0", launched=True),
    Row("matrices", "matrix products alone", "fp32", ""),
    Row("matrices-bf16", "matrix products alone", "bf16", ""),
]
PAIRS = [  # title, kchain's row, the other row and whether that has kchain's environment
    ("guide's way, same dropout", "ours-attention-dropout", ("guide", False)),
    ("guide's way, defaults", "ours", ("guide", False)),
    ("guide's way, bf16", "ours-bf16", ("guide", False)),
    ("Trainer, same dropout", "ours-attention-dropout", ("trainer", False)),
    (
        "plain loop, dropout in attention",
        "ours-attention-dropout",
        ("plain-attention-dropout", False),
    ),
    ("plain loop, defaults", "ours", ("plain", False)),
    ("plain loop, bf16", "ours-bf16", ("plain-bf16", False)),
    (
        "plain loop in kchain's environment, dropout in attention",
        "ours-attention-dropout",
        ("plain-attention-dropout", True),
    ),
    ("plain loop in kchain's environment, defaults", "ours", ("plain", True)),
    ("plain loop in kchain's environment, bf16", "ours-bf16", ("plain-bf16", True)),
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
    say("starting the loops")
    ours = launcher_environment(text.folder)
    running = [Loop(row.loop, text.folder, ours if row.launched else {}) for row in ROWS]
    found: dict[int, list[float]] = {number: [] for number in range(len(ROWS))}
    say("rounds")
    for turn in range(WARM_UP + rounds):
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


def throughput_table(text: Text, found: dict[int, list[float]]) -> Iterator[str]:
    medians = {number: statistics.median(values) for number, values in found.items()}
    by_loop = {(row.loop, row.launched): number for number, row in enumerate(ROWS)}
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
    yield "| kchain against | Median of the ratios | Spread |"
    yield "| --- | ---: | ---: |"
    for title, mine, other in PAIRS:
        pair = zip(found[by_loop[mine, True]], found[by_loop[other]], strict=True)
        ratios = [one / two for one, two in pair]
        yield (
            f"| {title} | {statistics.median(ratios):.2f}x | {min(ratios):.2f}-{max(ratios):.2f} |"
        )


def parts(text: Text) -> Iterator[str]:
    """Where the time of one default step goes, by PyTorch's profiler."""
    say("profile")
    running = Loop("ours-profile", text.folder, launcher_environment(text.folder))
    for _ in range(WARM_UP + 1):
        facts = running.step()
    running.close()
    yield "| Operators | Share of all operators' time |"
    yield "| --- | ---: |"
    for part, share in facts["parts"].items():
        yield f"| {part} | {100 * share:.1f} % |"
