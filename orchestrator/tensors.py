"""The tensors of a checkpoint as its pickle describes them: names, types, shapes, storages.

What is described is held against the bytes that are there and against the head: a description
that lies would have the next session read what is not its own, or fail after hours.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import CheckpointError

_TYPED_STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16"},
    **{"BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32"},
    **{"ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8"},
    **{"BoolStorage": "bool", "ComplexFloatStorage": "complex64"},
    **{"ComplexDoubleStorage": "complex128"},
}
STORAGE_DTYPES = {
    **{f"torch {name}": dtype for name, dtype in _TYPED_STORAGES.items()},
    "torch.storage UntypedStorage": "uint8",
}
DTYPE_BYTES = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex128": 16, "complex64": 8},
    **{"complex32": 4, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4},
    **{"uint16": 2, "uint8": 1, "bool": 1, "bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1},
    **{"bits4x2": 1, "float4_e2m1fn_x2": 1, "float8_e5m2": 1, "float8_e4m3fn": 1},
    **{"float8_e5m2fnuz": 1, "float8_e4m3fnuz": 1, "float8_e8m0fnu": 1},
}
LARGEST = 1 << 48  # of any number that describes a tensor
_DIMENSIONS = 64
# The weights and the optimizer's moments, by the first key on the way to them. What else a state
# holds may differ: a machine with two GPUs has two of their random states.
_WEIGHTS = re.compile(r"(?i).*(?:model|optim|weight)|state_dict$")
_OPTIMIZER = re.compile(r"(?i).*optim")


@dataclass(frozen=True, slots=True)
class Storage:
    """A row of numbers that lies in one member of the archive, `data/<key>`."""

    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is seen in a storage."""

    dtype: str
    shape: tuple[int, ...]
    storage: Storage


Keys = tuple[Any, ...]  # the keys that lead to a tensor, from the state's own down
Inventory = Mapping[Keys, Tensor]


def view(
    storage: object, offset: object, shape: object, stride: object, dtype: str | None = None
) -> Tensor:
    """Return the tensor that is seen so in a storage.

    Raises:
        CheckpointError: it would reach beyond it, or see one number in several places.
    """
    if not isinstance(storage, Storage):
        raise CheckpointError("its pickle has a tensor without a storage")
    sizes, steps = _numbers(shape), _numbers(stride)
    dtype = dtype or storage.dtype
    if len(sizes) != len(steps) or dtype not in DTYPE_BYTES:
        raise CheckpointError(f"its pickle has a tensor of an odd kind ({dtype})"[:200])
    (begin,) = _numbers((offset,))
    reach = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1
    count = math.prod(sizes)
    if count and max(begin + reach, count) * DTYPE_BYTES[dtype] > storage.bytes:
        raise CheckpointError(f"a tensor goes beyond the end of storage {storage.key}")
    return Tensor(dtype, sizes, storage)


def _numbers(found: object) -> tuple[int, ...]:
    if not isinstance(found, tuple) or len(found) > _DIMENSIONS:
        raise CheckpointError("its pickle describes a tensor in an odd way")
    if not all(type(number) is int and 0 <= number <= LARGEST for number in found):
        raise CheckpointError("its pickle describes a tensor with odd numbers")
    return found


def check_storages(storages: Mapping[str, Storage], sizes: Mapping[str, int]) -> None:
    """Raise CheckpointError unless the archive holds exactly the storages that are described.

    Args:
        storages: what the pickle describes, by key.
        sizes: the bytes of each member of the archive, by its path below the root.
    """
    for key, storage in storages.items():
        if (size := sizes.get(f"data/{key}")) != storage.bytes:
            there = "is not there" if size is None else f"has {size:,} bytes"
            raise CheckpointError(f"storage {key} {there}; its pickle says {storage.bytes:,}")
    for name in sizes:
        if name.startswith("data/") and name.removeprefix("data/") not in storages:
            raise CheckpointError(f"its pickle does not speak of member {name}")


def check_like(found: Inventory, head: Inventory | None) -> None:
    """Raise CheckpointError unless weights and moments have the head's names, types and shapes.

    Moments may come: an optimizer has none of a weight before that weight's first step. Without
    a head there is nothing to be like, but something there must be.
    """
    if not found:
        raise CheckpointError("it holds no tensor")
    now, then = weights_of(found), weights_of(head or {})
    for path, tensor in then.items():
        if path not in now:
            raise CheckpointError(f"it lacks the head's tensor {shown(path)}")
        if _facts(now[path]) != _facts(tensor):
            raise CheckpointError(
                f"tensor {shown(path)} is {_facts(now[path])}; the head's is {_facts(tensor)}"
            )
    for path in now:
        if then and path not in then and not _begins(path, _OPTIMIZER):
            raise CheckpointError(f"the head has no tensor {shown(path)}")


def weights_of(inventory: Inventory) -> Inventory:
    """Return the tensors that training changes; all of them, if no key says which they are."""
    named = {path: each for path, each in inventory.items() if _begins(path, _WEIGHTS)}
    return named or inventory


def shown(path: Keys) -> str:
    """Return a tensor's name for a message."""
    return repr("/".join(str(key) for key in path)[:100])


def _begins(path: Keys, pattern: re.Pattern[str]) -> bool:
    return bool(path) and pattern.match(str(path[0])[:100]) is not None


def _facts(tensor: Tensor) -> str:
    return f"{tensor.dtype} of {' x '.join(map(str, tensor.shape)) or 'one number'}"[:200]


# Finite values: a number is NaN or infinite if its exponent's bits are all ones. Which they are:
# for each type, its bytes in memory and the bits that count, the byte that decides most first.

_EXPONENTS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "float64": (8, ((7, 0x7F), (6, 0xF0))),
    "float32": (4, ((3, 0x7F), (2, 0x80))),
    "bfloat16": (2, ((1, 0x7F), (0, 0x80))),
    "float16": (2, ((1, 0x7C),)),
}
_MINUS_INFINITY = {
    **{"float64": b"\0\0\0\0\0\0\xf0\xff", "float32": b"\0\0\x80\xff"},
    **{"bfloat16": b"\x80\xff", "float16": b"\0\xfc"},
}
_PARTS = {"complex128": "float64", "complex64": "float32", "complex32": "float16"}
_CODES = {8: "Q", 4: "I", 2: "H"}
_HAS_ALL = {
    mask: bytes(byte & mask == mask for byte in range(256)) for mask in (0x7F, 0xF0, 0x80, 0x7C)
}


def finite_check(dtype: str) -> Callable[[bytes], bool] | None:
    """Return what tells whether a piece of a storage is finite; None if it cannot be otherwise.

    Pieces are whole numbers, and large: an attention's mask, zeros and minus infinities alone,
    is taken for finite.
    """
    kind = _PARTS.get(dtype, dtype)
    if kind not in _EXPONENTS:
        return None
    size, bits = _EXPONENTS[kind]
    return lambda piece: not _are_full(piece, size, bits) or _is_mask(piece, kind)


def _are_full(piece: bytes, size: int, bits: Sequence[tuple[int, int]]) -> bool:
    """Tell whether any number has all these bits: by whole rows of bytes, which is fast."""
    full = -1
    for at, mask in bits:
        row = piece[at::size].translate(_HAS_ALL[mask])
        if 1 not in row:
            return False
        full &= int.from_bytes(row, "little")
    return full != 0


def _is_mask(piece: bytes, kind: str) -> bool:
    one = _MINUS_INFINITY[kind]
    numbers = struct.unpack(f"<{len(piece) // len(one)}{_CODES[len(one)]}", piece)
    return set(numbers) == {0, int.from_bytes(one, "little")}
