"""Is a file the container that it claims to be? Nothing is extracted, unpickled or executed.

Archives (a `.pt`, `archives.py`), `.safetensors`, texts and sentencepiece models are known, and
nothing else is accepted: a file whose name says nothing of what is in it could be a pickle, which
no look at its bytes rules out.
"""

from __future__ import annotations

import codecs
import math
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from orchestrator.archives import read_archive
from orchestrator.contract import strict_json
from orchestrator.errors import CheckpointError
from orchestrator.tensors import DTYPE_BYTES, LARGEST, finite_check

HEADER_LIMIT_BYTES = 16 << 20  # of a .safetensors
_CHUNK_BYTES = 1 << 20
_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32"},
    **{"I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16"},
    "U8": "uint8",
}


class _Span(NamedTuple):
    """Where a tensor's bytes lie, and what they are."""

    begin: int
    end: int
    dtype: str
    name: str


def check_safetensors(path: Path) -> None:
    """Raise CheckpointError unless the header of a `.safetensors` describes exactly its bytes,
    and its numbers are finite.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes > min(size - 8, HEADER_LIMIT_BYTES):
            raise CheckpointError(f"it claims a header of {header_bytes:,} bytes")
        header = strict_json(file.read(header_bytes), "header")
        if not isinstance(header, dict):
            raise CheckpointError("its header lists no tensors")
        spans = sorted(_span(name, each) for name, each in header.items() if name != "__metadata__")
        reached = 0
        for span in spans:
            if span.begin != reached:
                raise CheckpointError("its tensors overlap or leave gaps")
            reached = span.end
        if reached != size - 8 - header_bytes:
            raise CheckpointError("its tensors are not what fills it")
        for span in spans:
            _check_finite(file, span)


def check_text(path: Path) -> None:
    """Raise CheckpointError unless a file is UTF-8 without a NUL: no archive is, and no pickle
    since protocol 2.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                if "\0" in decoder.decode(chunk):
                    raise CheckpointError("it is no text: it holds a NUL")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"it is no text: {error.reason}") from error


def check_sentencepiece(path: Path) -> None:
    """Raise CheckpointError unless a `.model` begins as sentencepiece's do, and no pickle does."""
    with path.open("rb") as file:
        if file.read(1) != b"\n":
            raise CheckpointError("it does not begin as a sentencepiece model")


# What a session may hand over, by the end of a name in any case, and how it is looked into.
_CHECKS: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys((".pt", ".pth", ".bin"), read_archive),
    ".safetensors": check_safetensors,
    **dict.fromkeys((".json", ".jsonl", ".txt", ".md", ".csv", ".jinja"), check_text),
    ".model": check_sentencepiece,
}


def check_suffix(name: str) -> None:
    """Raise CheckpointError if a file of this name could not be looked into."""
    if _suffix(name) not in _CHECKS:
        raise CheckpointError(
            f"refused file {name!r}: its name ends in none of {', '.join(_CHECKS)}"
        )


def check_container(path: Path) -> None:
    """Look into what a loader would open, without opening it as a loader does."""
    _CHECKS[_suffix(path.name)](path)


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _span(name: str, tensor: Any) -> _Span:
    """Return where a tensor's bytes lie, if they are as many as its type and shape take."""
    try:
        (begin, end), shape = tensor["data_offsets"], tensor["shape"]
        dtype = _DTYPES[tensor["dtype"]]
        is_right = all(type(n) is int and 0 <= n <= LARGEST for n in (begin, end, *shape))
        size = DTYPE_BYTES[dtype] * math.prod(shape) if len(shape) <= 16 else -1
    except (KeyError, TypeError, ValueError):
        is_right = False
    if not is_right or end - begin != size:
        raise CheckpointError(f"tensor {name[:100]!r} is not described rightly")
    return _Span(begin, end, dtype, name)


def _check_finite(file: BinaryIO, span: _Span) -> None:
    """Read a tensor to its end; raise CheckpointError if a number in it is not finite."""
    is_finite, left = finite_check(span.dtype), span.end - span.begin
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        left -= len(chunk)
        if is_finite and not is_finite(chunk):
            raise CheckpointError(f"tensor {span.name[:100]!r} is not finite")
