"""Corpora in every form they come in, and the order in which blocks are read."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

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
def prepare(load, tmp_path_factory):
    """Prepare a corpus as a session does; return its facts, and the streams that training reads."""

    def run(settings, input_dir):
        folder = tmp_path_factory.mktemp("tokens")
        facts = load("corpus").prepare(settings, input_dir, folder)
        return facts, load("data").load_data(folder)

    return run


@pytest.fixture
def corpus(prepare, settings, hub_format):
    return prepare(settings(), hub_format)


@pytest.fixture
def mounted(hub_format, tmp_path):
    return shutil.copytree(hub_format, tmp_path / "input")


@pytest.fixture
def refusal(load):
    return load("session").Refusal


def identity(facts):
    return facts["sha256"], facts["train_tokens"], facts["tokenizer_sha256"]


def test_a_hub_dataset_is_packed_with_an_end_of_text_after_each_article(corpus):
    facts, data = corpus
    tokenizer = Tokenizer.from_file(str(data.tokenizer_file))
    text = tokenizer.decode(data.train.tolist(), skip_special_tokens=False)
    articles = text.split("<|endoftext|>")

    assert data.train.dtype == np.uint16
    assert len(articles) == 31
    assert articles[-1] == ""
    assert articles[7].startswith(" = Article 7 = \n It has 7 <unk> words")
    assert " = = Section = = \n" in articles[7]
    assert "\n\n" not in text
    assert np.count_nonzero(data.validation == facts["end_of_text"]) == 10


def test_attached_text_files_give_the_same_tokens_as_the_hubs_parquet(
    prepare, settings, corpus, hub_format, tmp_path
):
    folder = tmp_path / "datasets" / "owner" / "wikitext"
    folder.mkdir(parents=True)
    for name, rows in (("wiki.train.txt", ROWS), ("wiki.valid.txt", ROWS[:60])):
        lines = [row if row.endswith("\n") else f"{row}\n" for row in rows]
        (folder / name).write_text("".join(lines))
    (folder / "wiki.test.txt").write_text("not for training\n")
    shutil.copy(hub_format / "tokenizer.json", folder)

    facts, _ = prepare(settings(), tmp_path)

    assert identity(facts) == identity(corpus[0])


def test_attached_tokens_are_used_and_count_as_the_same_data(
    load, prepare, settings, corpus, tmp_path
):
    made = Path(corpus[0]["folder"])
    mounted = tmp_path / "datasets" / "owner" / "my-tokens"
    shutil.copytree(made, mounted)

    facts, data = prepare(settings(), tmp_path)

    assert facts["source"] == f"{mounted / 'tokens.bin'}, tokenised before"
    assert identity(facts) == identity(corpus[0])
    assert np.array_equal(data.train, corpus[1].train)

    tokens = (made / "tokens.bin").read_bytes()
    (mounted / "tokens.bin").write_bytes(tokens[:-2] + b"\1\0")
    with pytest.raises(load("session").Refusal) as refusal:
        prepare(settings(), tmp_path)
    assert refusal.value.reason == "data_mismatch"

    (mounted / "tokens.json").write_text("[1]")
    with pytest.raises(load("session").Refusal) as refusal:
        prepare(settings(), tmp_path)
    assert refusal.value.reason == "data_missing"

    shutil.copy(made / "tokens.json", mounted)
    (mounted / "tokenizer.json").unlink()
    with pytest.raises(load("session").Refusal) as refusal:
        prepare(settings(), tmp_path)
    assert refusal.value.reason == "data_missing"


def test_tokens_made_by_hand_can_be_attached(kernel, prepare, settings, tmp_path):
    made, empty = tmp_path / "made", tmp_path / "empty"
    told = {"KCHAIN_INPUT_DIR": str(empty), "KCHAIN_WORKING_DIR": str(tmp_path / "working")}

    subprocess.run(
        [sys.executable, str(kernel / "corpus.py"), "rehearsal", str(made)],
        check=True,
        timeout=60,
        env={**os.environ, **told},
    )
    attached, _ = prepare(settings("wikitext103", vocab_size=1024), made)

    assert "tokenised before" in attached["source"]
    assert attached["train_tokens"] > 40_000


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"without": "validation*.parquet"}, "data_missing"),
        ({"vocab_size": 300}, "config_mismatch"),
        ({"batch_size": 500}, "data_missing"),
        ({"block_tokens": 4096, "batch_size": 1, "accumulation": 1}, "data_missing"),
    ],
    ids=["no validation half", "tokenizer larger than model", "no step", "no validation block"],
)
def test_a_corpus_that_does_not_fit_is_refused(prepare, settings, mounted, refusal, case, reason):
    overrides = dict(case)
    for path in mounted.glob(overrides.pop("without", "none")):
        path.unlink()

    with pytest.raises(refusal) as raised:
        prepare(settings(**overrides), mounted)

    assert raised.value.reason == reason


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


def test_the_rehearsals_data_is_the_same_every_time(prepare, settings, tmp_path):
    one, other = (prepare(settings("rehearsal"), tmp_path)[0] for _ in range(2))

    assert identity(one) == identity(other)
    assert one["vocab_size"] == 400
