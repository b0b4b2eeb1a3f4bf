"""Verification: only a checkpoint that is what its manifest says, and that continues the chain."""

import os
import pickle
import random
import zipfile
from dataclasses import replace

import pytest

from orchestrator.checkpoints import (
    as_checkpoint,
    check_identity,
    is_complete,
    parse_manifest,
    verify_file,
)
from orchestrator.errors import CheckpointError
from tests import torchlike
from tests.torchlike import STATE


@pytest.fixture
def verify(files):
    """Climb the whole ladder for what a session left, as the engine does."""

    def climb(left):
        manifest = parse_manifest(left.content, left.expected)
        for name in manifest.wanted:
            verify_file(files, left.folder, manifest.entry(name))
        return manifest

    return climb


def test_a_good_set_passes(verify, output):
    left = output()

    manifest = verify(left)

    assert manifest.latest["name"] == "checkpoint_epoch1_step10.pt"
    assert manifest.wanted == left.body["publish"]


def test_a_good_set_that_continues_the_chain_passes(verify, output, parent):
    assert verify(output(parent=parent)).latest["step"] > parent.step


def test_a_finished_model_is_wanted_too(verify, output):
    left = output()
    (left.folder / "final_model").mkdir()
    (left.folder / "final_model" / "config.json").write_text("{}")
    left.body["files"].append(left.entry("final_model/config.json", "final"))

    assert verify(left).wanted == [*left.body["publish"], "final_model/config.json"]


def test_older_checkpoints_and_the_models_are_not_wanted_unless_published(verify, output):
    left = output()
    old = {**left.checkpoint, "name": "checkpoint_epoch1_step5.pt", "step": 5}
    left.body["files"].append(old)

    assert verify(left).wanted == left.body["publish"]


def test_a_file_that_is_both_published_and_final_is_wanted_once(verify, output):
    left = output()
    (left.folder / "notes.txt").write_text("both")
    left.body["files"].append(left.entry("notes.txt", "final"))
    left.body["publish"].append("notes.txt")

    assert verify(left).wanted.count("notes.txt") == 1


# The bytes


def truncate(left):
    path = left.folder / left.name
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(left):
    with (left.folder / left.name).open("ab") as file:
        file.write(b"\0")


def flip_a_bit(left):
    path = left.folder / left.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_for_another(left):
    path = left.folder / left.name
    path.write_bytes(os.urandom(path.stat().st_size))


def lose_it(left):
    (left.folder / left.name).unlink()


def put_a_folder_there(left):
    lose_it(left)
    (left.folder / left.name).mkdir()


def change_the_history(left):
    (left.folder / "training_history.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate, "bytes instead of"),
        (lengthen, "bytes instead of"),
        (flip_a_bit, "does not match its SHA-256"),
        (swap_for_another, "does not match its SHA-256"),
        (lose_it, "is missing"),
        (put_a_folder_there, "is missing"),
        (change_the_history, "training_history.json does not match its SHA-256"),
    ],
)
def test_a_file_that_is_not_the_one_listed_is_refused(verify, output, spoil, said):
    left = output()
    spoil(left)

    with pytest.raises(CheckpointError, match=said) as caught:
        verify(left)

    assert caught.value.reason == "rejected"


# The archive's members: here the file is the one listed, and the list does not fit it

MEMBERS = torchlike.members(STATE, version=b"3")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (torchlike.members(STATE), "other members than listed"),
        ({**MEMBERS, ".format_version": b"1"}, "other members than listed"),
        (torchlike.members(STATE, other=b"3"), "is not torch's"),
        ({**MEMBERS, "version": b"33"}, "member version has another size"),
        ({**MEMBERS, "version": b"4"}, "member version does not match"),
        ({**MEMBERS, "byteorder": b"big"}, "of another byte order"),
    ],
)
def test_an_archive_with_other_members_is_refused(verify, output, members, said):
    left = output(members=MEMBERS)
    left.write_archive(members)

    with pytest.raises(CheckpointError, match=said):
        verify(left)


def test_a_member_that_hides_behind_another_of_its_name_is_refused(verify, output):
    left = output()
    with zipfile.ZipFile(left.folder / left.name, "w") as archive:
        archive.writestr("other/data.pkl", b"what a reader may find first")
        for path, content in MEMBERS.items():
            archive.writestr(f"archive/{path}", content)
    left.relist()

    with pytest.raises(CheckpointError, match="stands twice, or beside another root"):
        verify(left)


