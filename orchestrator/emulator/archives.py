"""Archives as Kaggle ingests them: unpacked into a folder named after the archive."""

import gzip
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from orchestrator.emulator.blobs import Blobs
from orchestrator.emulator.records import File, Upload
from orchestrator.emulator.settings import Settings

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
_Members = Generator[tuple[str, IO[bytes] | gzip.GzipFile]]


def store_unpacked(
    blobs: Blobs, part: Path, upload: Upload, settings: Settings
) -> list[File] | None:
    """Store the members of an uploaded archive; None if it is to stay one file."""
    folder = _folder_of(upload.name, part, settings)
    if folder is None:
        return None
    files: list[File] = []
    try:
        with closing(_members(upload.name, part)) as members:
            for index, (name, content) in enumerate(members):
                key = f"upload-{upload.upload_id}-{index:05d}"
                draft = part.with_suffix(".member")
                with draft.open("wb") as target:
                    shutil.copyfileobj(content, target)
                files.append(File(folder + name, key, blobs.adopt(draft, key)))
                draft.unlink()
    except _BROKEN:
        return None
    return files


def _folder_of(name: str, part: Path, settings: Settings) -> str | None:
    """Where the members of a file of this name go; None if it is not unpacked."""
    if re.search(r"\.pth?$", name):
        return f"{name}/" if settings.unpack_checkpoints and zipfile.is_zipfile(part) else None
    if not settings.unpack_archives:
        return None
    match = re.fullmatch(r"(.+?)(\.zip|\.tar|\.tar\.gz|\.tgz)", name)
    if match:
        return f"{match[1]}/"
    return "" if name.endswith(".gz") else None


def _members(name: str, part: Path) -> _Members:
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _of_tar(part)
    if name.endswith(".gz"):
        return _of_gzip(part, name)
    return _of_zip(part)


def _of_zip(part: Path) -> _Members:
    with zipfile.ZipFile(part) as archive:
        for info in archive.infolist():
            if not info.is_dir() and _is_inside(info.filename):
                with archive.open(info) as content:
                    yield info.filename, content


def _of_tar(part: Path) -> _Members:
    with tarfile.open(part) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and _is_inside(member.name):
                yield member.name.removeprefix("./"), content


def _of_gzip(part: Path, name: str) -> _Members:
    with gzip.open(part) as content:
        yield name.removesuffix(".gz"), content


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
