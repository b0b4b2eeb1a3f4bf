"""Start, position, saves and goodput of whole sessions."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loops
from corpora import Text, quiet, say
from throughput import WARM_UP, Loop, launcher_environment


def startup(text: Text, rounds: int) -> list[float]:
    """Seconds from the training process's start to its first optimizer step, of one micro-batch."""
    say("starts")
    return [
        first_step(text, loops.session_parameters(batch_size=1, accumulation=1))
        for _ in range(rounds)
    ]


def first_step(text: Text, parameters: dict[str, Any]) -> float:
    with tempfile.TemporaryDirectory() as working:
        told = Path(working) / "session_parameters.json"
        told.write_text(json.dumps(parameters))
        environment = {
            **launcher_environment(text.folder),
            "KCHAIN_INPUT_DIR": str(text.folder / "no-input"),
            "KCHAIN_WORKING_DIR": working,
            "KCHAIN_PARAMETERS": str(told),
        }
        began_at = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-u", str(loops.KERNEL / "train.py")],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if '"event": "step"' in line:
                break
        seconds = time.perf_counter() - began_at
        process.kill()
        process.communicate()
    return seconds


SEEK = """
import time
import torch
import data, parameters
settings = parameters.merge_settings("wikitext103", {})
blocks = 120_000_000 // settings.block_tokens
tokens = torch.zeros(120_000_000, dtype=torch.int32)
for batch in (0, 10_000, 14_000):
    data.block_order.cache_clear()
    began_at = time.perf_counter()
    ids = data.sample_ids(settings, blocks, batch // settings.accumulation, 0)
    data.read_blocks(tokens, ids, settings.block_tokens)
    print(time.perf_counter() - began_at)
"""


