"""The data as the training sees it: one row of tokens, and which of them a step trains on.

Articles stand in one stream with an end-of-text token after each, and the stream is cut into blocks
of equal length: nothing is padded, so every computed position trains (padding each row of WikiText
to 512 wastes 87 %). The order of blocks is a pure function of (seed, step, micro-batch): there is
no sampler whose state a checkpoint could lose. corpus.py makes the stream.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from parameters import Settings


@dataclass(frozen=True)
class Data:
    """Two streams of tokens (uint16), mapped from tokens.bin, and the facts of tokens.json."""

    train: np.ndarray
    validation: np.ndarray
    facts: dict

    @property
    def tokenizer_file(self) -> Path:
        return Path(self.facts["folder"]) / "tokenizer.json"


def load_data(folder: Path) -> Data:
    """What corpus.py prepared in `folder`, which verified it."""
    facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    tokens = np.memmap(Path(facts["folder"]) / "tokens.bin", dtype="<u2", mode="r")
    border = facts["train_tokens"]
    return Data(tokens[:border], tokens[border:], facts)


def count_blocks(tokens: np.ndarray, block_tokens: int) -> int:
    """Blocks in a stream: block i reads tokens [i*T, (i+1)*T], its targets begin one later."""
    return max(0, (len(tokens) - 1) // block_tokens)


@functools.lru_cache(maxsize=2)  # a step can touch two epochs
def block_order(seed: int, epoch: int, blocks: int) -> np.ndarray:
    """One epoch's order of all blocks, from PCG64's raw stream, which NumPy promises to keep."""
    return np.argsort(np.random.PCG64([seed, epoch]).random_raw(blocks), kind="stable")


def sample_ids(settings: Settings, blocks: int, step: int, micro: int) -> np.ndarray:
    """The blocks of one micro-batch; `step` counts optimizer steps done, `micro` from 0.

    Steps follow each other through the epochs without a gap: each block is read exactly once in
    every epoch, and the step that ends one epoch may begin the next.
    """
    first = (step * settings.accumulation + micro) * settings.batch_size
    places = range(first, first + settings.batch_size)
    return np.array(
        [block_order(settings.seed, place // blocks, blocks)[place % blocks] for place in places]
    )


def epoch_of(settings: Settings, blocks: int, step: int) -> int:
    """The 1-based epoch that contains step `step` (1-based): the one in which it begins."""
    return max(0, step - 1) * settings.batch_size * settings.accumulation // blocks + 1


def micro_seed(seed: int, step: int, micro: int) -> int:
    """The seed of one micro-batch's dropout: a resumed session draws what the first would have."""
    return int(np.random.SeedSequence([seed, step, micro]).generate_state(1, np.uint64)[0] >> 1)


def read_blocks(tokens: torch.Tensor, ids: np.ndarray, block_tokens: int):
    """Blocks `ids` of a token stream: inputs and targets, each (len(ids), block_tokens) int64."""
    starts = torch.from_numpy(ids).to(tokens.device) * block_tokens
    places = starts[:, None] + torch.arange(block_tokens + 1, device=tokens.device)
    rows = tokens[places].long()
    return rows[:, :-1], rows[:, 1:]
