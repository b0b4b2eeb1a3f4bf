"""What a pickle would make, as symbols: names, containers, tensors; nothing is imported or called.

The names that it may ask for are an allow-list, the ones of `torch.load(weights_only=True)`: a
list of what is dangerous is never complete, and `getattr` looks harmless.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import CheckpointError
from orchestrator.tensors import (
    LARGEST,
    STORAGE_DTYPES,
    Inventory,
    Keys,
    Storage,
    Tensor,
    view,
)

DEPTH_LIMIT = 64  # of containers in each other on the way to a tensor
TENSOR_LIMIT = 100_000
STEP_LIMIT = 2_000_000  # of the walk to all tensors; what stands on two ways is met twice
_KEY_CHARACTERS = 1_000
_NAMES = frozenset({
    "collections OrderedDict",
    "collections defaultdict",  # what some optimizers and schedulers keep their state in
    "__builtin__ dict",
    "__builtin__ set",
    "_codecs encode",  # how a pickle of protocol 2 writes bytes
    "torch Size",
    "torch device",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.torch_version TorchVersion",  # a str; the guide's multi-GPU notebook stores it
    *STORAGE_DTYPES,
})  # fmt: skip
_DTYPE = re.compile(r"torch (?:bool|(?:u?int|b?float|complex|bits)[0-9a-z_]{1,12})")
_STORAGE_KEY = re.compile(r"[0-9]{1,9}")
PLAIN = object()  # any value that is nobody's name, number or container


@dataclass(slots=True)
class Name:
    """What a pickle asks for by name."""

    name: str


class Holding(tuple[Any, ...]):
    """A tuple in which a tensor may be."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Node:
    """A list or a dictionary: how much is in it, and what may lead to a tensor, by its place."""

    is_list: bool = False
    count: int = 0
    held: dict[Any, Any] = field(default_factory=dict)


HOLDERS = (Node, Tensor, Holding)


def name(text: str) -> Name:
    """Return a name that a pickle asks for, module and name parted by a space, if it may."""
    if text not in _NAMES and not _DTYPE.fullmatch(text):
        raise CheckpointError(f"its pickle asks for {text[:100].replace(' ', '.')}")
    return Name(text)


def as_storage(described: object) -> Storage:
    """Return the storage that a pickle points to outside of itself."""
    if not isinstance(described, tuple) or len(described) != 5:
        raise CheckpointError("its pickle names a storage in an odd way")
    word, kind, key, place, count = described
    dtype = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Name) else None
    if word != "storage" or dtype is None or type(place) is not str:
        raise CheckpointError("its pickle names a storage in an odd way")
    if type(key) is not str or not _STORAGE_KEY.fullmatch(key):
        raise CheckpointError("its pickle names a storage in an odd way")
    if type(count) is not int or not 0 <= count <= LARGEST:
        raise CheckpointError(f"its pickle describes storage {key} with odd numbers")
    return Storage(key, dtype, count)


def call(called: object, arguments: object) -> object:
    """Return what comes of calling a name, as far as it is known."""
    if not isinstance(called, Name):
        raise CheckpointError("its pickle calls what is no name")
    lengths, made = _CALLS.get(called.name, ((), None))
    shown = called.name.replace(" ", ".")
    if made is None or not isinstance(arguments, tuple):
        raise CheckpointError(f"its pickle calls {shown}")
    if len(arguments) not in lengths:
        raise CheckpointError(f"its pickle calls {shown} in an odd way")
    return made(arguments)


def inventory(root: object) -> Inventory:
    """Return all tensors below a value; one that is met on two ways has two names."""
    found: dict[Keys, Tensor] = {}
    for path, tensor in _tensors(root, (), iter(range(STEP_LIMIT))):
        found[path] = tensor
        if len(found) > TENSOR_LIMIT:
            raise CheckpointError(f"its pickle has more than {TENSOR_LIMIT:,} tensors")
    return found


def _tensors(value: object, path: Keys, budget: Iterator[int]) -> Iterator[tuple[Keys, Tensor]]:
    """Walk to all tensors below a value. One that is met on two ways has two names."""
    if isinstance(value, Tensor):
        yield path, value
        return
    if len(path) > DEPTH_LIMIT:
        raise CheckpointError(f"its pickle nests more than {DEPTH_LIMIT} deep")
    if isinstance(value, Node):
        for key, each in value.held.items():
            if next(budget, None) is None:
                raise CheckpointError("its pickle leads to the same things again and again")
            if isinstance(each, HOLDERS):
                yield from _tensors(each, (*path, key), budget)
    elif isinstance(value, Holding):
        yield from _tensors(_listed(value), path, budget)


def _listed(values: Sequence[object]) -> Node:
    return Node(True, len(values), dict(enumerate(values)))


def key_of(key: object, position: int) -> object:
    """Return a dictionary's key; a text for what hashes slowly, and its place for what is odd.

    Numbers that hash alike could be chosen to take hours; texts cannot.
    """
    if type(key) is str and len(key) <= _KEY_CHARACTERS:
        return key
    if key is None or type(key) in (bool, float) or (type(key) is int and abs(key) >> 63 == 0):
        return key
    if type(key) is tuple and len(key) <= 8:
        parts = [repr(each) for each in key if type(each) in (str, int, float, bool)]
        if len(parts) == len(key) and sum(map(len, parts)) <= _KEY_CHARACTERS:
            return (repr(parts),)
    return ("?", str(position))


def _rebuilt(arguments: Sequence[Any]) -> Tensor:
    storage, offset, shape, stride = arguments[:4]
    return view(storage, offset, shape, stride)


def _rebuilt_with_dtype(arguments: Sequence[Any]) -> Tensor:
    storage, offset, shape, stride, _requires_grad, _hooks, kind = arguments[:7]
    dtype = kind.name.partition(" ")[2] if isinstance(kind, Name) else "no type"
    return view(storage, offset, shape, stride, dtype)


def _parameter(arguments: Sequence[Any]) -> Tensor:
    if not isinstance(arguments[0], Tensor):
        raise CheckpointError("its pickle has a parameter without a tensor")
    return arguments[0]


def _first(arguments: Sequence[Any]) -> object:
    return arguments[0]


# How many arguments each name takes, and what comes of it.
_CALLS: dict[str, tuple[Sequence[int], Callable[[Sequence[Any]], object]]] = {
    "collections OrderedDict": ((0,), lambda _: Node()),
    "collections defaultdict": ((0, 1), lambda _: Node()),
    "__builtin__ dict": ((0,), lambda _: Node()),
    "__builtin__ set": ((1,), _first),
    "_codecs encode": ((2,), lambda _: PLAIN),
    "torch Size": ((1,), _first),
    "torch device": ((1, 2), lambda _: PLAIN),
    "torch.torch_version TorchVersion": ((1,), lambda _: PLAIN),
    "torch._utils _rebuild_tensor_v2": ((6, 7), _rebuilt),
    "torch._utils _rebuild_tensor_v3": ((7, 8), _rebuilt_with_dtype),
    "torch._utils _rebuild_parameter": ((3,), _parameter),
}
