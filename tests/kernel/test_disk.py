"""Saves that fail or are damaged afterwards: said in one line, and an older checkpoint stays."""

import hashlib
import shutil
import subprocess

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def small_disk(new_place):
    """A place whose working folder is a file system of its own size."""
    mounted = []

    def make(size):
        place = new_place()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place.working)]
        if not shutil.which("mount") or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place.working)
        return place

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def check_what_is_left(place):
    for entry in place.manifest["files"]:
        data = (place.checkpoints / entry["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert not list(place.checkpoints.glob("*.tmp"))


def test_a_disk_without_room_for_the_next_save_is_noticed_before_it(
    small_disk, first, parameters, trainer
):
    size = first.entry(first.manifest["latest"])["bytes"]
    place = small_disk(int(4.5 * size))

    trainer.run(place, parameters())

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("failed", "disk_full")
    assert "the disk is full: " in place.verdict["detail"]
    assert place.manifest["latest"] in place.verdict["detail"]
    check_what_is_left(place)


def test_a_disk_that_fills_up_during_a_save_leaves_the_last_good_checkpoint(
    load, small_disk, first, parameters, monkeypatch
):
    """The look before the save sees room that is gone when the file is written."""
    place = small_disk("3m")
    told = load("parameters").parse_parameters(parameters())
    folder = load("checkpoint").CheckpointFolder(place.checkpoints, told)
    state = torch.load(first.checkpoints / first.manifest["latest"], weights_only=True)
    saved = []

    with load("saver").Saver(folder, pinned=False) as saver:
        saver.begin(state, best=True, saved=saved.append)
        saver.finish()
        while shutil.disk_usage(place.working).free > 400_000:
            filler = place.working / f"filler-{shutil.disk_usage(place.working).free}"
            filler.write_bytes(bytes(min(200_000, shutil.disk_usage(place.working).free)))
        with pytest.raises(load("session").Ending, match="the disk is full"):
            saver.begin(state, best=True, saved=saved.append)  # before a byte is written
        monkeypatch.setattr(load("saver"), "DISK_MARGIN", 0.0)
        saver.begin({**state, "step": 99}, best=True, saved=saved.append)
        with pytest.raises(load("session").Ending) as ending:
            saver.finish()

    assert ending.value.reason == "disk_full"
    assert [entry["step"] for entry in saved] == [4]
    check_what_is_left(place)


def test_a_save_that_fails_for_another_reason_ends_the_session_loudly(
    load, new_place, first, parameters
):
    place = new_place()
    told = load("parameters").parse_parameters(parameters())
    folder = load("checkpoint").CheckpointFolder(place.checkpoints, told)
    state = torch.load(first.checkpoints / first.manifest["latest"], weights_only=True)

    with load("saver").Saver(folder, pinned=False) as saver:
        (place.checkpoints / "checkpoint_epoch1_step4.pt.tmp").mkdir()
        saver.begin(state, best=False, saved=print)
        with pytest.raises(IsADirectoryError):
            saver.begin(state, best=False, saved=print)


def test_what_is_written_is_the_state_at_the_save_not_after_it(load, new_place, parameters):
    place = new_place()
    told = load("parameters").parse_parameters(parameters())
    folder = load("checkpoint").CheckpointFolder(place.checkpoints, told)
    weight = torch.zeros(1000)
    state = {"model": {"w": weight}, "optimizer": {}, "history": {}, "created_at": 0.0}
    state.update(epoch=1, step=1, train_loss=None, val_loss=None)

    with load("saver").Saver(folder, pinned=False) as saver:
        saver.begin(state, best=False, saved=print)
        weight.fill_(7.0)
        saver.finish()

    stored = torch.load(place.checkpoints / "checkpoint_epoch1_step1.pt", weights_only=True)
    assert stored["model"]["w"].abs().max() == 0


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


def empty(_data):
    return b""


DAMAGES = [truncate, flip, empty, None]  # None: an older checkpoint in its place


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over_and_it_is_said(
    first, new_place, parameters, trainer, damage
):
    place = new_place()
    shutil.copytree(first.working, place.working, dirs_exist_ok=True)
    newest = place.checkpoints / place.manifest["latest"]
    older = place.checkpoints / "checkpoint_epoch1_step3.pt"
    newest.write_bytes(damage(newest.read_bytes()) if damage else older.read_bytes())

    output = trainer.run(place, parameters())

    assert f"Damaged: {newest.name} is not what the manifest lists" in output
    assert "resuming from checkpoint_epoch1_step3.pt" in output
    assert place.entry(newest.name)["step"] == 4
    check_what_is_left(place)


def test_a_session_whose_checkpoints_are_all_damaged_does_not_start_from_scratch(
    first, new_place, parameters, trainer
):
    place = new_place()
    shutil.copytree(first.working, place.working, dirs_exist_ok=True)
    for path in place.checkpoints.glob("*.pt"):
        path.write_bytes(flip(path.read_bytes()))

    output = trainer.run(place, parameters())

    assert output.count("Damaged: ") == 3
    assert (place.verdict["outcome"], place.verdict["reason"]) == ("refused", "parent_mismatch")
    assert "none of this session's 3 checkpoints" in place.verdict["detail"]


def test_memory_that_runs_out_says_which_settings_to_change(load):
    train = load("train")
    settings = load("parameters").merge_settings("wikitext103", {})

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)

    assert train.is_out_of_memory(raised.value)
    assert train.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried"))
    assert not train.is_out_of_memory(RuntimeError("shapes"))
    assert "batch_size = 8 and accumulation = 8 in place of 16 and 4" in train.explain_memory(
        settings
    )


def test_a_session_without_memory_ends_with_advice(new_place, parameters, kernel):
    """The trainer may map one more gigabyte, and its first step wants more than that."""
    place = new_place()
    code = place.root / "code"
    shutil.copytree(kernel, code, ignore=shutil.ignore_patterns("__pycache__"))
    limit = (
        "import resource\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "room = pages * resource.getpagesize() + 2**30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (room, room))\n"
    )
    trainer = code / "train.py"
    text = trainer.read_text().replace('if __name__ == "__main__":\n', f"{limit}\nif True:\n")
    trainer.write_text(text)
    large = {"block_tokens": 512, "batch_size": 64, "accumulation": 1, "d_model": 256}

    place.run(parameters(overrides={**large, "n_layer": 8}), code)

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("failed", "out_of_memory")
    assert "batch_size = 32 and accumulation = 2" in place.verdict["detail"]
