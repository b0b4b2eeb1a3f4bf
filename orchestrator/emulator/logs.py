"""A session's log over HTTP: followed as server-sent events while it runs, whole afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.responses import FileResponse, Response, StreamingResponse

from orchestrator.emulator.platform import Platform
from orchestrator.emulator.records import Session

END_OF_LOG = "END_OF_LOG"
_LOOK_AGAIN_SECONDS = 0.1


def session_log(platform: Platform, session: Session) -> Response:
    """Each connection starts from the log's beginning."""
    if session.is_open:
        events = _follow(platform, session.session_id)
        return StreamingResponse(events, media_type="text/event-stream")
    if not session.log_key:
        return Response("[]", media_type="application/json")
    return FileResponse(platform.blobs.path(session.log_key), media_type="application/json")


async def _follow(platform: Platform, session_id: int) -> AsyncIterator[str]:
    follower = platform.host.log_lines(session_id)
    sent = 0
    while not platform.closing.is_set():
        session = platform.ledger.ask(platform.ledger.world.session_by_id, session_id=session_id)
        if not session.is_open:
            break
        for line in follower.new_lines():
            yield f"data: {line}\n\n"
            sent += 1
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    else:
        return  # the server goes away, the session does not: no end of log
    for entry in json.loads(platform.blobs.text(session.log_key) or "[]")[sent:]:
        yield f"data: {json.dumps(entry)}\n\n"
    yield f"data: {END_OF_LOG}\n\n"
