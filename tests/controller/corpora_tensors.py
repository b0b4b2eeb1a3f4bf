"""Checkpoints whose hashes are right and whose tensors are wrong, or described so as to confuse.

As in `corpora.py`, every entry spoils a good output and says what the refusal says.
"""

import math

from tests.controller.corpora import Case, packed, pickling
from tests.torchlike import DICT, LIST, ORDERED, Joined, Tensor, Writer, members, pickled

NAN, INFINITY = math.nan, math.inf


def saving(state, **others):
    """Save this state in place of the good one, and list it truly."""

    def spoil(left):
        content = members(state, **others)
        left.write_archive(content)
        left.list_members(content)

    return spoil


def without(state, name):
    """Save a state without one of its members."""

    def spoil(left):
        content = {path: data for path, data in members(state).items() if path != name}
        left.write_archive(content)
        left.list_members(content)

    return spoil


def weights(*numbers, **fields):
    return {"model": {"w": Tensor(list(numbers), **fields)}}


def written(value):
    return Writer().write(value)


def opcodes(*parts):
    """A pickle of these opcodes; the good state's numbers are not beside it."""
    return pickling(b"\x80\x02" + b"".join(parts) + b".")


def laughing():
    """Many lists, each of which holds the one before it twice."""
    twice = (bytes([each - 1]) for each in range(1, 23))
    lists = (LIST + b"q" + bytes([n[0] + 1]) + b"(h" + n + b"h" + n + b"e" for n in twice)
    return b"(" + LIST + b"q\0" + b"".join(lists) + b"t"


