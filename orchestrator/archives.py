"""What is in a `.pt`: a zip of stored members, read and hashed; nothing is extracted.

All sizes come from outside, so each is held against the file's own before it is used: memory
stays within a few times PICKLE_LIMIT_BYTES, time within two readings of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.errors import CheckpointError
from orchestrator.opcodes import PICKLE_LIMIT_BYTES, Contents, read_pickle
from orchestrator.tensors import (
    Inventory,
    check_storages,
    finite_check,
    shown,
    weights_of,
)

MEMBER_LIMIT = 20_000
DIRECTORY_LIMIT_BYTES = 8 << 20
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


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, with the SHA-256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive's members by their path below its root, and the tensors that it describes."""

    members: dict[str, Member]
    tensors: Inventory


def read_archive(path: Path) -> Archive:
    """Return what is in an archive, each member read and hashed, weights and moments finite.

    Raises:
        CheckpointError: it is damaged, holds what torch would not write, asks for more than
            tensors and plain values, or describes tensors that are not in it.
    """
    with _opened(path) as (archive, infos):
        contents, members = _read_pickles(archive, infos)
        check_storages(contents.storages, {name: info.file_size for name, info in infos.items()})
        checks = _finite_checks(contents.tensors)
        for name, info in infos.items():
            if name not in members:
                members[name] = _read(archive, info, name, checks.get(name))
        return Archive(members, contents.tensors)


def read_listed(path: Path, listed: Sequence[Mapping[str, Any]] | None) -> Inventory:
    """Return an archive's tensors; raise CheckpointError if its members are not those listed."""
    archive = read_archive(path)
    if listed is None:
        return archive.tensors
    members = {member["path"]: member for member in listed}
    if archive.members.keys() != members.keys() or len(listed) != len(members):
        raise CheckpointError("it holds other members than listed")
    for name, member in archive.members.items():
        if member.bytes != members[name]["bytes"]:
            raise CheckpointError(f"member {name} has another size")
        if member.sha256 != members[name]["sha256"]:
            raise CheckpointError(f"member {name} does not match")
    return archive.tensors


def read_tensors(path: Path) -> Inventory:
    """Return the tensors that an archive describes; of its bytes only the pickle is read."""
    with _opened(path) as (archive, infos):
        return _read_pickles(archive, infos)[0].tensors


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    try:
        with path.open("rb") as file:
            directory_at = _check_directory(file, os.fstat(file.fileno()).st_size)
            with zipfile.ZipFile(file) as archive:
                yield archive, _check_members(archive.infolist(), directory_at)
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


def _check_members(
    infos: Sequence[zipfile.ZipInfo], directory_at: int
) -> dict[str, zipfile.ZipInfo]:
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


def _read_pickles(
    archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]
) -> tuple[Contents, dict[str, Member]]:
    """Look into all that is a pickle; return what the one describes that torch would open."""
    contents, members = Contents({}, {}), {}
    for name in filter(_is_pickle, infos):
        content = archive.read(infos[name])
        members[name] = Member(len(content), hashlib.sha256(content).hexdigest())
        described = read_pickle(content)
        if name == "data.pkl":
            contents = described
    return contents, members


def _finite_checks(tensors: Inventory) -> dict[str, tuple[str, Callable[[bytes], bool]]]:
    """Return, for each member that must be finite, a tensor's name and what tells."""
    seen: dict[str, str] = {}
    checks = {}
    for path, tensor in weights_of(tensors).items():
        member = f"data/{tensor.storage.key}"
        if seen.setdefault(member, tensor.dtype) != tensor.dtype:
            raise CheckpointError(f"member {member} is seen as {tensor.dtype} and {seen[member]}")
        if check := finite_check(tensor.dtype):
            checks[member] = (shown(path), check)
    return checks


def _read(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    name: str,
    finite: tuple[str, Callable[[bytes], bool]] | None,
) -> Member:
    """Read one member to its end, which checks its CRC; hash it, and look at its numbers."""
    digest = hashlib.sha256()
    with archive.open(info) as member:
        chunk = member.read(_CHUNK_BYTES)
        if chunk.startswith(_ZIP_START) and not name.startswith("data/"):
            raise CheckpointError(f"member {name} is an archive itself")
        if name == "byteorder" and chunk != b"little":
            raise CheckpointError("its numbers are of another byte order")
        while chunk:
            digest.update(chunk)
            if finite and not finite[1](chunk):
                raise CheckpointError(f"tensor {finite[0]} is not finite")
            chunk = member.read(_CHUNK_BYTES)
    return Member(info.file_size, digest.hexdigest())
