"""Reads a pickle without running it: a stack machine over an allow-list of opcodes.

What is allowed is what `torch.load(weights_only=True)` would carry out for a training state. What
is kept is what may lead to a tensor (`symbols.py`); memory and time are bounded by the limits.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import symbols
from orchestrator.errors import CheckpointError
from orchestrator.symbols import HOLDERS, PLAIN, Holding, Node
from orchestrator.tensors import Inventory, Storage

PICKLE_LIMIT_BYTES = 64 << 20  # a state of 10 M parameters has 100 kB: tensors lie elsewhere
OPCODE_LIMIT = 16_000_000  # about ten seconds; a list of a million floats has two million
ENTRY_LIMIT = 1_000_000  # of what is kept at a time; a batch of a list is let go at its end
MARK_LIMIT = 1_000  # of containers begun in each other
_TEXT_BYTES = 1 << 20  # a longer text is no key and no name: it is passed over
_BLOCK_OPCODES = 4096  # between two looks at what is kept


@dataclass(frozen=True, slots=True)
class Contents:
    """What a pickle describes: tensors by the way to them, storages by their key."""

    tensors: Inventory
    storages: dict[str, Storage]


def read_pickle(content: bytes) -> Contents:
    """Return the tensors that a pickle describes.

    Raises:
        CheckpointError: it would make anything but tensors and plain values, or contradicts
            itself.
    """
    machine = _Machine(content)
    try:
        root = machine.run()
    except (IndexError, ValueError, struct.error) as error:
        raise CheckpointError(f"its pickle cannot be read: {str(error)[:200]}") from error
    return Contents(symbols.inventory(root), machine.storages)


class _Machine:
    """The state of a reading: where it is, the stack and those below its marks, the memo."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: list[Any] = []
        self.entries = 0  # in containers and tuples
        self.storages: dict[str, Storage] = {}

    def run(self) -> object:
        """Carry out every opcode up to STOP; return what is left on the stack."""
        content, handlers = self.content, _HANDLERS
        for _ in range(OPCODE_LIMIT // _BLOCK_OPCODES):
            for _ in range(_BLOCK_OPCODES):
                code = content[self.at]
                self.at += 1
                if code == _STOP:
                    return self._end()
                handlers.get(code, _refuse)(self)
            kept = sum(map(len, self.below)) + len(self.stack) + len(self.memo) + self.entries
            if kept > ENTRY_LIMIT:
                raise CheckpointError(f"its pickle holds more than {ENTRY_LIMIT:,} things")
        raise CheckpointError(f"its pickle has more than {OPCODE_LIMIT:,} opcodes")

    def _end(self) -> object:
        if self.at != len(self.content):
            raise CheckpointError("its pickle goes on after its end")
        if len(self.stack) != 1 or self.below:
            raise CheckpointError("its pickle does not end with one thing")
        return self.stack[0]

    def take(self, size: int) -> bytes:
        """Return the next bytes, an opcode's argument."""
        taken = self.content[self.at : self.at + size]
        if len(taken) != size:
            raise ValueError("it ends within an opcode")
        self.at += size
        return taken

    def number(self, form: struct.Struct) -> Any:
        (number,) = form.unpack_from(self.content, self.at)
        self.at += form.size
        return number

    def line(self) -> str:
        end = self.content.index(b"\n", self.at, self.at + 300)
        return self.take(end + 1 - self.at)[:-1].decode("ascii")

    def marked(self) -> list[Any]:
        """Return what stands above the last mark, and take it off the stack."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def mark(self) -> None:
        if len(self.below) >= MARK_LIMIT:
            raise CheckpointError(f"its pickle nests more than {MARK_LIMIT:,} deep")
        self.below.append(self.stack)
        self.stack = []

    def text(self, form: struct.Struct, encoding: str) -> None:
        size = self.number(form)
        taken = self.take(size)
        is_long = size > _TEXT_BYTES
        self.stack.append(PLAIN if is_long else taken.decode(encoding, "surrogatepass"))

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number(_U8)), "little", signed=True))

    def name(self) -> None:
        self.stack.append(symbols.name(f"{self.line()} {self.line()}"))

    def protocol(self) -> None:
        if (version := self.number(_U8)) != 2:
            raise CheckpointError(f"its pickle is of protocol {version}; torch writes 2")

    def put(self, form: struct.Struct) -> None:
        if self.number(form) != len(self.memo):
            raise CheckpointError("its pickle reserves memory for what it does not hold")
        self.memo.append(self.stack[-1])

    def get(self, form: struct.Struct) -> None:
        self.stack.append(self.memo[self.number(form)])

    def tuple(self, values: list[Any]) -> None:
        self.entries += len(values)
        holds = any(isinstance(each, HOLDERS) for each in values)
        self.stack.append(Holding(values) if holds else tuple(values))

    def last(self, count: int) -> list[Any]:
        """Return the last values, and take them off the stack."""
        if len(self.stack) < count:
            raise IndexError("its stack is too short")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def container(self, *, is_list: bool) -> None:
        self.entries += 1
        self.stack.append(Node(is_list))

    def append(self, values: Sequence[Any]) -> None:
        node = self.stack[-1]
        if not isinstance(node, Node) or not node.is_list:
            raise CheckpointError("its pickle appends to what is no list")
        for at, value in enumerate(values, node.count):
            if isinstance(value, HOLDERS):
                self.entries += 1
                node.held[at] = value
        node.count += len(values)

    def fill(self, items: Sequence[Any]) -> None:
        node = self.stack[-1]
        if not isinstance(node, Node) or node.is_list or len(items) % 2:
            raise CheckpointError("its pickle fills what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.set(node, symbols.key_of(key, node.count), value)

    def set(self, node: Node, key: object, value: object) -> None:
        if key in node.held:
            raise CheckpointError(f"its pickle sets the key {str(key)[:100]!r} twice")
        self.entries += 1
        node.count += 1
        node.held[key] = value if isinstance(value, HOLDERS) else None

    def reduce(self) -> None:
        called, arguments = self.last(2)
        self.entries += 1
        self.stack.append(symbols.call(called, arguments))

    def build(self) -> None:
        """Give an OrderedDict its attributes; tensors in them count as any others."""
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Node) or made.is_list or not isinstance(state, Node):
            raise CheckpointError("its pickle changes what is no dictionary")
        self.set(made, ("attributes",), state)

    def storage(self) -> None:
        found = symbols.as_storage(self.stack.pop())
        if self.storages.setdefault(found.key, found) != found:
            raise CheckpointError(f"its pickle describes storage {found.key} in two ways")
        self.stack.append(found)


_U8, _U16, _U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")
_OPCODES: dict[str, Callable[[_Machine], None]] = {
    "PROTO": _Machine.protocol,
    "MARK": _Machine.mark,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "BININT": lambda m: m.stack.append(m.number(_I32)),
    "BININT1": lambda m: m.stack.append(m.number(_U8)),
    "BININT2": lambda m: m.stack.append(m.number(_U16)),
    "LONG1": _Machine.long,
    "BINFLOAT": lambda m: m.stack.append(m.number(_F64)),
    "BINUNICODE": lambda m: m.text(_U32, "utf-8"),
    "SHORT_BINSTRING": lambda m: m.text(_U8, "latin-1"),
    "BINGET": lambda m: m.get(_U8),
    "LONG_BINGET": lambda m: m.get(_U32),
    "BINPUT": lambda m: m.put(_U8),
    "LONG_BINPUT": lambda m: m.put(_U32),
    "EMPTY_DICT": lambda m: m.container(is_list=False),
    "EMPTY_LIST": lambda m: m.container(is_list=True),
    "EMPTY_TUPLE": lambda m: m.tuple([]),
    "TUPLE": lambda m: m.tuple(m.marked()),
    "TUPLE1": lambda m: m.tuple(m.last(1)),
    "TUPLE2": lambda m: m.tuple(m.last(2)),
    "TUPLE3": lambda m: m.tuple(m.last(3)),
    "APPEND": lambda m: m.append(m.last(1)),
    "APPENDS": lambda m: m.append(m.marked()),
    "SETITEM": lambda m: m.fill(m.last(2)),
    "SETITEMS": lambda m: m.fill(m.marked()),
}
_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_HANDLERS = {_CODES[name]: handle for name, handle in _OPCODES.items()}
_STOP = _CODES["STOP"]


def _refuse(machine: _Machine) -> None:
    code = machine.content[machine.at - 1]
    name = next((name for name, each in _CODES.items() if each == code), None)
    if name is None:
        raise ValueError(f"its opcode {code} is unknown")
    raise CheckpointError(f"its pickle uses the opcode {name}")