# A dictionary that is put into a tuple while it is empty, and gets its tensor there.
FILLED_LATER = Joined(
    (b"(", Joined((DICT, b"q\0", DICT, b"q\1", b"h\0", written("w"), b"h\1s")),
     b"h\1", written("x"), Tensor([NAN]), b"st")
)  # fmt: skip
MOMENTS = {0: {"step": Tensor([1.0]), "exp_avg": Tensor([0.0, INFINITY])}}
NOT_FINITE = [
    Case("a weight that is NaN", saving(weights(1.0, NAN)), "tensor 'model/w' is not finite"),
    Case("a weight that is infinite", saving(weights(1.0, INFINITY)), "tensor 'model/w' is not finite"),
    Case("minus infinity", saving(weights(-INFINITY, -INFINITY)), "'model/w' is not finite"),
    Case("a mask with a weight", saving(weights(0.0, -INFINITY, 0.5)), "'model/w' is not finite"),
    Case("a NaN with other bits", saving(weights(0xFF800001, form="I")), "'model/w' is not finite"),
    Case("a moment", saving({**weights(1.0), "optimizer": {"state": MOMENTS}}),
         "tensor 'optimizer/state/0/exp_avg' is not finite"),
    Case("half", saving(weights(0.0, NAN, form="e", storage="HalfStorage")), "is not finite"),
    Case("double", saving(weights(0.0, NAN, form="d", storage="DoubleStorage")), "is not finite"),
    Case("bfloat16", saving(weights(0x3F80, 0x7FC0, form="H", storage="BFloat16Storage")),
         "is not finite"),
    Case("complex", saving(weights(0.0, NAN, shape=(1,), count=1, storage="ComplexFloatStorage")),
         "is not finite"),
    Case("NaN behind a megabyte", saving(weights(*[0.0] * 300_000, NAN)), "is not finite"),
    Case("NaN in a bare state", saving({"w": Tensor([NAN])}), "tensor 'w' is not finite"),
    Case("NaN in a list of tuples", saving({"model": [(1, Tensor([NAN]))]}),
         "tensor 'model/0/1' is not finite"),
    Case("NaN in an attribute",
         saving({"model": Joined((ORDERED, {"x": Tensor([NAN])}, b"b"))}), "is not finite"),
    Case("NaN in what is filled after it was placed", saving(FILLED_LATER), "is not finite"),
    Case("big-endian numbers", saving(weights(1.0), byteorder=b"big"), "of another byte order"),
]  # fmt: skip
SIZES = [
    Case("a storage that is not there", without(weights(1.0), "data/0"), "storage 0 is not there"),
    Case("a storage of another size", saving(weights(1.0, 2.0, count=4)),
         "storage 0 has 8 bytes; its pickle says 16"),
    Case("a storage of another type", saving(weights(1.0, 2.0, storage="DoubleStorage")),
         "storage 0 has 8 bytes; its pickle says 16"),
    Case("a storage of 2^40 numbers", saving(weights(1.0, count=1 << 40)), "says 4,398,046,511"),
    Case("a storage of 2^60 numbers", saving(weights(1.0, count=1 << 60)), "odd numbers"),
    Case("a storage of less than nothing", saving(weights(1.0, count=-1)), "odd numbers"),
    Case("a storage of no name", saving(weights(1.0), **{"data/7": b"1234"}),
         "does not speak of member data/7"),
    Case("a storage outside", saving(weights(1.0, key="../../x")), "odd way|refused member"),
    Case("a storage of two types",
         saving({"a": Tensor([1.0], key="0"), "b": Tensor([1], key="0", form="i",
                                                          storage="IntStorage")}),
         "storage 0 in two ways"),
    Case("a type of no size", saving(weights(1.0, storage="QInt8Storage")),
         r"asks for torch\.QInt8Storage"),
    Case("a shape beyond its storage", saving(weights(1.0, 2.0, shape=(3,))), "beyond the end"),
    Case("an offset beyond it", saving(weights(1.0, 2.0, offset=1)), "beyond the end"),
    Case("a stride beyond it", saving(weights(1.0, 2.0, stride=(2,))), "beyond the end"),
    Case("one number as many", saving(weights(1.0, shape=(1 << 40,), stride=(0,))),
         "beyond the end"),
    Case("a negative offset", saving(weights(1.0, offset=-1)), "odd numbers"),
    Case("a negative stride", saving(weights(1.0, 2.0, stride=(-1,))), "odd numbers"),
    Case("a shape below nothing", saving(weights(1.0, shape=(-1,), stride=(1,))), "odd numbers"),
    Case("an offset that is true", saving(weights(1.0, 2.0, shape=(1,), offset=True)),
         "odd numbers"),
    Case("an offset of 2^60", saving(weights(1.0, offset=1 << 60)), "odd numbers"),
    Case("a text for an offset", saving(weights(1.0, offset="0")), "odd numbers"),
    Case("a shape without strides", saving(weights(1.0, stride=())), "of an odd kind"),
    Case("seventy dimensions", saving(weights(1.0, shape=(1,) * 70)), "in an odd way"),
]  # fmt: skip
SELF = DICT + b"q\0" + written("model") + b"h\0s"
ODD_MEMO = "reserves memory"
CONFUSING = [
    Case("no tensor", saving({"weights": [1, 2, 3]}), "holds no tensor"),
    Case("no tensor, but JSON", packed(("archive/state.json", b"[1]")),
         "other members than listed|holds no tensor"),
    Case("a key twice in a state", opcodes(DICT, b"(", written("a"), b"N", written("a"), b"Nu"),
         "sets the key 'a' twice"),
    Case("a key twice in turn", opcodes(DICT, *(written("a"), b"Ns") * 2), "'a' twice"),
    Case("one and true", opcodes(DICT, b"(", written(1), b"N", written(True), b"Nu"), "twice"),
    Case("a state in itself", opcodes(SELF), "more than 64 deep"),
    Case("a list in itself", opcodes(LIST, b"q\0h\0a"), "more than 64 deep"),
    Case("a memo of nothing", opcodes(b"h\0"), "cannot be read"),
    Case("a memo out of turn", opcodes(b"Nq\7"), ODD_MEMO),
    Case("a memo that is overwritten", opcodes(b"Nq\0q\0"), ODD_MEMO),
    Case("a memo of an empty stack", opcodes(b"q\0"), "cannot be read"),
    Case("a hundred lists in each other", opcodes(LIST * 100, b"a" * 99), "more than 64 deep"),
    Case("five thousand marks", opcodes(b"(" * 5000), "more than 1,000 deep"),
    Case("two million dictionaries", opcodes(DICT * 2_000_000), "more than 1,000,000 things"),
    Case("two million Nones", opcodes(b"N" * 2_000_000), "more than 1,000,000 things"),
    Case("two things", opcodes(b"NN"), "does not end with one thing"),
    Case("an empty stack", opcodes(), "does not end with one thing"),
    Case("a mark left open", opcodes(b"N(N"), "does not end with one thing"),
    Case("an end without a mark", opcodes(b"NNt"), "cannot be read"),
    Case("below a mark", opcodes(b"N(\x85"), "cannot be read"),
    Case("a list filled", opcodes(LIST, b"NNs"), "fills what is no dictionary"),
    Case("a dictionary appended to", opcodes(DICT, b"Na"), "appends to what is no list"),
    Case("a key without a value", opcodes(DICT, b"(Nu"), "fills what is no dictionary"),
    Case("a number called", opcodes(b"K\1)R"), "calls what is no name"),
    Case("a type called", opcodes(b"ctorch\nfloat32\n)R"), r"calls torch\.float32"),
    Case("a dictionary made of a list",
         opcodes(b"ccollections\nOrderedDict\n", written(([],)), b"R"), "in an odd way"),
    Case("arguments that are no tuple", opcodes(b"ccollections\nOrderedDict\n", LIST, b"R"),
         r"calls collections\.OrderedDict"),
    Case("a tensor changed", opcodes(b"N", DICT, b"b"), "changes what is no dictionary"),
    Case("a tensor of nothing",
         opcodes(b"ctorch._utils\n_rebuild_tensor_v2\n",
                 written((None, 0, (1,), (1,), False, ORDERED)), b"R"), "without a storage"),
    Case("a parameter of nothing",
         opcodes(b"ctorch._utils\n_rebuild_parameter\n", written((None, True, ORDERED)), b"R"),
         "without a tensor"),
    Case("a storage of another word",
         opcodes(written(("module", b"ctorch\nFloatStorage\n", "0", "cpu", 1)), b"Q"), "odd way"),
    Case("a storage that is a text", opcodes(written("storage"), b"Q"), "odd way"),
    Case("a name without an end", opcodes(b"ctorch" + b"x" * 1000), "cannot be read"),
]  # fmt: skip


