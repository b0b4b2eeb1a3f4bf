"""Three chained sessions, and the one long session that they replace."""

import hashlib
import json
import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")


def test_three_chained_sessions_equal_one_uninterrupted_run_bit_for_bit(
    chain, uninterrupted, digest
):
    name = uninterrupted.manifest["latest"]
    curves = [
        {key: place.history[key] for key in ("steps", "validations", "epochs")}
        for place in (chain[-1], uninterrupted)
    ]

    assert name == chain[-1].manifest["latest"] == "checkpoint_epoch2_step12.pt"
    assert digest(chain[-1].checkpoints / name) == digest(uninterrupted.checkpoints / name)
    assert curves[0] == curves[1]
    assert [point["step"] for point in curves[0]["steps"]] == list(range(1, 13))
    assert [epoch["epoch"] for epoch in curves[0]["epochs"]] == [1]


PROMISED = {  # what the guide says a checkpoint holds, and what a resume needs besides
    *("model", "optimizer", "scheduler", "epoch", "step", "train_loss", "val_loss", "history"),
    *("created_at", "scaler", "rng", "data_position", "config", "lineage", "fingerprint"),
}


def test_a_checkpoint_holds_what_is_promised(chain):
    path = chain[-1].checkpoints / chain[-1].manifest["latest"]

    state = torch.load(path, weights_only=True)

    assert state.keys() >= PROMISED
    assert state["data_position"] == {"epoch": 2, "blocks_read": 12 * 80}
    assert state["lineage"]["token"] == chain[-1].manifest["token"]
    assert state["lineage"]["parent_sha256"] == chain[1].parent()["sha256"]
    assert state["scheduler"]["learning_rate"] < 0.003
    assert len(state["history"]["steps"]) == 12


def test_a_resumed_session_recomputes_the_stored_validation_loss(chain):
    for before, after in pairwise(chain):
        resumed = after.verdict["resumed_from"]

        assert resumed["file"] == before.manifest["latest"]
        assert resumed["sha256"] == before.parent()["sha256"]
        assert resumed["val_loss"] == before.entry(before.manifest["latest"])["val_loss"]
        assert math.isclose(resumed["val_loss"], resumed["val_loss_recomputed"], abs_tol=1e-5)
        assert f"resuming from {resumed['file']} (sha256 {resumed['sha256']})" in after.output


def test_the_verdicts_tell_the_steps_and_how_each_session_ended(chain):
    verdicts = [place.verdict for place in chain]

    assert [(v["first_step"], v["last_step"]) for v in verdicts] == [(0, 4), (4, 8), (8, 12)]
    assert [v["outcome"] for v in verdicts] == ["stopped", "stopped", "complete"]
    assert [v["training_complete"] for v in verdicts] == [False, False, True]
    assert verdicts[0]["detail"] == "session's share of steps is done"
    assert all(v["steps_per_second"] > 0 and v["seconds"]["train"] > 0 for v in verdicts)
    assert verdicts[2]["last_loss"] < verdicts[0]["first_loss"]


def test_everything_a_session_writes_keeps_the_contract(chain, parameters, check):
    check("parameters", parameters())
    for place in chain:
        lines = [
            json.loads(line.removeprefix("kchain: "))
            for line in place.output.splitlines()
            if line.startswith("kchain: ")
        ]
        check("verdict", place.verdict)
        check("manifest", place.manifest)
        check("history", place.history)
        for line in lines:
            check("progress", line)
        steps = [line["step"] for line in lines if line["event"] == "step"]
        first, last = place.verdict["first_step"], place.verdict["last_step"]
        assert (steps[0], steps[-1]) == (first + 1, last)
        assert lines[-1]["event"] == "end"


