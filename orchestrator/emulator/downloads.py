"""Signed links answered: kernel outputs, dataset files, datasets as one zip.

Files are streamed with Content-Length, Last-Modified, ETag and ranges.
"""

import os
import shutil
import threading
import zipfile
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from orchestrator.emulator.blobs import Blobs
from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import DatasetVersion, File, Refusal

_BUNDLING = threading.Lock()
_CHUNK_BYTES = 1 << 20


class _Stream(FileResponse):
    """A file in chunks so large that handing them between threads costs little."""

    chunk_size = _CHUNK_BYTES


def kernel_output(request: Request) -> Response:
    platform: Platform = request.app.state.platform
    session_id = int(request.path_params["session_id"])
    ask, world = platform.ledger.ask, platform.ledger.world
    session = ask(world.session_by_id, session_id=session_id)
    platform.links.check_output(session_id, request.path_params["token"], world.now)
    return _blob(platform, session.outputs, request.path_params["name"])


def dataset_file(request: Request) -> Response:
    platform: Platform = request.app.state.platform
    version = _signed_version(platform, request)
    return _blob(platform, version.files, request.path_params["name"])


def dataset_bundle(request: Request) -> Response:
    platform: Platform = request.app.state.platform
    version = _signed_version(platform, request)
    dataset_id = request.path_params["dataset_id"]
    bundle = platform.scratch / f"bundle-{dataset_id}-{version.number}.zip"
    with _BUNDLING:
        if not bundle.exists():
            for older in platform.scratch.glob(f"bundle-{dataset_id}-*.zip"):
                older.unlink()
            _write_bundle(bundle, version, platform.blobs)
    return _Stream(bundle, media_type="application/zip")


def _signed_version(platform: Platform, request: Request) -> DatasetVersion:
    ask, world = platform.ledger.ask, platform.ledger.world
    version = ask(
        world.stored_version,
        dataset_id=int(request.path_params["dataset_id"]),
        number=int(request.path_params["version"]),
    )
    signature = request.query_params.get("X-Goog-Signature", "")
    platform.links.check_dataset(request.url.path.lstrip("/"), signature, world.now)
    return version


def _blob(platform: Platform, files: tuple[File, ...], name: str) -> Response:
    for file in files:
        if file.name == name:
            path = platform.blobs.path(file.key)
            return _Stream(path, media_type="application/octet-stream")
    raise Refusal(404, f"File '{name}' was not found")


def _write_bundle(bundle: Path, version: DatasetVersion, blobs: Blobs) -> None:
    draft = bundle.with_suffix(".tmp")
    with zipfile.ZipFile(draft, "w", allowZip64=True, strict_timestamps=False) as archive:
        for file in version.files:
            entry = zipfile.ZipInfo.from_file(blobs.path(file.key), file.name)
            with blobs.path(file.key).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
    os.replace(draft, bundle)
