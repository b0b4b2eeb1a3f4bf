"""Tensors as a pickle describes them: like the head's, inside their storages, finite."""

import json
import math
import pickletools
import random
import struct
import time

import pytest

from orchestrator import symbols, tensors
from orchestrator.archives import read_archive, read_tensors
from orchestrator.checkpoints import verify_file
from orchestrator.contract import strict_json
from orchestrator.errors import CheckpointError
from orchestrator.machine import Phase
from orchestrator.model import Checkpoint
from orchestrator.opcodes import read_pickle
from tests import torchlike
from tests.controller.corpora_tensors import LONG, PICKLED, STATES, weights
from tests.torchlike import Tensor

FLOATS = {"float64": "<d", "float32": "<f", "float16": "<e"}


def described(state):
    return read_pickle(torchlike.pickled(state)).tensors


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_what_a_training_may_well_save_is_accepted(output, files, state):
    left = output(members=torchlike.members(state))

    verify_file(files, left.folder, left.checkpoint)


def test_each_tensor_has_the_keys_that_lead_to_it_for_a_name(output):
    left = output(members=torchlike.members({"model": {"w": Tensor([1.0] * 6, (2, 3))},
                                             "list": [0, (1, Tensor([1], storage="IntStorage",
                                                                    form="i"))]}))  # fmt: skip

    found = read_tensors(left.folder / left.name)

    assert found == read_archive(left.folder / left.name).tensors
    assert {path: (each.dtype, each.shape) for path, each in found.items()} == {
        ("model", "w"): ("float32", (2, 3)),
        ("list", 1, 1): ("int32", (1,)),
    }


# Finite numbers


@pytest.mark.parametrize(("dtype", "form"), FLOATS.items())
def test_whether_numbers_are_finite_is_told_by_their_bits(dtype, form):
    is_finite = tensors.finite_check(dtype)
    size, rng = struct.calcsize(form), random.Random(5)  # noqa: S311 - the same on every run
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0]
    seen = set()

    for _ in range(3000):
        piece = rng.randbytes(3 * size) + struct.pack(form, rng.choice(special))
        expected = all(math.isfinite(number) for (number,) in struct.iter_unpack(form, piece))
        seen.add(expected)
        assert is_finite(piece) is expected, piece.hex()

    assert seen == {True, False}


def test_a_bfloat16_is_the_upper_half_of_a_float32():
    is_finite = tensors.finite_check("bfloat16")
    rng = random.Random(6)  # noqa: S311 - the same on every run

    for _ in range(3000):
        piece = rng.randbytes(8)
        halves = [b"\0\0" + piece[at : at + 2] for at in range(0, 8, 2)]
        expected = all(math.isfinite(*struct.unpack("<f", half)) for half in halves)
        assert is_finite(piece) is expected, piece.hex()


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "uint8", "float8_e4m3fn"])
def test_what_cannot_be_infinite_is_not_looked_at(dtype):
    assert tensors.finite_check(dtype) is None


# Like the head's

HEAD = {
    "model": {"w": Tensor([1.0] * 6, shape=(2, 3))},
    "optimizer": {"state": {0: {"exp_avg": Tensor([1.0] * 6, shape=(2, 3))}}},
    "rng": [Tensor([1.0])],
}


def changed(**groups):
    return {**HEAD, **groups}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (changed(model={"w": Tensor([1.0] * 6, shape=(3, 2))}),
         "tensor 'model/w' is float32 of 3 x 2; the head's is float32 of 2 x 3"),
        (changed(model={"w": Tensor([1] * 6, (2, 3), storage="IntStorage", form="i")}),
         "'model/w' is int32 of 2 x 3; the head's is float32"),
        (changed(model={"v": Tensor([1.0] * 6, shape=(2, 3))}), "lacks the head's tensor 'model/w'"),
        (changed(model={**HEAD["model"], "v": Tensor([1.0])}), "the head has no tensor 'model/v'"),
        (changed(optimizer={}), "lacks the head's tensor 'optimizer/state/0/exp_avg'"),
        (changed(optimizer={"state": {0: {"exp_avg": Tensor([1.0])}}}),
         "'optimizer/state/0/exp_avg' is float32 of 1"),
        ({"w": Tensor([1.0] * 6, shape=(2, 3))}, "lacks the head's tensor 'model/w'"),
        ({"rng": [1]}, "holds no tensor"),
    ],
)  # fmt: skip
def test_other_tensors_than_the_heads_are_refused(state, said):
    with pytest.raises(CheckpointError, match=said):
        tensors.check_like(described(state), described(HEAD))


