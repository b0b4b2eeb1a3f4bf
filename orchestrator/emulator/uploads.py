"""Uploads of blobs by Google's resumable protocol, in constant memory.

A whole file comes in one PUT. An interrupted one is asked for with `Content-Range: bytes */N`
(308 and how much is here) and continued with `bytes a-b/N`. How much is here is the length of
the part on disk, nothing else.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from orchestrator.emulator.archives import store_unpacked
from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import File, Refusal, Upload

_BLOCK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (?:\*|([0-9]+)-([0-9]+))/([0-9]+)")


async def put_blob(request: Request) -> Response:
    platform: Platform = request.app.state.platform
    upload_id = request.query_params.get("upload_id", "")
    ask, world = platform.ledger.ask, platform.ledger.world
    upload = await run_in_threadpool(ask, world.upload, upload_id=upload_id)
    if upload.files is not None:
        return Response(status_code=200)
    part = platform.scratch / f"{upload.upload_id}.part"
    start = _range_start(request.headers.get("content-range"), upload)
    if start is None:
        return _state_of(part, upload)
    try:
        await _receive(request, part, start)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody is there to read it
    if part.stat().st_size == upload.size_bytes:
        await run_in_threadpool(_finish, platform, upload, part)
        return Response(status_code=200)
    return _state_of(part, upload)


def _range_start(content_range: str | None, upload: Upload) -> int | None:
    """Where the body goes; None if the request only asks how much is here."""
    if content_range is None:
        return 0
    match = _RANGE.fullmatch(content_range)
    if match is None or int(match[3]) != upload.size_bytes:
        raise Refusal(400, "Invalid Content-Range")
    return None if match[1] is None else int(match[1])


async def _receive(request: Request, part: Path, start: int) -> None:
    part.touch()
    received = part.stat().st_size
    if start > received:
        raise Refusal(400, "The range begins beyond what was received")
    with part.open("r+b") as file:
        if start < received:  # a file truncated for nothing is written out when it is closed
            file.truncate(start)
        file.seek(start)
        async for block in _blocks(request.stream()):
            await run_in_threadpool(file.write, block)  # a busy disk holds up nobody else


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks in larger pieces; what came before a disconnection is not lost."""
    block = bytearray()
    try:
        async for chunk in chunks:
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    except ClientDisconnect:
        yield bytes(block)
        raise
    yield bytes(block)


def _state_of(part: Path, upload: Upload) -> Response:
    received = part.stat().st_size if part.exists() else 0
    if received > upload.size_bytes:
        raise Refusal(400, "More was received than was announced")
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    return Response(status_code=308, headers=headers)


def _finish(platform: Platform, upload: Upload, part: Path) -> None:
    settings = platform.ledger.world.settings
    files = store_unpacked(platform.blobs, part, upload, settings)
    if files is None:
        name = upload.name
        key = f"upload-{upload.upload_id}"
        files = [File(name, key, platform.blobs.adopt(part, key))]
    platform.ledger.do(platform.ledger.world.finish_upload, upload_id=upload.upload_id, files=files)
    part.unlink()
