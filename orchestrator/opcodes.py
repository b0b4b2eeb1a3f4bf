"""Reads a pickle without running it: an allow-list of opcodes and of the names they may bring in.

What is allowed is what `torch.load(weights_only=True)` would carry out for a training state:
plain containers, numbers, texts, tensors. A name beyond that is refused whatever it would do: a
list of what is dangerous is never complete, and `getattr` looks harmless.
"""

from __future__ import annotations

import io
import pickletools
import re

from orchestrator.errors import CheckpointError

PICKLE_LIMIT_BYTES = 64 << 20  # a state of 10 M parameters has 100 kB: tensors lie elsewhere
OPCODE_LIMIT = 16_000_000  # about ten seconds; a list of a million floats has two million
_OPCODES = frozenset({
    *{"PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "NEWOBJ", "BINPERSID"},
    *{"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"},
    *{"BINUNICODE", "SHORT_BINSTRING", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"},
    *{"EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "EMPTY_TUPLE"},
    *{"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS"},
})  # fmt: skip
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
})  # fmt: skip
_STORAGE = re.compile(r"torch (?:[A-Z][A-Za-z0-9]{2,15})Storage|torch\.storage UntypedStorage")
_DTYPE = re.compile(r"torch (?:bool|(?:u?int|b?float|complex)[0-9a-z_]{1,12})")
_MEMO_OPCODES = frozenset({"BINPUT", "LONG_BINPUT"})


def check_pickle(content: bytes) -> None:
    """Raise CheckpointError unless a pickle makes nothing but tensors and plain values."""
    count = position = 0
    name = ""
    try:
        for opcode, argument, at in pickletools.genops(io.BytesIO(content)):
            count, name, position = count + 1, opcode.name, at or 0
            _check_opcode(name, argument, count)
    except (ValueError, OverflowError) as error:  # what pickletools makes of anything else
        raise CheckpointError(f"its pickle cannot be read: {str(error)[:200]}") from error
    if name != "STOP" or position + 1 != len(content):
        raise CheckpointError("its pickle goes on after its end")


def _check_opcode(name: str, argument: object, count: int) -> None:
    if count > OPCODE_LIMIT:
        raise CheckpointError(f"its pickle has more than {OPCODE_LIMIT:,} opcodes")
    if name not in _OPCODES:
        raise CheckpointError(f"its pickle uses the opcode {name}")
    if name == "GLOBAL" and not _is_allowed(str(argument)):
        raise CheckpointError(f"its pickle asks for {str(argument)[:100].replace(' ', '.')}")
    if name == "PROTO" and argument != 2:
        raise CheckpointError(f"its pickle is of protocol {argument}; torch writes 2")
    if name in _MEMO_OPCODES and isinstance(argument, int) and argument > count:
        raise CheckpointError("its pickle reserves memory for what it does not hold")


def _is_allowed(name: str) -> bool:
    return name in _NAMES or bool(_STORAGE.fullmatch(name) or _DTYPE.fullmatch(name))
