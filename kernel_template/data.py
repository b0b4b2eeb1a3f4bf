"""The data: from text to one long row of tokens, and which of them a step trains on.

Articles are joined into one stream with an end-of-text token after each, and the stream is cut
into blocks of equal length: nothing is padded, so every computed position trains (padding each row
of WikiText to 512 wastes 87 %). The order of blocks is a pure function of (seed, step,
micro-batch): there is no sampler whose state a checkpoint could lose.

Kinds of corpus (presets.json): `python_topics`, the text of Python's own documentation, present on
every machine; `hub`, a dataset of the Hugging Face Hub, or the same attached to the notebook:
    tokens.bin, tokens.json, tokenizer.json     tokenised before; used when present
    *train*.parquet, *valid*.parquet (or .arrow, .txt), tokenizer.json      tokenised here
tokens.bin is uint16, little-endian, training tokens first; tokens.json says `contract`,
`train_tokens`, `validation_tokens`, and the `sha256` of tokens.bin.
"""

import functools
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
from parameters import Settings
from session import CONTRACT, Refusal, find_files, sha256_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"  # GPT-2's own name for it
TEXT_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".txt": "text", ".raw": "text"}
ARTICLE_HEADING = re.compile(r" = [^=].* = ?")  # WikiText: " = Title = "; sections have more signs


