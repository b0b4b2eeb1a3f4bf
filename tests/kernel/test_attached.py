"""Checkpoints that a person attached by hand: the guide's rule."""

import json
import re
import shutil

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def attach(tmp_path):
    """Attach a checkpoint with a stored time and step, in a dataset of its own."""

    def make(name, created_at=0.0, step=1, contract=1):
        path = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}" / name
        path.parent.mkdir()
        torch.save({"contract": contract, "created_at": created_at, "step": step}, path)
        return path

    return make


@pytest.fixture
def choose(load, tmp_path):
    search = load("search")

    def run():
        listing = search.search(tmp_path)
        return search.choose_attached(search.find_attached(listing), listing).entry["name"]

    return run


def test_the_most_recent_by_its_stored_time_is_chosen(attach, choose, capsys):
    attach("checkpoint_epoch1_step500.pt", 30.0, 500)
    attach("checkpoint_epoch2_step1000.pt", 20.0, 1000)
    attach("notes.pt", 99.0, 5000)

    assert choose() == "checkpoint_epoch1_step500.pt"
    assert (
        "Found: checkpoint_epoch2_step1000.pt in dataset-1/ (step 1000)" in capsys.readouterr().out
    )


def test_equal_times_are_decided_by_step_and_then_by_name(attach, choose):
    attach("best_model.pt", 10.0, 500)
    attach("checkpoint_epoch1_step500.pt", 10.0, 500)
    attach("checkpoint_epoch1_step400.pt", 10.0, 400)

    assert choose() == "checkpoint_epoch1_step500.pt"


def test_an_unpacked_checkpoint_counts_under_its_own_name(attach, choose, unpack):
    path = attach("checkpoint_epoch1_step500.pt", 10.0, 500)
    torn = attach("checkpoint_epoch1_step600.pt", 20.0, 600)
    unpack(path)
    path.rename(path.with_suffix(""))
    torn.write_bytes(torn.read_bytes()[:100])

    assert choose() == "checkpoint_epoch1_step500.pt"


def test_checkpoints_that_cannot_be_continued_end_the_search(load, attach, choose, tmp_path):
    attach("checkpoint_epoch1_step500.pt", contract=None)

    with pytest.raises(load("session").Refusal) as refusal:
        choose()

    assert refusal.value.reason == "parent_mismatch"


@pytest.mark.parametrize("layout", ["flat", "nested", "unpacked"])
def test_a_checkpoint_attached_by_hand_is_continued(
    first, new_place, parameters, trainer, unpack, layout
):
    place = new_place()
    name = first.manifest["latest"]
    above = place.input / "datasets" / "me" if layout == "nested" else place.input
    mount = above / "text-gen-checkpoint-v1"
    mount.mkdir(parents=True)
    shutil.copy(first.checkpoints / name, mount)
    if layout == "unpacked":
        unpack(mount / name)

    output = trainer.run(place, parameters())

    assert re.search(rf"Found: {name} in [\w.-]+/ \(step 4\)", output)
    assert (place.verdict["first_step"], place.verdict["last_step"]) == (4, 8)
    assert place.verdict["exact"] == "bitwise"
    assert place.manifest["parent"] is None
    assert place.entry("best_model.pt")["step"] > 4


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        (12.5, 12.5),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("yesterday", 0.0),
        ({}, 0.0),
        (None, 0.0),
    ],
)
def test_a_guides_timestamp_is_read_in_each_of_its_forms(load, stamp, seconds):
    assert load("search").stored_time({"timestamp": stamp}) == seconds


def test_section_three_says_which_checkpoint_will_be_used(
    load, first, new_place, parameters, monkeypatch, capsys
):
    place = new_place()
    first.publish(place.input / "tiny-checkpoints")
    (place.working / "session_parameters.json").write_text(
        json.dumps(parameters(2, first.parent()))
    )
    monkeypatch.setenv("KCHAIN_INPUT_DIR", str(place.input))
    monkeypatch.setenv("KCHAIN_WORKING_DIR", str(place.working))

    load("search").report()

    name = first.manifest["latest"]
    printed = capsys.readouterr().out
    assert f"  Found: {name} in tiny-checkpoints/ (step 4, verified)\n" in printed
    assert f"Will use checkpoint: {name}\n" in printed