def test_a_file_that_is_no_archive_is_refused(verify, output):
    left = output()
    (left.folder / left.name).write_bytes(b"not a zip")
    left.relist()

    with pytest.raises(CheckpointError, match="not a readable archive"):
        verify(left)


def test_however_an_archive_is_broken_it_is_refused_or_whole(verify, output):
    left = output()
    path = left.folder / left.name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(f"archive/{name}", content)
    whole = path.read_bytes()
    rng = random.Random(3)  # noqa: S311 - the same damage on every run
    refused = 0

    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        left.relist()
        try:
            verify(left)
        except CheckpointError:
            refused += 1

    assert refused > 200


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_verification_never_unpickles(verify, output, tmp_path):
    sprung = tmp_path / "sprung"
    members = {"data.pkl": pickle.dumps(Trap(sprung), protocol=2), "byteorder": b"little"}
    left = output(members=members)

    with pytest.raises(CheckpointError, match=r"its pickle asks for io\.open"):
        verify(left)

    assert not sprung.exists()
    pickle.loads(members["data.pkl"]).close()  # noqa: S301 - the trap does spring
    assert sprung.exists()


# The manifest: lineage


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chain", "other"),
        ("session", 3),
        ("attempt", 2),
        ("token", "kc1." + "b" * 26),
    ],
)
@pytest.mark.parametrize("name", ["manifest", "verdict"])
def test_what_another_attempt_wrote_is_refused(output, name, key, value):
    left = output()

    with pytest.raises(CheckpointError, match=f"the {name} carries another {key}"):
        check_identity(name, {**left.body, key: value}, left.expected)


def test_a_manifest_of_another_attempt_is_refused_even_if_all_else_is_well(verify, output):
    left = output()
    left.body["token"] = "kc1." + "b" * 26

    with pytest.raises(CheckpointError, match="another token"):
        verify(left)


@pytest.mark.parametrize("key", ["file", "step", "bytes", "sha256", "manifest_sha256"])
def test_another_parent_in_any_of_its_facts_is_refused(verify, output, parent, key):
    left = output(parent=parent)
    others = {"file": "checkpoint_epoch1_step4.pt", "step": 4, "bytes": 99}
    left.body["parent"][key] = others.get(key, "9" * 64)

    with pytest.raises(CheckpointError, match="the manifest names another parent"):
        verify(left)


def test_a_session_that_started_from_scratch_is_refused(verify, output, parent):
    left = output(parent=parent)
    left.body["parent"] = None

    with pytest.raises(CheckpointError, match="names another parent"):
        verify(left)


def test_a_first_session_with_a_parent_is_refused(verify, output, parent):
    left = output()
    left.body["parent"] = parent.to_body()

    with pytest.raises(CheckpointError, match="names another parent"):
        verify(left)


@pytest.mark.parametrize("step", [4, 5])
def test_a_step_that_is_not_beyond_the_parents_is_refused(verify, output, parent, step):
    left = output(parent=parent, step=step)

    with pytest.raises(CheckpointError, match=f"step {step} is not beyond the parent's 5"):
        verify(left)


# The manifest: its list


@pytest.mark.parametrize(
    "twin", ["checkpoint_epoch1_step10.pt", "Checkpoint_Epoch1_Step10.PT", "TRAINING_history.json"]
)
def test_a_name_that_is_listed_twice_is_refused(verify, output, twin):
    left = output()
    left.body["files"].append({**left.checkpoint, "name": twin})

    with pytest.raises(CheckpointError, match="lists a name twice"):
        verify(left)


def test_publishing_a_file_that_is_not_listed_is_refused(verify, output):
    left = output()
    left.body["publish"].append("best_model.pt")

    with pytest.raises(CheckpointError, match="does not list best_model"):
        verify(left)


def test_a_newest_checkpoint_that_is_not_listed_is_refused(verify, output):
    left = output()
    left.body["latest"] = "checkpoint_epoch1_step11.pt"

    with pytest.raises(CheckpointError, match="does not list checkpoint_epoch1_step11"):
        verify(left)


def test_a_newest_checkpoint_that_is_not_published_is_refused(verify, output):
    left = output()
    left.body["publish"].remove(left.name)

    with pytest.raises(CheckpointError, match="not a checkpoint to publish"):
        verify(left)