@dataclass(frozen=True)
class Data:
    """Two streams of tokens (uint16), the tokenizer that made them, and their identity."""

    train: np.ndarray
    validation: np.ndarray
    tokenizer: Tokenizer
    source: str  # for a person

    @functools.cached_property
    def sha256(self) -> str:
        """Of both streams: equal hashes mean equal training data, wherever it came from."""
        digest = hashlib.sha256(f"{len(self.train)},{len(self.validation)};".encode())
        digest.update(self.train.astype("<u2", copy=False))
        digest.update(self.validation.astype("<u2", copy=False))
        return digest.hexdigest()

    @functools.cached_property
    def tokenizer_sha256(self) -> str:
        """Of the vocabulary alone: the file's other fields change with the library's version."""
        vocabulary = sorted((number, word) for word, number in self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    @property
    def end_of_text(self) -> int:
        return self.tokenizer.token_to_id(END_OF_TEXT)


def load_data(settings: Settings, input_dir: Path) -> Data:
    """The corpus that the settings describe, tokenised; refused if it cannot be had whole."""
    if settings.corpus["kind"] == "python_topics":
        data = _load_python_topics(settings)
    else:
        data = _load_attached_tokens(input_dir) or _load_text(settings, input_dir)
    words = data.tokenizer.get_vocab_size()
    if words > settings.vocab_size:
        detail = f"the tokenizer has {words} words, vocab_size is {settings.vocab_size}"
        raise Refusal("config_mismatch", detail)
    for name, stream, blocks in (
        ("training", data.train, settings.batch_size * settings.accumulation),
        ("validation", data.validation, 1),
    ):
        if count_blocks(stream, settings.block_tokens) < blocks:
            detail = f"{data.source}: {len(stream)} {name} tokens are fewer than one step needs"
            raise Refusal("data_missing", detail)
    return data


def _load_python_topics(settings: Settings) -> Data:
    """The language reference that ships with Python as help topics, and a tokenizer made from it."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte of text

    from datasets import Dataset  # noqa: PLC0415 - takes a second

    corpus = settings.corpus
    articles, characters = [], 0
    for name in sorted(topics):
        if characters < corpus["characters"]:
            articles.append(topics[name])
            characters += len(topics[name])
    kept = 1 - corpus["validation_share"]  # the end of every article is for validation
    train = Dataset.from_dict({"text": [text[: int(len(text) * kept)] for text in articles]})
    validation = Dataset.from_dict({"text": [text[int(len(text) * kept) :] for text in articles]})
    tokenizer = train_tokenizer(train["text"], settings.vocab_size)
    return Data(
        encode(tokenizer, train["text"]),
        encode(tokenizer, validation["text"]),
        tokenizer,
        f"Python's help topics, {characters} characters",
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE like GPT-2's; the same texts always give the same one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, articles: Iterable[str]) -> np.ndarray:
    """All articles as one uint16 stream, each followed by the end-of-text token."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    if end_of_text is None:
        raise Refusal("config_mismatch", f"the tokenizer has no {END_OF_TEXT}")
    parts, articles = [], iter(articles)
    while batch := list(islice(articles, 256)):  # encoded on all cores
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            parts.append(np.array([*encoding.ids, end_of_text], dtype=np.uint16))
    return np.concatenate(parts) if parts else np.empty(0, np.uint16)


def _load_attached_tokens(input_dir: Path) -> Data | None:
    """tokens.bin below the input, if its manifest is beside it and agrees with it."""
    described = _find_file(input_dir, "tokens.json")
    if described is None:
        return None
    facts = json.loads(described.read_text(encoding="utf-8"))
    path = described.with_name("tokens.bin")
    if facts.get("contract") != CONTRACT or not path.is_file():
        raise Refusal("data_missing", f"{described} lists no tokens.bin of contract {CONTRACT}")
    if sha256_file(path) != facts["sha256"]:
        raise Refusal("data_mismatch", f"{path} is not what {described.name} lists")
    tokens = np.fromfile(path, dtype="<u2")
    border = facts["train_tokens"]
    if len(tokens) != border + facts["validation_tokens"]:
        raise Refusal("data_mismatch", f"{path} has {len(tokens)} tokens, not what is listed")
    tokenizer = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    return Data(tokens[:border], tokens[border:], tokenizer, f"{path}, tokenised before")


def _load_text(settings: Settings, input_dir: Path) -> Data:
    """Text attached to the notebook, else from the Hub, tokenised now."""
    corpus = settings.corpus
    attached = find_text(input_dir)
    is_reachable = attached is not None or _is_hub_reachable()
    if not is_reachable:  # before the Hub's client is imported: it would retry for half a minute
        os.environ["HF_HUB_OFFLINE"] = "1"
    from datasets import disable_progress_bars, load_dataset  # noqa: PLC0415 - takes a second

    disable_progress_bars()
    try:
        if attached:
            files = {split: [str(path) for path in paths] for split, paths in attached.items()}
            corpora = load_dataset(TEXT_FORMATS[attached["train"][0].suffix], data_files=files)
        else:
            corpora = load_dataset(corpus["path"], corpus["name"])  # a cached copy serves offline
        tokenizer = _load_tokenizer(settings.tokenizer["path"], input_dir)
    except OSError as error:  # every error of the Hub's client is one
        reason = "data_missing" if is_reachable else "no_internet"
        raise Refusal(reason, f"{corpus['path']} could not be loaded: {error}") from error
    streams = [
        encode(tokenizer, join_articles(corpora[split], corpus["text_column"]))
        for split in ("train", "validation")
    ]
    source = str(attached["train"][0].parent) if attached else f"the Hub's {corpus['path']}"
    return Data(*streams, tokenizer, source)


def _is_hub_reachable() -> bool:
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if getproxies().keys() & {"https", "all"}:  # then a direct connection proves nothing
        return True
    try:
        socket.create_connection((hub.hostname, hub.port or 443), timeout=10).close()
    except OSError:
        return False
    return True


def _load_tokenizer(name: str, input_dir: Path) -> Tokenizer:
    attached = _find_file(input_dir, "tokenizer.json")
    if attached is None:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only when it is needed

        attached = hf_hub_download(name, "tokenizer.json")
    return Tokenizer.from_file(str(attached))


def _find_file(folder: Path, name: str) -> Path | None:
    return next((path for path in find_files(folder) if path.name == name), None)


def find_text(input_dir: Path) -> dict[str, list[Path]] | None:
    """Attached text files by split; the split is in the file's name, or in its folder's."""
    splits = {"train": [], "valid": [], "test": []}
    for path in find_files(input_dir):
        if path.suffix in TEXT_FORMATS and "checkpoint" not in path.name:
            names = (path.name.lower(), path.parent.name.lower())
            split = next((s for name in names for s in ("valid", "test", "train") if s in name), "")
            splits.setdefault(split, []).append(path)
    if not splits["train"]:
        return None
    if not splits["valid"]:
        raise Refusal("data_missing", f"{splits['train'][0]} has no validation file beside it")
    return {"train": splits["train"], "validation": splits["valid"]}


def join_articles(dataset, column: str) -> Iterator[str]:
    """WikiText's rows are lines; a heading begins an article, blank rows are dropped."""
    lines = []
    for rows in dataset.iter(batch_size=10_000):
        for row in rows[column]:
            if ARTICLE_HEADING.fullmatch(row.rstrip("\n")) and lines:
                yield "".join(lines)
                lines = []
            if row.strip():
                lines.append(row if row.endswith("\n") else f"{row}\n")
    if lines:
        yield "".join(lines)


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
