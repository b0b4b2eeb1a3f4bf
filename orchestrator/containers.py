"""Is a file the container that it claims to be? Nothing is extracted, unpickled or executed.

Archives (a `.pt`: a zip of stored members), `.safetensors`, texts and sentencepiece models are
known, and nothing else is accepted: a file whose name says nothing of what is in it could be a
pickle, which no look at its bytes rules out. All sizes come from outside, so each is held against the file's own before it is used: memory stays within
a few times PICKLE_LIMIT_BYTES, time within two readings of the file.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import os
import posixpath
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.contract import strict_json
from orchestrator.errors import CheckpointError
from orchestrator.opcodes import PICKLE_LIMIT_BYTES, check_pickle

MEMBER_LIMIT = 20_000
DIRECTORY_LIMIT_BYTES = 8 << 20
HEADER_LIMIT_BYTES = 16 << 20  # of a .safetensors
_CHUNK_BYTES = 1 << 20
_UTF8_AND_SIZES_BEHIND = 0x0808  # the only flags that torch sets
_LOCAL_HEADER_BYTES = 30
_ZIP_START, _DIRECTORY_END = b"PK\x03\x04", b"PK\x05\x06"
_LOCATOR_64, _DIRECTORY_END_64 = b"PK\x06\x07", b"PK\x06\x06"
_MEMBER = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.-]+){1,8}")
# What torch.save writes; a member with another name is for somebody else's eyes.
_TORCH_MEMBER = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
_PICKLES = (".pkl", ".pickle")
# What zipfile raises for archives that are damaged or of an odd kind.
_UNREADABLE = (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError, struct.error)
_LARGEST = 1 << 48  # of any number in a header
_DTYPE_BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "BOOL": 8},
    **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8},
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, with the SHA-256 of its bytes."""

    bytes: int
    sha256: str


def read_archive(path: Path) -> dict[str, Member]:
    """Return an archive's members by their path below its root, each read and hashed.

    Raises:
        CheckpointError: it is damaged, holds what torch would not write, or asks for more than
            tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            directory_at = _check_directory(file, os.fstat(file.fileno()).st_size)
            with zipfile.ZipFile(file) as archive:
                members = _check_members(archive.infolist(), directory_at)
                return {name: _read(archive, info, name) for name, info in members.items()}
    except _UNREADABLE as error:
        raise CheckpointError(f"it is not a readable archive: {str(error)[:200]}") from error


def _check_directory(file: BinaryIO, size: int) -> int:
    """Return where the directory begins, before anything trusts the sizes that are told there."""
    if file.read(4) != _ZIP_START:
        raise CheckpointError("it is not a readable archive: it does not begin as one")
    file.seek(max(0, size - 98))
    tail = file.read()
    end = tail[-22:]
    if not end.startswith(_DIRECTORY_END) or not end.endswith(b"\0\0"):
        raise CheckpointError("it is not a readable archive: it does not end as one")
    count, directory_bytes, directory_at = struct.unpack("<10xHLL2x", end)
    end_at = size - 22
    if tail[-42:-38] == _LOCATOR_64:
        if tail[-98:-94] != _DIRECTORY_END_64:
            raise CheckpointError("its directory is not where it is said to be")
        count, directory_bytes, directory_at = struct.unpack("<32xQQQ", tail[-98:-42])
        end_at = size - 98
    if count > MEMBER_LIMIT or directory_bytes > DIRECTORY_LIMIT_BYTES:
        raise CheckpointError(f"it claims {count:,} members in {directory_bytes:,} bytes")
    if directory_at + directory_bytes != end_at:
        raise CheckpointError("its directory is not where it is said to be")
    return int(directory_at)


def _check_members(infos: Sequence[zipfile.ZipInfo], directory_at: int) -> dict[str, Any]:
    """Return the members by their path below the root, if they lie one after the other."""
    members: dict[str, zipfile.ZipInfo] = {}
    free_at = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        root, _, name = info.filename.partition("/")
        _check_member(info, name)
        if name in members or (members and root != _root(members)):
            raise CheckpointError(f"member {name} stands twice, or beside another root")
        if info.header_offset < free_at:
            raise CheckpointError(f"member {name} lies over another")
        free_at = info.header_offset + _LOCAL_HEADER_BYTES + info.file_size
        members[name] = info
    if free_at > directory_at:
        raise CheckpointError("its last member is larger than the file")
    if "data.pkl" in members and (odd := [n for n in members if not _TORCH_MEMBER.fullmatch(n)]):
        raise CheckpointError(f"member {odd[0]} is not torch's")
    return members


def _check_member(info: zipfile.ZipInfo, name: str) -> None:
    """Raise CheckpointError unless a member is what torch would write: plain bytes, stored."""
    if not _MEMBER.fullmatch(info.filename) or ".." in info.filename.split("/"):
        raise CheckpointError(f"refused member name {info.filename[:100]!r}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise CheckpointError(f"member {name} is compressed; torch stores")
    if info.flag_bits & ~_UTF8_AND_SIZES_BEHIND:
        raise CheckpointError(f"member {name} has the odd flags {info.flag_bits:#06x}")
    if _is_pickle(name) and info.file_size > PICKLE_LIMIT_BYTES:
        raise CheckpointError(f"member {name} has {info.file_size:,} bytes")


def _is_pickle(name: str) -> bool:
    return name.lower().endswith(_PICKLES)


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    return next(iter(members.values())).filename.partition("/")[0]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Member:
    """Read one member to its end, which checks its CRC; hash it, and look into what is a pickle."""
    digest = hashlib.sha256()
    with archive.open(info) as member:
        chunk = member.read(PICKLE_LIMIT_BYTES if _is_pickle(name) else _CHUNK_BYTES)
        if _is_pickle(name):
            check_pickle(chunk)
        elif chunk.startswith(_ZIP_START) and not name.startswith("data/"):
            raise CheckpointError(f"member {name} is an archive itself")
        while chunk:
            digest.update(chunk)
            chunk = member.read(_CHUNK_BYTES)
    return Member(info.file_size, digest.hexdigest())


def check_safetensors(path: Path) -> None:
    """Raise CheckpointError unless the header of a `.safetensors` describes exactly its bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes > min(size - 8, HEADER_LIMIT_BYTES):
            raise CheckpointError(f"it claims a header of {header_bytes:,} bytes")
        header = strict_json(file.read(header_bytes), "header")
    if not isinstance(header, dict):
        raise CheckpointError("its header lists no tensors")
    tensors = [_span(name, each) for name, each in header.items() if name != "__metadata__"]
    reached = 0
    for begin, end in sorted(tensors):
        if begin != reached:
            raise CheckpointError("its tensors overlap or leave gaps")
        reached = end
    if reached != size - 8 - header_bytes:
        raise CheckpointError("its tensors are not what fills it")


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


def _span(name: str, tensor: Any) -> tuple[int, int]:
    """Return where a tensor's bytes lie, if they are as many as its type and shape take."""
    try:
        (begin, end), shape = tensor["data_offsets"], tensor["shape"]
        bits = _DTYPE_BITS[tensor["dtype"]]
        is_right = all(type(n) is int and 0 <= n <= _LARGEST for n in (begin, end, *shape))
        is_right = is_right and len(shape) <= 16 and (end - begin) * 8 == bits * math.prod(shape)
    except (KeyError, TypeError, ValueError):
        is_right = False
    if not is_right:
        raise CheckpointError(f"tensor {name[:100]!r} is not described rightly")
    return begin, end
