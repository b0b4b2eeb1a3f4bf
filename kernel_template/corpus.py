"""The corpus: from text to tokens.bin, prepared before the training starts.

Kinds of corpus (presets.json): `python_topics`, the text of Python's own documentation, present on
every machine; `hub`, a dataset of the Hugging Face Hub, or the same attached to the notebook:
    tokens.bin, tokens.json, tokenizer.json     tokenised before; used when present
    *train*.parquet, *valid*.parquet (or .arrow, .txt), tokenizer.json      tokenised here
tokens.bin is uint16, little-endian, training tokens first; tokens.json describes it.

Started by launch.py. By hand, to attach what it makes and tokenise only once:
    python corpus.py wikitext103 FOLDER
"""

import errno
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from parameters import Settings, merge_settings, parse_parameters, read_parameters
from session import CONTRACT, Ending, Refusal, Session, find_files, find_paths, session_started_at
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"  # GPT-2's own name for it
TOKENS, DESCRIPTION, TOKENIZER = "tokens.bin", "tokens.json", "tokenizer.json"
TEXT_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".txt": "text", ".raw": "text"}
ARTICLE_HEADING = re.compile(r" = [^=].* = ?")  # WikiText: " = Title = "; sections have more signs


@dataclass(frozen=True)
class Corpus:
    """Two streams of tokens (uint16), the tokenizer that made them, and where they came from."""

    train: np.ndarray
    validation: np.ndarray
    tokenizer: Tokenizer
    source: str  # for a person


def prepare(settings: Settings, input_dir: Path, folder: Path) -> dict:
    """Leave tokens.json in `folder`, and beside it tokens.bin unless that is attached already.

    Returns its facts: `train_tokens`, `validation_tokens`, `sha256` of tokens.bin,
    `tokenizer_sha256` of the vocabulary, `end_of_text`, `vocab_size`, `source` for a person, and
    the `folder` that holds tokens.bin and tokenizer.json.
    """
    began_at = time.monotonic()
    is_text = settings.corpus["kind"] == "python_topics"
    facts = None if is_text else find_attached_tokens(input_dir)
    if facts is None:
        load = load_python_topics if is_text else load_text
        facts = write_tokens(load(settings, input_dir), folder)
    check_fit(facts, settings)
    facts["seconds"] = round(time.monotonic() - began_at, 2)
    (folder / DESCRIPTION).write_text(json.dumps(facts, indent=1))
    return facts


def check_fit(facts: dict, settings: Settings) -> None:
    """Refuse a corpus that is too small for one step, or whose words the model has no room for."""
    if facts["vocab_size"] > settings.vocab_size:
        detail = f"the tokenizer has {facts['vocab_size']} words, vocab_size is "
        raise Refusal("config_mismatch", f"{detail}{settings.vocab_size}")
    step = settings.batch_size * settings.accumulation * settings.block_tokens
    for name, need in (("train", step), ("validation", settings.block_tokens)):
        if (tokens := facts[f"{name}_tokens"]) <= need:  # a block's targets begin one token later
            detail = f"{facts['source']}: {tokens} {name} tokens are fewer than one step needs"
            raise Refusal("data_missing", detail)


def write_tokens(corpus: Corpus, folder: Path) -> dict:
    """Write tokens.bin and tokenizer.json; return their facts."""
    tokens = np.concatenate([corpus.train, corpus.validation]).astype("<u2", copy=False)
    tokens.tofile(folder / TOKENS)
    corpus.tokenizer.save(str(folder / TOKENIZER))
    return {
        "contract": CONTRACT,
        "train_tokens": len(corpus.train),
        "validation_tokens": len(corpus.validation),
        "sha256": hashlib.sha256(tokens).hexdigest(),
        **describe_tokenizer(corpus.tokenizer),
        "source": corpus.source,
        "folder": str(folder.resolve()),
    }


def describe_tokenizer(tokenizer: Tokenizer) -> dict:
    """Its identity is the vocabulary alone: the file's other fields change with the library."""
    vocabulary = sorted((number, word) for word, number in tokenizer.get_vocab().items())
    return {
        "tokenizer_sha256": hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest(),
        "end_of_text": tokenizer.token_to_id(END_OF_TEXT),
        "vocab_size": tokenizer.get_vocab_size(),
    }


def find_attached_tokens(input_dir: Path) -> dict | None:
    """The facts of a tokens.bin below the input; refused if it is not what its manifest says."""
    described = _find_file(input_dir, DESCRIPTION)
    if described is None:
        return None
    facts = read_description(described)
    path, vocabulary = described.with_name(TOKENS), described.with_name(TOKENIZER)
    if facts is None or not path.is_file() or not vocabulary.is_file():
        detail = f"{described} needs {TOKENS} and {TOKENIZER} beside it, of contract {CONTRACT}"
        raise Refusal("data_missing", detail)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    words = path.stat().st_size // 2
    if found != facts["sha256"] or words != facts["train_tokens"] + facts["validation_tokens"]:
        raise Refusal("data_mismatch", f"{path} is not what {described.name} lists")
    facts.update(describe_tokenizer(Tokenizer.from_file(str(vocabulary))))
    return {**facts, "source": f"{path}, tokenised before", "folder": str(path.parent)}


def read_description(path: Path) -> dict | None:
    """The facts about a tokens.bin, or None if this contract cannot read them."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    numbers = ("contract", "train_tokens", "validation_tokens")
    known = isinstance(facts, dict) and all(isinstance(facts.get(key), int) for key in numbers)
    return facts if known and facts["contract"] == CONTRACT and "sha256" in facts else None


def load_python_topics(settings: Settings, _input_dir: Path) -> Corpus:
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
    return Corpus(
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


def load_text(settings: Settings, input_dir: Path) -> Corpus:
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
        if error.errno == errno.ENOSPC:
            raise
        reason = "data_missing" if is_reachable else "no_internet"
        raise Refusal(reason, f"{corpus['path']} could not be loaded: {error}") from error
    streams = [
        encode(tokenizer, join_articles(corpora[split], corpus["text_column"]))
        for split in ("train", "validation")
    ]
    source = str(attached["train"][0].parent) if attached else f"the Hub's {corpus['path']}"
    return Corpus(*streams, tokenizer, source)


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
    attached = _find_file(input_dir, TOKENIZER)
    if attached is None:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only when it is needed

        attached = hf_hub_download(name, TOKENIZER)
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


def main() -> None:
    if len(sys.argv) == 3:
        preset, folder = sys.argv[1], Path(sys.argv[2])
        folder.mkdir(parents=True, exist_ok=True)
        facts = prepare(merge_settings(preset, {}), find_paths().input, folder)
        print(json.dumps(facts, indent=1))
        return
    paths = find_paths()
    raw = read_parameters(paths)
    session = Session(raw, paths, session_started_at(paths))
    session.spend("data")
    try:
        settings = parse_parameters(raw).settings
        facts = prepare(settings, paths.input, Path(os.environ["KCHAIN_DATA_DIR"]))
    except Ending as ending:
        print(f"{ending.outcome} ({ending.reason}): {ending.detail}")
        session.finish(ending)
        return
    session.progress("data", message=facts["source"], seconds=facts["seconds"])
    session.spend("startup")
    session.write_verdict("running", detail="the data is prepared")


if __name__ == "__main__":
    main()