@pytest.mark.parametrize(
    "state",
    [
        HEAD,
        changed(rng=[Tensor([1.0]), Tensor([1.0])]),  # a machine with two GPUs
        changed(rng=[]),
        changed(average={"w": Tensor([1.0])}),  # a later template saves more
        changed(model={"w": Tensor([1.0] * 6, shape=(2, 3), stride=(1, 2))}),
        changed(optimizer={"state": {0: HEAD["optimizer"]["state"][0], 1: {"m": Tensor([1.0])}}}),
    ],
    ids=["equal", "more random states", "no random state", "a new part", "transposed", "moments"],
)
def test_what_differs_for_good_reason_is_accepted(state):
    tensors.check_like(described(state), described(HEAD))


def test_the_first_checkpoint_has_nothing_to_be_like():
    tensors.check_like(described(weights(1.0)), None)


def test_a_head_of_an_older_kchain_that_held_no_tensor_compares_with_nothing():
    tensors.check_like(described(weights(1.0)), {})


@pytest.fixture
def collect_second(output, files, collect, session_events):
    """Collect a second session's output, behind a first one's that became the head."""

    def run(state, spoil_head=lambda path: None):
        first = output(folder="first", members=torchlike.members(HEAD))
        (first.folder / "manifest.json").write_bytes(first.content)
        events = session_events(1)
        sha256 = torchlike.sha256(first.content)
        record = events[5][1]["checkpoint"]
        record.update(file=first.name, manifest_sha256=sha256)
        record.update({key: first.checkpoint[key] for key in ("bytes", "sha256")})
        incoming = files.incoming(first.body["token"])
        for name in (first.name, "manifest.json"):
            (incoming / name).write_bytes((first.folder / name).read_bytes())
        files.promote(incoming, sha256, [first.name, "manifest.json"])
        spoil_head(files.stored(sha256) / first.name)
        parent = Checkpoint.from_body(record).as_parent()
        left = output(members=torchlike.members(state), step=20, parent=parent)
        left.add_older(step=15, members=torchlike.members(HEAD))
        return collect(left, before=events)

    return run


def test_a_checkpoint_with_other_shapes_than_the_heads_gives_way_to_an_older_one(collect_second):
    state = collect_second(changed(model={"w": Tensor([1.0] * 6, shape=(3, 2))}))

    assert (state.phase, state.pending.step) == (Phase.VERIFIED, 15)


def test_a_checkpoint_with_the_heads_shapes_is_taken(collect_second):
    state = collect_second(HEAD)

    assert (state.phase, state.pending.step) == (Phase.VERIFIED, 20)


def test_a_copy_of_the_head_that_is_damaged_is_compared_with_nothing(collect_second):
    other = changed(model={"w": Tensor([1.0] * 6, shape=(3, 2))})

    state = collect_second(other, spoil_head=lambda path: path.write_bytes(b"rotten"))

    assert (state.phase, state.pending.step) == (Phase.VERIFIED, 20)


# Whatever the bytes


def test_however_a_pickle_is_broken_it_is_refused_or_read_in_good_time():
    rng = random.Random(7)  # noqa: S311 - the same damage on every run
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    refused, longest = [], 0.0

    for _ in range(6000):
        content = bytearray(PICKLED)
        for _ in range(rng.randint(1, 4)):
            value = rng.choice(codes) if rng.random() < 0.5 else rng.randrange(256)
            content[rng.randrange(2, len(content))] = value
        began_at = time.process_time()
        try:
            read_pickle(bytes(content))
        except CheckpointError as error:
            refused.append(str(error))
        longest = max(longest, time.process_time() - began_at)

    assert 3000 < len(refused) < 6000
    assert max(map(len, refused)) < 400
    assert longest < 1.0


@pytest.mark.parametrize(("content", "said"), LONG.values(), ids=LONG)
def test_what_would_take_hours_or_gigabytes_is_refused(content, said):
    with pytest.raises(CheckpointError, match=said):
        read_pickle(b"\x80\x02" + content + b".")


@pytest.mark.parametrize("key", [1 << 64, -(1 << 70), ("x",) * 9, "x" * 1001, b""])
def test_keys_that_could_be_chosen_to_hash_alike_are_known_by_their_place(key):
    assert symbols.key_of(key, 3) == ("?", "3")


@pytest.mark.parametrize("document", [{"more": "x" * 70_000}, ["x" * 70_000], {"x" * 70_000: 1}])
def test_a_text_that_no_manifest_needs_is_refused(document):
    with pytest.raises(CheckpointError, match="has more than 65,536 characters"):
        strict_json(json.dumps(document).encode(), "manifest")
