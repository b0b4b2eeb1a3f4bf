"""One request that a fault strikes: what can be done with it and with its answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.emulator.answers import Answer, Json, with_headers
from orchestrator.emulator.connections import Connection, connection_of
from orchestrator.emulator.faults import Fault


@dataclass(frozen=True)
class Exchange:
    """A request that is struck, and what can be done with it."""

    fault: Fault
    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    kept: dict[Any, Any]

    @property
    def connection(self) -> Connection:
        return connection_of(self.scope)

    async def handle(self, send: Send | None = None) -> None:
        """Let local Kaggle answer, to the client or to `send`."""
        await self.app(self.scope, self.receive, send or self.send)

    async def whole_answer(self) -> Answer:
        """Let local Kaggle answer, and keep the answer."""
        start: Message = {}
        body: list[bytes] = []

        async def hear(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.append(message.get("body", b""))

        await self.handle(hear)
        return Answer(start["status"], b"".join(body), dict(start["headers"]))

    async def leave_hanging(self) -> None:
        """Answer nothing until the fault's time is over, or the client's patience."""
        if not await self.connection.hold(self.fault.seconds):
            await self.connection.cut()


async def change_json(exchange: Exchange, change: Callable[[Json, Fault], Json]) -> None:
    """An answer that is no JSON object is sent as it is."""
    answer = await exchange.whole_answer()
    try:
        content = json.loads(answer.body)
    except ValueError:
        content = None
    if isinstance(content, dict):
        answer = answer.with_json(change(content, exchange.fault))
    await answer.send(exchange.send)


async def change_bytes(
    exchange: Exchange,
    change: Callable[[bytes], bytes],
    headers: Mapping[str, str],
    times: int | None = None,
) -> None:
    """Change the pieces of an answer's body, or the first so many of them."""
    changed = 0

    async def send(message: Message) -> None:
        nonlocal changed
        if message["type"] == "http.response.start":
            message = {**message, "headers": with_headers(message["headers"], headers)}
        elif message.get("body") and (times is None or changed < times):
            message = {**message, "body": change(message["body"])}
            changed += 1
        await exchange.send(message)

    await exchange.handle(send)


async def unheard(_message: Message) -> None:
    """Where an answer goes that nobody gets."""


async def read_all(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else comes."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
