"""What the template writes, held against what the controller accepts, and the other way round."""

import shutil
from collections import OrderedDict

import pytest

from orchestrator.archives import read_archive
from orchestrator.checkpoints import Expectation, as_checkpoint, parse_manifest, verify_file
from orchestrator.errors import CheckpointError
from orchestrator.files import Files

torch = pytest.importorskip("torch")


def expectation(place, parent=None):
    manifest = place.manifest
    identity = {key: manifest[key] for key in ("chain", "session", "attempt", "token")}
    return Expectation(**identity, parent=parent)


def test_every_file_of_a_whole_chain_is_accepted(chain, tmp_path):
    files = Files(tmp_path / "state", tmp_path / "output")
    parent = None

    for place in chain:
        content = (place.checkpoints / "manifest.json").read_bytes()
        manifest = parse_manifest(content, expectation(place, parent))
        for entry in manifest.body["files"]:
            verify_file(files, place.checkpoints, entry)
        parent = as_checkpoint(manifest, place.verdict, manifest.wanted).as_parent()

    assert manifest.body["training_complete"]
    assert {entry["kind"] for entry in manifest.body["files"]} >= {"checkpoint", "best", "final"}


@pytest.mark.parametrize(
    "state",
    [
        {"scaler": {"scale": 65536.0, "growth_interval": 2000, "_growth_tracker": 0}},
        {"rng": [torch.get_rng_state(), (3, tuple(range(625)), None)], "cuda": []},
        {
            str(dtype): torch.zeros(3, dtype=dtype)
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.int8)
        },
        {"new": torch.zeros(3, dtype=torch.uint16), "eight": torch.zeros(3).to(torch.float8_e5m2)},
        {"ordered": OrderedDict(a=torch.nn.Parameter(torch.ones(2, 2).t())), "bytes": b"\xff\0"},
        {"size": torch.ones(2, 3).size(), "device": torch.device("cpu"), "dtype": torch.float32},
        {"version": torch.__version__, "huge": 2**70, "text": "ä\ud800", "set": {1, 2}},
        torch.nn.Linear(3, 3).state_dict(),
    ],
    ids=["scaler", "rng", "dtypes", "new dtypes", "ordered", "facts", "guide", "state_dict"],
)
def test_what_a_session_can_open_safely_is_accepted(state, load, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)

    assert "data.pkl" in read_archive(path).members
    with torch.serialization.safe_globals([torch.torch_version.TorchVersion]):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), print, torch.hub.load, complex])
def test_what_a_session_could_only_open_by_running_code_is_refused(thing, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"thing": thing}, path)

    with pytest.raises(CheckpointError, match="its pickle asks for"):
        read_archive(path)


@pytest.fixture
def mount_older(first, new_place):
    """Mount what is published when the first session's newest checkpoint was spoilt on its way."""

    def mount():
        content = (first.checkpoints / "manifest.json").read_bytes()
        manifest = parse_manifest(content, expectation(first))
        older = manifest.checkpoints[1]
        kept = [older["name"], *(entry["name"] for entry in manifest.spare(older))]
        place = new_place()
        place.told = as_checkpoint(manifest, first.verdict, kept)
        place.mount = place.input / "tiny-checkpoints"
        place.mount.mkdir()
        for name in [*place.told.publish, "manifest.json"]:
            shutil.copy(first.checkpoints / name, place.mount / name)
        return place

    return mount


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_session_resumes_from_an_older_checkpoint_beside_the_newests_manifest(
    first, mount_older, parameters, trainer, unpack, unpacked
):
    place = mount_older()
    told, lost = place.told, first.manifest["latest"]
    if unpacked:
        unpack(place.mount / told.file)

    output = trainer.run(place, parameters(2, told.as_parent().to_body()))

    assert sorted(told.publish) == ["best_model.pt", told.file]
    assert told.file != lost
    assert f"resuming from {told.file} (sha256 {told.sha256})" in output
    assert place.manifest["parent"] == told.as_parent().to_body()
    steps = [point["step"] for point in place.history["steps"]]
    assert steps == list(range(1, told.step + 5))


def test_the_step_that_was_lost_is_made_again_bit_for_bit(
    first, mount_older, parameters, trainer, digest
):
    place = mount_older()
    lost = first.manifest["latest"]

    one_step = {"steps_per_session": 1}
    trainer.run(place, parameters(2, place.told.as_parent().to_body(), one_step))

    assert place.manifest["latest"] == lost
    assert digest(place.checkpoints / lost) == digest(first.checkpoints / lost)
