"""Effects of the wire: what a fault does to one request and its answer.

Every effect is an ASGI application around another. Answers that are files pass through in
pieces; those that are changed as a whole are JSON and small.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.emulator import answers
from orchestrator.emulator.answers import with_headers
from orchestrator.emulator.exchanges import (
    Exchange,
    change_bytes,
    change_json,
    read_all,
    replayed,
    unheard,
)
from orchestrator.emulator.faults import FaultPlan, Wire
from orchestrator.emulator.records import Twist

TWIST = "twist"  # where a request's scope keeps what the platform shall do wrong

Effect = Callable[[Exchange], Awaitable[None]]


class FaultyApp:
    """An ASGI application whose requests suffer the faults of a plan."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan
        self._expired: set[tuple[str, bytes]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        link = (path, bytes(scope["query_string"]))  # a dataset's link is signed in its query
        if link in self._expired:
            await answers.EXPIRED_LINK.send(send)
            return
        strike = None if path.startswith("/_local/") else self._plan.strike(path)
        if strike is None:
            await self._app(scope, receive, send)
            return
        if strike.fault.effect == Wire.EXPIRE:
            self._expired.add(link)
        if strike.fault.effect in set(Twist):
            scope["state"][TWIST] = Twist(strike.fault.effect)
            await self._app(scope, receive, send)
            return
        exchange = Exchange(strike.fault, self._app, scope, receive, send, strike.kept)
        await EFFECTS[Wire(strike.fault.effect)](exchange)


# The request is not handled


async def _reset_before(exchange: Exchange) -> None:
    await read_all(exchange.receive)
    await exchange.connection.cut()


async def _hang(exchange: Exchange) -> None:
    await read_all(exchange.receive)
    await exchange.leave_hanging()


async def _answer(exchange: Exchange) -> None:
    await read_all(exchange.receive)
    await answers.planned(exchange.fault).send(exchange.send)


async def _expire(exchange: Exchange) -> None:
    await answers.EXPIRED_LINK.send(exchange.send)


# The request is handled


async def _reset_after(exchange: Exchange) -> None:
    await exchange.handle(unheard)
    await exchange.connection.cut()


async def _hang_after(exchange: Exchange) -> None:
    await exchange.handle(unheard)
    await exchange.leave_hanging()


async def _answer_after(exchange: Exchange) -> None:
    await exchange.handle(unheard)
    await answers.planned(exchange.fault).send(exchange.send)


async def _cut_upload(exchange: Exchange) -> None:
    left = int(dict(exchange.scope["headers"]).get(b"content-length", b"0")) // 2

    async def receive_half() -> Message:
        nonlocal left
        if left == 0:
            return {"type": "http.disconnect"}
        message = await exchange.receive()
        body = message.get("body", b"")[:left]
        left -= len(body)
        return {**message, "body": body, "more_body": True}

    await exchange.app(exchange.scope, receive_half, unheard)
    await exchange.connection.cut()


async def _twice(exchange: Exchange) -> None:
    body = await read_all(exchange.receive)
    for send in (unheard, exchange.send):
        await exchange.app(exchange.scope, replayed(body, exchange.receive), send)


async def _delay(exchange: Exchange) -> None:
    if not await exchange.connection.hold(exchange.fault.seconds):
        await exchange.handle()


# The answer is changed


async def _edit(exchange: Exchange) -> None:
    await change_json(exchange, answers.edited)


async def _part(exchange: Exchange) -> None:
    await change_json(exchange, answers.without_second_halves)


async def _rename(exchange: Exchange) -> None:
    await change_json(exchange, answers.renamed)


async def _double(exchange: Exchange) -> None:
    await change_json(exchange, answers.doubled)


async def _freeze(exchange: Exchange) -> None:
    """Answers are kept apart by what was asked."""
    body = await read_all(exchange.receive)
    again = replace(exchange, receive=replayed(body, exchange.receive))
    asked = (exchange.scope["path"], exchange.scope["query_string"], body)
    if asked not in exchange.kept:
        exchange.kept[asked] = await again.whole_answer()
    await exchange.kept[asked].send(exchange.send)


async def _change_headers(exchange: Exchange) -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {
                **message,
                "headers": with_headers(message["headers"], exchange.fault.headers),
            }
        await exchange.send(message)

    await exchange.handle(send)


async def _truncate(exchange: Exchange) -> None:
    """Half of the announced length is sent; the other half never comes."""
    allowed = 0

    async def send_half(message: Message) -> None:
        nonlocal allowed
        if message["type"] == "http.response.start":
            allowed = int(dict(message["headers"]).get(b"content-length", b"2")) // 2
            await exchange.send(message)
            return
        part = message.get("body", b"")[:allowed]
        allowed -= len(part)
        if part:
            await exchange.send({**message, "body": part, "more_body": True})
        if allowed == 0:
            exchange.connection.close()

    await exchange.handle(send_half)
    await exchange.connection.hold(None)


async def _drip(exchange: Exchange) -> None:
    fault, drops = exchange.fault, 0

    async def send_drops(message: Message) -> None:
        nonlocal drops
        body = message.get("body", b"")
        while body and (fault.seconds is None or drops * fault.drop_seconds < fault.seconds):
            drop, body = body[: fault.drop_bytes], body[fault.drop_bytes :]
            await exchange.send({"type": "http.response.body", "body": drop, "more_body": True})
            drops += 1
            if await exchange.connection.hold(fault.drop_seconds):
                return
        await exchange.send({**message, "body": body} if "body" in message else message)

    await exchange.handle(send_drops)


async def _flip(exchange: Exchange) -> None:
    """The highest bit of the middle byte, of the first piece if there are several."""
    await change_bytes(exchange, answers.with_flipped_bit, {}, times=1)


async def _swap(exchange: Exchange) -> None:
    etag = {"etag": '"another"', "last-modified": ""}
    await change_bytes(exchange, answers.inverted, etag)


EFFECTS: Mapping[Wire, Effect] = {
    Wire.RESET_BEFORE: _reset_before,
    Wire.HANG: _hang,
    Wire.STATUS: _answer,
    Wire.ANSWER: _answer,
    Wire.EXPIRE: _expire,
    Wire.RESET_AFTER: _reset_after,
    Wire.HANG_AFTER: _hang_after,
    Wire.STATUS_AFTER: _answer_after,
    Wire.ANSWER_AFTER: _answer_after,
    Wire.CUT_UPLOAD: _cut_upload,
    Wire.TWICE: _twice,
    Wire.DELAY: _delay,
    Wire.EDIT: _edit,
    Wire.PART: _part,
    Wire.RENAME: _rename,
    Wire.DOUBLE: _double,
    Wire.FREEZE: _freeze,
    Wire.HEADERS: _change_headers,
    Wire.TRUNCATE: _truncate,
    Wire.DRIP: _drip,
    Wire.FLIP: _flip,
    Wire.SWAP: _swap,
}