def seek(rounds: int) -> list[list[float]]:
    """Seconds to find the blocks of batch 0, 10,000 and 14,000 of WikiText-103, nothing cached."""
    say("seeks")
    measured = [
        subprocess.run(
            [sys.executable, "-c", SEEK],
            env={**os.environ, "PYTHONPATH": str(loops.KERNEL)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(rounds)
    ]
    return [[float(values[place]) for values in measured] for place in range(3)]


def stalls(text: Text, loop: str, rounds: int) -> list[float]:
    """Seconds that a save holds the training up, one save after every step."""
    running = Loop(loop, text.folder, launcher_environment(text.folder))
    say(f"saves of {loop}")
    for _ in range(WARM_UP + rounds):
        facts = running.step()
    running.close()
    return [float(seconds) for seconds in facts["stalls"][-rounds:]]


VALIDATION_BLOCKS = 4  # 1 for every 500 trained in 250 steps, as in the preset
OURS_DATA = """
import sys, time
import corpus
from datasets import Dataset
from tokenizers import Tokenizer
rows = open(sys.argv[1] + "/bench.train.txt", encoding="utf-8").read().splitlines(keepends=True)
tokenizer, text = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json"), Dataset.from_dict({"text": rows})
began_at = time.perf_counter()
tokens = corpus.encode(tokenizer, corpus.join_articles(text, "text"))
print((time.perf_counter() - began_at) / len(tokens))
"""
GUIDES_DATA = """
import json, sys, time
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
folder = sys.argv[1]
rows = open(folder + "/text/bench.train.txt", encoding="utf-8").read().splitlines(keepends=True)
tokenizer = PreTrainedTokenizerFast(tokenizer_file=folder + "/text/tokenizer.json",
    eos_token="<|endoftext|>", pad_token="<|endoftext|>")
def encode(batch):
    return tokenizer(batch["text"], padding="max_length", truncation=True, max_length=512)
began_at = time.perf_counter()
Dataset.from_dict({"text": rows}).map(encode, batched=True)
print(json.dumps((time.perf_counter() - began_at) / len(rows)))
"""


def ours_data(text: Text) -> float:
    """Seconds to tokenise the text, for each token."""
    done = subprocess.run(
        [sys.executable, "-c", OURS_DATA, str(text.folder / "text")],
        env={**os.environ, **quiet(), "PYTHONPATH": str(loops.KERNEL)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def guides_data(text: Text) -> float:
    """Seconds to tokenise one row the guide's way: datasets.map, every row padded to 512."""
    done = subprocess.run(
        [sys.executable, "-c", GUIDES_DATA, str(text.folder)],
        env={**os.environ, **quiet(), "HF_HOME": str(text.folder / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Goodput:
    """One real session, from the notebook's start to its end; seconds."""

    wall: float
    saves: int
    start: float  # before the first step
    slowdowns: list[float]  # what the writer cost the steps beside it, for each save
    validations: int
    verdict: dict[str, Any]

    @property
    def slowdown(self) -> float:
        return max(0.0, statistics.mean(self.slowdowns))

    @property
    def share(self) -> float:
        """Of the wall time, what optimizer steps would have taken without the writer beside them."""
        return (self.verdict["seconds"]["train"] - self.saves * self.slowdown) / self.wall


def goodput(text: Text, minutes: float) -> Goodput:
    """A second session through the rendered notebook, as Kaggle runs it, until its time is up.

    Its first step comes after the notebook's start, the search and verification of its parent, the
    data, and the validation that shows the resume to be right.
    """
    rare = {"checkpoint_steps": 10**6, "checkpoint_seconds": 40}
    validation = {"evaluation_steps": 250, "evaluation_blocks": VALIDATION_BLOCKS}
    first = loops.session_parameters(**rare, **validation, steps_per_session=3)
    run_notebook(text, first, text.folder / "text")
    left = text.folder / "session-1" / "checkpoints"
    mounted = text.folder / "input"
    shutil.copytree(text.folder / "text", mounted)
    raw = (left / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    for name in [*manifest["publish"], "manifest.json"]:
        shutil.copy(left / name, mounted / name)
    entry = next(entry for entry in manifest["files"] if entry["name"] == manifest["latest"])
    parent = {
        "file": entry["name"],
        **{key: entry[key] for key in ("step", "bytes", "sha256")},
        "manifest_sha256": hashlib.sha256(raw).hexdigest(),
    }
    second = {
        **loops.session_parameters(**rare, **validation),
        "session": 2,
        "token": "kc1." + "c" * 26,
        "parent": parent,
        "time_budget_seconds": minutes * 60 + 90 + 30,  # the reserve, and some for start and end
    }
    found = measure(*run_notebook(text, second, mounted))
    if found.verdict["outcome"] != "out_of_time":
        raise SystemExit(f"the long session ended otherwise: {found.verdict}")
    return found


def run_notebook(
    text: Text, parameters: dict[str, Any], mounted: Path
) -> tuple[list[dict[str, Any]], float, dict[str, Any]]:
    """The session's progress lines with the seconds at which they came, its length, its verdict."""
    from orchestrator import kernel

    working = text.folder / f"session-{parameters['session']}"
    working.mkdir()
    notebook = working / "notebook.ipynb"
    notebook.write_text(kernel.render(parameters), "utf-8")
    environment = {
        "KCHAIN_INPUT_DIR": str(mounted),
        "KCHAIN_WORKING_DIR": str(working),
        "HF_HOME": str(text.folder / f"cache-{parameters['session']}"),
    }
    say(f"session {parameters['session']}")
    began_at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "papermill", "--log-output", str(notebook), os.devnull],
        env={**os.environ, **quiet(), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    events = [
        {**json.loads(line.partition("kchain: ")[2]), "at": time.perf_counter() - began_at}
        for line in process.stderr
        if "kchain: {" in line
    ]
    process.wait()
    wall = time.perf_counter() - began_at
    return events, wall, json.loads((working / "session.json").read_text())


def measure(events: list[dict[str, Any]], wall: float, verdict: dict[str, Any]) -> Goodput:
    """What a save costs the steps beside it: the log's stretches with one against those around.

    A stretch lies between two step lines. The machine's speed drifts over minutes, so each stretch
    with a save is compared with the four on either side that have none.
    """
    lines = [event for event in events if event["event"] in ("start", "step")]
    saves = [event["at"] for event in events if event["event"] == "checkpoint"]
    validations = [event["at"] for event in events if event["event"] == "validation"]
    stretches = [
        (
            (after["at"] - before["at"]) / (after["step"] - before["step"]),
            after["step"] - before["step"],
            any(before["at"] < at <= after["at"] for at in saves),
        )
        for before, after in itertools.pairwise(lines)
        if after["step"] > before["step"]
        and not any(before["at"] < at <= after["at"] for at in validations)
    ]
    extra = []
    for place, (seconds, steps, saved) in enumerate(stretches):
        around = stretches[max(0, place - 4) : place + 5]
        calm = [other for other, _, with_save in around if not with_save]
        if saved and calm:
            extra.append((seconds - statistics.median(calm)) * steps)
    return Goodput(
        wall=wall,
        saves=len(saves),
        start=lines[0]["at"],
        slowdowns=extra,
        validations=len(validations) + 1,  # and the one that checks the resume
        verdict=verdict,
    )