def test_every_file_is_what_the_manifest_lists(chain):
    for place in chain:
        for entry in place.manifest["files"]:
            data = (place.checkpoints / entry["name"]).read_bytes()
            assert len(data) == entry["bytes"]
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert place.manifest["publish"] == [
            place.manifest["latest"],
            "best_model.pt",
            "training_history.json",
            "latest_checkpoint.txt",
        ]
        pointer = (place.checkpoints / "latest_checkpoint.txt").read_text()
        assert pointer.strip() == place.manifest["latest"]


def test_the_newest_three_checkpoints_are_kept_and_nothing_else(chain):
    kept = sorted(path.name for path in chain[0].checkpoints.iterdir())

    assert kept == [
        "best_model.pt",
        "checkpoint_epoch1_step2.pt",
        "checkpoint_epoch1_step3.pt",
        "checkpoint_epoch1_step4.pt",
        "latest_checkpoint.txt",
        "manifest.json",
        "training_history.json",
    ]


def test_the_end_of_an_epoch_and_of_the_session_are_saved_whatever_the_interval(
    new_place, parameters, trainer
):
    place = new_place()
    rare = {"checkpoint_steps": 100, "evaluation_steps": 100, "steps_per_session": None}

    output = trainer.run(place, parameters(overrides={**rare, "keep_checkpoints": 9}))

    events = [json.loads(line[8:]) for line in output.splitlines() if line.startswith("kchain: ")]
    saved = [event["step"] for event in events if event["event"] == "checkpoint"]
    assert saved == [*(epoch["step"] for epoch in place.history["epochs"]), 12]
    assert 0 < saved[0] < 12


def test_the_best_model_is_the_lowest_validation_loss_of_the_whole_chain(chain):
    for place in chain:
        best = min(place.history["validations"], key=lambda point: point["loss"])

        assert place.entry("best_model.pt")["step"] == best["step"]
        assert place.entry("best_model.pt")["val_loss"] == best["loss"]


def test_the_history_names_every_session(chain):
    assert chain[-1].history["sessions"] == [
        {"session": number, "attempt": 1, "first_step": step, "exact": "bitwise"}
        for number, step in ((1, 0), (2, 4), (3, 8))
    ]


def test_the_end_of_an_epoch_is_printed_as_in_the_guide(chain):
    epoch = chain[-1].history["epochs"][0]

    assert (
        f"Epoch 1: Train Loss={epoch['train_loss']:.4f}, Val Loss={epoch['val_loss']:.4f}, "
        f"Perplexity={epoch['perplexity']:.2f}\n"
    ) in chain[-1].output


COMPARE = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
sys.path.insert(0, sys.argv[1])
import model as gpt
state = torch.load(sys.argv[2], weights_only=True)
keys = ("n_layer", "n_head", "d_model", "block_tokens", "vocab_size", "dropout")
ours = gpt.GPT(gpt.ModelConfig(*(state["config"][key] for key in keys))).eval()
ours.load_state_dict(state["model"])
theirs = AutoModelForCausalLM.from_pretrained(sys.argv[3]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
text = "The yield statement is semantically equivalent to a yield expression."
tokens = tokenizer(text, return_tensors="pt")["input_ids"]
assert tokenizer.decode(tokens[0]) == text
assert tokenizer.eos_token_id == 0
with torch.no_grad():
    mine, hers = ours(tokens), theirs(tokens).logits
assert mine.shape == hers.shape, (mine.shape, hers.shape)
stored = torch.load(sys.argv[3] + "/pytorch_model.bin", weights_only=True)
assert all(torch.equal(stored[key], theirs.state_dict()[key]) for key in stored)
print((mine - hers).abs().max().item())
"""


@pytest.mark.slow
def test_transformers_opens_the_final_model_and_gets_the_checkpoints_logits(chain, kernel):
    place = chain[-1]
    arguments = [kernel, place.checkpoints / place.manifest["latest"]]
    folder = place.checkpoints / "final_model"

    done = subprocess.run(
        [sys.executable, "-c", COMPARE, *map(str, arguments), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4
    assert place.manifest["training_complete"]
