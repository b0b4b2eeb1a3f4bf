"""What the template writes, held against what the controller accepts, and the other way round."""

import contextlib
import hashlib
import random
import shutil
import zipfile
from collections import OrderedDict

import pytest

from orchestrator.archives import read_archive, read_tensors
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
    parent = head = None

    for place in chain:
        content = (place.checkpoints / "manifest.json").read_bytes()
        manifest = parse_manifest(content, expectation(place, parent))
        for entry in manifest.body["files"]:
            verify_file(files, place.checkpoints, entry, lambda: head)  # noqa: B023 - called here
        head = read_tensors(place.checkpoints / manifest.latest["name"])
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

    found = read_archive(path).tensors

    with torch.serialization.safe_globals([torch.torch_version.TorchVersion]):
        assert found_by_torch(torch.load(path, weights_only=True)) == shown(found)


def shown(inventory):
    """What is to be equal, whoever reads the file: names, types and shapes."""
    return {path: (each.dtype, each.shape) for path, each in inventory.items()}


def found_by_torch(state, path=()):
    """All tensors in what torch has loaded."""
    if isinstance(state, torch.Tensor):
        return {path: (str(state.dtype).removeprefix("torch."), tuple(state.shape))}
    found = {}
    if isinstance(state, dict):
        inner = list(state.items())
    else:
        inner = list(enumerate(state)) if isinstance(state, list | tuple) else []
    for key, each in inner:
        found |= found_by_torch(each, (*path, key))
    return found


def test_a_broken_pickle_is_refused_or_read_as_torch_reads_it(tmp_path):
    whole, path = tmp_path / "whole.pt", tmp_path / "checkpoint.pt"
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": [(1, 2)]}
    torch.save({**state, "step": 7}, whole)
    with zipfile.ZipFile(whole) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    rng = random.Random(8)  # noqa: S311 - the same damage on every run
    compared = 0

    for _ in range(1500):
        broken = bytearray(members["whole/data.pkl"])
        for _ in range(rng.randint(1, 2)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(broken) if name.endswith(".pkl") else content)
        try:
            found = read_archive(path).tensors
        except CheckpointError:
            continue
        try:
            loaded = torch.load(path, weights_only=True)
        except Exception:  # noqa: BLE001, S112 - what torch makes of a broken file may be anything
            continue
        compared += 1
        assert shown(found) == found_by_torch(loaded)

    assert compared > 100


HEAD = {"model": {"w": torch.zeros(4, 4)}, "optimizer": {"state": {0: {"m": torch.zeros(4, 4)}}}}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({**HEAD, "step": 1}, None),
        ({**HEAD, "model": {"w": torch.full((4, 4), torch.nan)}}, "tensor 'model/w' is not finite"),
        ({**HEAD, "model": {"w": torch.zeros(2, 8)}}, "is float32 of 2 x 8; the head's is"),
        ({**HEAD, "model": {"w": torch.zeros(4, 4).half()}}, "is float16 of 4 x 4; the head's is"),
        ({**HEAD, "model": {"w": torch.zeros(4, 4).t()}}, None),
        ({"model": HEAD["model"]}, "lacks the head's tensor 'optimizer/state/0/m'"),
    ],
    ids=["whole", "NaN", "reshaped", "another type", "transposed", "without moments"],
)
def test_a_file_of_torchs_is_accepted_if_its_tensors_are(tmp_path, state, said):
    files = Files(tmp_path / "state", tmp_path / "output")
    for name, content in (("head.pt", HEAD), ("new.pt", state)):
        torch.save(content, tmp_path / name)
    content = (tmp_path / "new.pt").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    entry = {"name": "new.pt", "kind": "checkpoint", "bytes": len(content), "sha256": sha256}

    with pytest.raises(CheckpointError, match=said) if said else contextlib.nullcontext():
        verify_file(files, tmp_path, entry, lambda: read_tensors(tmp_path / "head.pt"))


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
