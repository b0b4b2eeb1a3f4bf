"""Archives as `torch.save` writes them, made without torch: fast, and as wrong as a test wants."""

import hashlib
import struct
from dataclasses import dataclass, field

DICT, LIST, MARK, TUPLE, STOP = b"}", b"]", b"(", b"t", b"."
PROTOCOL = b"\x80\x02"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"


@dataclass(frozen=True)
class Tensor:
    """A tensor and the storage that it sees; what is not told follows from the numbers."""

    numbers: list[float]
    shape: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    offset: object = 0
    key: str | None = None
    count: int | None = None
    storage: str = "FloatStorage"
    form: str = "f"


class Joined(tuple):
    """Values and opcodes, one after the other."""

    __slots__ = ()


@dataclass
class Writer:
    """Writes a pickle of protocol 2; what it meets of tensors stays beside it."""

    data: dict[str, bytes] = field(default_factory=dict)
    memo: int = 0

    def write(self, value):
        """Return the opcodes that make a value. Bytes stand for themselves."""
        match value:
            case bytes():
                written = value
            case bool() | None:
                written = {True: b"\x88", False: b"\x89", None: b"N"}[value]
            case int() | float():
                written = number(value)
            case str():
                written = b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case Tensor():
                written = self.tensor(value)
            case Joined():
                written = self.all(value)
            case tuple():
                written = MARK + self.all(value) + TUPLE
            case list():
                written = LIST + self.remember() + MARK + self.all(value) + b"e"
            case dict():
                pairs = (each for pair in value.items() for each in pair)
                written = DICT + self.remember() + MARK + self.all(pairs) + b"u"
        return written

    def all(self, values):
        return b"".join(map(self.write, values))

    def remember(self):
        """Return the opcode that puts what was made into the memo, as every pickle does."""
        self.memo += 1
        return b"r" + struct.pack("<I", self.memo - 1)

    def tensor(self, tensor):
        key = tensor.key or str(len(self.data))
        self.data[f"data/{key}"] = struct.pack(
            f"<{len(tensor.numbers)}{tensor.form}", *tensor.numbers
        )
        count = len(tensor.numbers) if tensor.count is None else tensor.count
        shape = (len(tensor.numbers),) if tensor.shape is None else tensor.shape
        stride = contiguous(shape) if tensor.stride is None else tensor.stride
        kind = f"ctorch\n{tensor.storage}\n".encode()
        place = self.write(("storage", kind, key, "cpu", count)) + b"Q"
        return REBUILD + self.write((place, tensor.offset, shape, stride, False, ORDERED)) + b"R"


def number(value):
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def pickled(state):
    """The pickle of a state, without the numbers of its tensors."""
    return members(state)["data.pkl"]


def contiguous(shape):
    """The steps from number to number of a tensor whose numbers lie in their order."""
    steps, step = [], 1
    for size in reversed(shape):
        steps.insert(0, step)
        step *= size
    return tuple(steps)


def members(state, **others):
    """The members of the archive that holds a state."""
    writer = Writer()
    content = PROTOCOL + writer.write(state) + STOP
    return {"data.pkl": content, "byteorder": b"little", **writer.data, **others}


STATE = {"model": {"w": Tensor([0.5, 1.0, 1.5, 2.0], shape=(2, 2))}, "step": 10}
