"""Corpora in every form they come in, and the order in which blocks are read."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

SETTINGS = {"block_tokens": 32, "vocab_size": 400}
ROWS = [
    row
    for number in range(30)
    for row in (
        "",
        f" = Article {number} = \n",
        "",
        f" It has {number} <unk> words @-@ and a line \n",
        " = = Section = = \n",
        " More of the same , repeated for the sake of length . \n" * 4,
    )
]

# What the Hub would send: parquet files, and a tokenizer that transformers saved.
MAKE_HUB_FORMAT = """
import json, sys
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
rows = json.load(open(sys.argv[1]))
folder = sys.argv[2]
Dataset.from_dict({"text": rows}).to_parquet(folder + "/train-00000-of-00001.parquet")
Dataset.from_dict({"text": rows[:60]}).to_parquet(folder + "/validation-00000-of-00001.parquet")
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
tokenizer.train_from_iterator(rows, trainer)
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
"""


@pytest.fixture(scope="module")
def hub_format(tmp_path_factory):
    folder, home = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("home")
    rows = home / "rows.json"
    rows.write_text(json.dumps(ROWS))
    subprocess.run(
        [sys.executable, "-c", MAKE_HUB_FORMAT, str(rows), str(folder)],
        check=True,
        timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)},
    )
    return folder


@pytest.fixture
def settings(load):
    def make(preset="wikitext103", **overrides):
        return load("parameters").merge_settings(preset, {**SETTINGS, **overrides})

    return make


@pytest.fixture
def corpus(load, settings, hub_format):
    return load("data").load_data(settings(), hub_format)


def test_a_hub_dataset_is_packed_with_an_end_of_text_after_each_article(corpus):
    text = corpus.tokenizer.decode(corpus.train.tolist(), skip_special_tokens=False)
    articles = text.split("<|endoftext|>")

    assert corpus.train.dtype == np.uint16
    assert len(articles) == 31
    assert articles[-1] == ""
    assert articles[7].startswith(" = Article 7 = \n It has 7 <unk> words")
    assert " = = Section = = \n" in articles[7]
    assert "\n\n" not in text
    assert np.count_nonzero(corpus.validation == corpus.end_of_text) == 10


def test_attached_text_files_give_the_same_tokens_as_the_hubs_parquet(
    load, settings, corpus, hub_format, tmp_path
):
    folder = tmp_path / "datasets" / "owner" / "wikitext"
    folder.mkdir(parents=True)
    for name, rows in (("wiki.train.txt", ROWS), ("wiki.valid.txt", ROWS[:60])):
        lines = [row if row.endswith("\n") else f"{row}\n" for row in rows]
        (folder / name).write_text("".join(lines))
    (folder / "wiki.test.txt").write_text("not for training\n")
    shutil.copy(hub_format / "tokenizer.json", folder)

    data = load("data").load_data(settings(), tmp_path)

    assert (data.sha256, data.tokenizer_sha256) == (corpus.sha256, corpus.tokenizer_sha256)


def test_attached_tokens_are_used_and_count_as_the_same_data(load, settings, corpus, tmp_path):
    tokens = np.concatenate([corpus.train, corpus.validation]).astype("<u2").tobytes()
    facts = {
        "contract": 1,
        "train_tokens": len(corpus.train),
        "validation_tokens": len(corpus.validation),
        "sha256": hashlib.sha256(tokens).hexdigest(),
    }
    (tmp_path / "tokens.bin").write_bytes(tokens)
    (tmp_path / "tokens.json").write_text(json.dumps(facts))
    corpus.tokenizer.save(str(tmp_path / "tokenizer.json"))

    data = load("data").load_data(settings(), tmp_path)

    assert "tokenised before" in data.source
    assert (data.sha256, data.tokenizer_sha256) == (corpus.sha256, corpus.tokenizer_sha256)

    (tmp_path / "tokens.bin").write_bytes(tokens[:-2] + b"\1\0")
    with pytest.raises(load("session").Refusal) as refusal:
        load("data").load_data(settings(), tmp_path)
    assert refusal.value.reason == "data_mismatch"


def test_a_corpus_without_its_validation_half_is_refused(load, settings, hub_format, tmp_path):
    shutil.copy(next(hub_format.glob("train*.parquet")), tmp_path)

    with pytest.raises(load("session").Refusal) as refusal:
        load("data").load_data(settings(), tmp_path)

    assert refusal.value.reason == "data_missing"


def test_a_tokenizer_larger_than_the_model_is_refused(load, settings, hub_format):
    with pytest.raises(load("session").Refusal) as refusal:
        load("data").load_data(settings(vocab_size=300), hub_format)

    assert refusal.value.reason == "config_mismatch"


def test_no_internet_and_no_attached_data_is_said(new_place, parameters):
    place = new_place()
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "")

    place.run(parameters(preset="wikitext103"), HF_ENDPOINT="http://127.0.0.1:9", **proxies)

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("refused", "no_internet")
    assert "Salesforce/wikitext" in place.verdict["detail"]


@pytest.mark.slow
def test_a_chain_on_a_hub_dataset_refuses_other_data(new_place, parameters, hub_format, kernel):
    overrides = {**SETTINGS, "batch_size": 2, "n_head": 2, "max_steps": 2, "steps_per_session": 1}
    before, after = new_place(), new_place()
    shutil.copytree(hub_format, before.input / "wikitext")
    before.run(parameters(overrides=overrides, preset="wikitext103"))

    assert before.verdict["last_step"] == 1

    before.publish(after.input / "tiny-checkpoints")
    shutil.copytree(before.input / "wikitext", after.input / "wikitext")
    (after.input / "wikitext" / "train-00000-of-00001.parquet").unlink()
    (after.input / "wikitext" / "train.txt").write_text("".join(ROWS[6:]))
    (after.input / "wikitext" / "valid.txt").write_text("".join(ROWS[:60]))
    (after.input / "wikitext" / "validation-00000-of-00001.parquet").unlink()
    after.run(parameters(2, before.parent(), overrides, preset="wikitext103"))

    assert (after.verdict["outcome"], after.verdict["reason"]) == ("refused", "data_mismatch")


def test_every_block_is_read_exactly_once_in_every_epoch(load, settings):
    data = load("data")
    chosen = settings("rehearsal", batch_size=3, accumulation=2)
    blocks = 20  # no multiple of the step's 6 blocks
    read = np.concatenate(
        [data.sample_ids(chosen, blocks, step, micro) for step in range(10) for micro in range(2)]
    )

    epochs = read.reshape(3, blocks)

    assert [sorted(epoch) for epoch in epochs] == [list(range(blocks))] * 3
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_step_belongs_to_the_epoch_in_which_it_begins(load, settings):
    chosen = settings("rehearsal", batch_size=3, accumulation=2)

    epochs = [load("data").epoch_of(chosen, 20, step) for step in range(12)]

    assert epochs == [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]


def test_the_order_of_blocks_never_changes_between_versions(load):
    assert load("data").block_order(1, 0, 8).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]
    assert load("data").micro_seed(1, 2, 3) == 6498626229777268288


def test_targets_are_the_inputs_one_token_later(load):
    torch = pytest.importorskip("torch")

    inputs, targets = load("data").read_blocks(torch.arange(100), np.array([2, 0]), 10)

    assert inputs.tolist() == [list(range(20, 30)), list(range(10))]
    assert targets.tolist() == [list(range(21, 31)), list(range(1, 11))]


def test_the_rehearsals_data_is_the_same_every_time(load, settings):
    one, other = (load("data").load_data(settings("rehearsal"), None) for _ in range(2))

    assert (one.sha256, one.tokenizer_sha256) == (other.sha256, other.tokenizer_sha256)
    assert one.tokenizer.get_vocab_size() == 400