def test_a_newest_file_that_is_no_checkpoint_is_refused(verify, output):
    left = output()
    left.body["latest"] = "training_history.json"

    with pytest.raises(CheckpointError, match="not a checkpoint to publish"):
        verify(left)


@pytest.mark.parametrize(
    ("name", "epoch", "step"),
    [
        ("model.pt", 1, 10),  # the next session could not be told such a parent
        ("checkpoint_epoch1_step11.pt", 1, 10),
        ("checkpoint_epoch2_step10.pt", 1, 10),
        ("checkpoint_epoch1_step0.pt", 1, 0),
        ("checkpoint_epoch1_step010.pt", 1, 10),
        ("checkpoint_epoch1_step10.pt", 1, 10.0),
    ],
)
def test_a_checkpoint_whose_name_does_not_tell_its_step_is_refused(
    verify, output, name, epoch, step
):
    left = output()
    (left.folder / left.name).rename(left.folder / name)
    left.checkpoint.update(name=name, epoch=epoch, step=step)
    left.body.update(latest=name, publish=[name])

    with pytest.raises(CheckpointError, match="does not tell its epoch and step"):
        verify(left)


@pytest.mark.parametrize("name", ["manifest.json", "final_model", "Manifest.JSON"])
def test_a_name_that_the_contract_keeps_for_itself_is_refused(verify, output, name):
    left = output()
    left.body["files"].append({**left.body["files"][1], "name": name})
    left.body["publish"].append(name)

    with pytest.raises(CheckpointError, match="may not list"):
        verify(left)


# The record


def test_a_record_takes_the_sessions_own_word_where_there_is_one(verify, output, parent):
    manifest = verify(output(parent=parent))
    verdict = {
        "first_step": 5,
        "first_loss": 3.0,
        "last_loss": 2.0,
        "outcome": "out_of_time",
        "reason": None,
    }

    said = as_checkpoint(manifest, verdict, manifest.wanted)
    unsaid = as_checkpoint(manifest, None, manifest.wanted)

    assert (said.first_step, said.first_loss, said.last_loss) == (5, 3.0, 2.0)
    assert (said.outcome, said.reason) == ("out_of_time", None)
    assert (unsaid.first_step, unsaid.first_loss, unsaid.last_loss) == (5, None, 2.5)
    assert unsaid.outcome == "unknown"
    assert replace(said, first_loss=None, last_loss=2.5, outcome="unknown") == unsaid
    assert said.as_parent().manifest_sha256 == manifest.sha256


CHECKPOINT = "checkpoint_epoch1_step10.pt"


def _unpacked(files, root):
    """A dataset version's files after the platform has opened the checkpoint's archive."""
    others = {name: size for name, size in files.items() if name != CHECKPOINT}
    members = torchlike.members(STATE)
    return others | {f"{CHECKPOINT}/{root}{path}": len(members[path]) for path in members}


@pytest.mark.parametrize(
    ("change", "complete"),
    [
        (lambda files: files, True),
        (lambda files: _unpacked(files, "archive/"), True),
        (lambda files: _unpacked(files, ""), True),
        (lambda files: files | {"more.txt": 1}, False),
        (lambda files: files | {CHECKPOINT: 1}, False),
        (lambda files: {n: s for n, s in files.items() if n != "manifest.json"}, False),
        (lambda files: {n: s for n, s in files.items() if n != CHECKPOINT}, False),
        (lambda files: {n: s for n, s in files.items() if n != "training_history.json"}, False),
        (lambda files: {"manifest.json": files["manifest.json"]}, False),
        (lambda files: {}, False),
    ],
)
def test_a_dataset_version_is_complete_if_it_holds_what_its_manifest_publishes(
    output, change, complete
):
    left = output()
    manifest = parse_manifest(left.content, left.expected)
    held = {entry["name"]: entry["bytes"] for entry in left.body["files"]}

    assert is_complete(manifest, change(held | {"manifest.json": len(left.content)})) is complete


@pytest.mark.parametrize(
    ("missing", "complete"), [("training_history.json", True), (CHECKPOINT, False)]
)
def test_an_accepted_version_may_lack_what_the_next_session_rebuilds(output, missing, complete):
    left = output()
    manifest = parse_manifest(left.content, left.expected)
    held = {entry["name"]: entry["bytes"] for entry in left.body["files"]} | {"manifest.json": 1}
    del held[missing]

    assert is_complete(manifest, held, was_accepted=True) is complete
    assert not is_complete(manifest, held)