ALL = [*NOT_FINITE, *SIZES, *CONFUSING]
# What takes longest to refuse: seconds, as memory is not watched.
LONG = {
    "a billion laughs": (laughing(), "the same things again and again"),
    "a tuple a million deep": (b"N" + b"\x85" * 1_100_000, "more than 1,000,000 things"),
    "marks": (b"(" * 5_000_000, "more than 1,000 deep"),
    "tuples": (b"N" + b"(NNNNNNNNNNNNNNNNt" * 900_000, "more than 1,000,000 things"),
    "opcodes": (LIST + (b"(" + b"N" * 1000 + b"e") * 16_100, "more than 16,000,000 opcodes"),
}
STATES = {
    "a mask of attention": {"model": {"w": Tensor([1.0]), "mask": Tensor([0.0, -INFINITY])}},
    "a metric of infinity": {"model": {"w": Tensor([1.0])}, "best": Tensor([INFINITY, NAN])},
    "whole numbers": {"model": {"w": Tensor([-1, 1 << 30], form="i", storage="IntStorage")}},
    "large numbers": {"model": {"w": Tensor([3.4e38, -3.4e38, 1e-40])}},
    "one storage for two": {"model": {"a": Tensor([1.0], key="0"), "b": Tensor([1.0], key="0")}},
    "a view": {"model": {"w": Tensor([1.0] * 6, shape=(2, 2), stride=(1, 3), offset=1)}},
    "no numbers": {"model": {"w": Tensor([1.0]), "none": Tensor([], shape=(0, 3))}},
    "one number": {"model": {"w": Tensor([1.0], shape=())}},
}
PICKLED = pickled({
    "model": {"a": Tensor([1.0] * 6, shape=(2, 3)), "b": Tensor([1.0])},
    "optimizer": {"state": {0: {"step": Tensor([1.0]), "exp_avg": Tensor([1.0] * 6)}},
                  "param_groups": [{"lr": 0.1, "betas": (0.9, 0.95), "params": [0, 1]}]},
    "history": [{"step": step, "loss": 1.5} for step in range(3)],
    "step": 7, "scaler": None, "exact": True,
})  # fmt: skip
