"""Faults on the wire: fail the n-th matching request in a stated way, and count that it did.

`reset_before`   cut the connection instead of handling the request
`reset_after`    handle the request, then cut the connection instead of answering
`status`         answer with a status instead of handling the request
`status_after`   handle the request, then answer with a status
`truncate`       send the head of the answer and half of its body, then close
"""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "transport"  # where a request's scope keeps its connection


@dataclass(frozen=True)
class Fault:
    """`match` is a method ("KernelsApiService/SaveKernel", "SaveKernel") or a path prefix."""

    match: str
    effect: str
    nth: int = 1  # the first matching request that fails, counted from 1
    times: int = 1  # how many fail from there on
    status: int = 503
    body: str | None = None  # HTML or JSON; Kaggle's JSON error if not given
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise ValueError(f"unknown effect {self.effect!r}; there are {sorted(EFFECTS)}")

    def matches(self, path: str) -> bool:
        if self.match.startswith("/"):
            return path.startswith(self.match)
        return path.endswith((f"/{self.match}", f".{self.match}"))


class FaultPlan:
    """The faults in force, and how often each matched and fired."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._fired: list[int] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)
            self._seen.extend(0 for _ in faults)
            self._fired.extend(0 for _ in faults)

    def clear(self) -> None:
        with self._lock:
            self._faults, self._seen, self._fired = [], [], []

    @property
    def fired(self) -> list[int]:
        """How often each fault fired, in the order in which they were added."""
        with self._lock:
            return list(self._fired)

    def next_for(self, path: str) -> Fault | None:
        """Count a request; returns the first fault that strikes it."""
        with self._lock:
            struck = None
            for index, fault in enumerate(self._faults):
                if not fault.matches(path):
                    continue
                self._seen[index] += 1
                due = fault.nth <= self._seen[index] < fault.nth + fault.times
                if due and struck is None:
                    struck = fault
                    self._fired[index] += 1
            return struck

    def to_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [
                {**asdict(fault), "fired": fired}
                for fault, fired in zip(self._faults, self._fired, strict=True)
            ]


class FaultyApp:
    """An ASGI application whose answers suffer the faults of a plan."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        fault = None if path.startswith("/_local/") else self._plan.next_for(path)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await EFFECTS[fault.effect](fault, self._app, scope, receive, send)


class CuttableProtocol(H11Protocol):
    """HTTP whose requests can reach their connection, to cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


async def _reset_before(
    _fault: Fault, _app: ASGIApp, scope: Scope, receive: Receive, _send: Send
) -> None:
    await _read_all(receive)
    await _cut(scope, receive)


async def _reset_after(
    _fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, _send: Send
) -> None:
    await app(scope, receive, _unheard)
    await _cut(scope, receive)


async def _status(fault: Fault, _app: ASGIApp, _scope: Scope, receive: Receive, send: Send) -> None:
    await _read_all(receive)
    await _answer(fault, send)


async def _status_after(
    fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    await app(scope, receive, _unheard)
    await _answer(fault, send)


async def _truncate(
    _fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Half of the announced length is sent; the other half never comes."""
    allowed = 0

    async def send_half(message: Message) -> None:
        nonlocal allowed
        if message["type"] == "http.response.start":
            allowed = int(dict(message["headers"]).get(b"content-length", b"2")) // 2
            await send(message)
            return
        part = message["body"][:allowed]
        allowed -= len(part)
        if part:
            await send({**message, "body": part, "more_body": True})
        if allowed == 0:
            scope["state"][TRANSPORT].close()

    await app(scope, receive, send_half)
    await _until_closed(receive)


Effect = Callable[[Fault, ASGIApp, Scope, Receive, Send], Awaitable[None]]
EFFECTS: Mapping[str, Effect] = {
    "reset_before": _reset_before,
    "reset_after": _reset_after,
    "status": _status,
    "status_after": _status_after,
    "truncate": _truncate,
}


async def _answer(fault: Fault, send: Send) -> None:
    text = fault.body
    if text is None:
        text = json.dumps({"code": fault.status, "message": "Planned fault"})
    kind, body = b"application/json" if text.startswith("{") else b"text/html", text.encode()
    headers = [(name.encode(), value.encode()) for name, value in fault.headers.items()]
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _unheard(_message: Message) -> None:
    """Where an answer goes that nobody gets."""


async def _read_all(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _cut(scope: Scope, receive: Receive) -> None:
    """Reset the connection, as a crashed peer or a middlebox does."""
    transport = scope["state"][TRANSPORT]
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_closed(receive)


async def _until_closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
