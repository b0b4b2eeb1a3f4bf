"""Connections that a fault can cut or hold, and that never keep the server from closing."""

import asyncio
import socket
import struct

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_CONNECTION = "connection"  # where a request's scope keeps it


class Connection(H11Protocol):
    """HTTP whose requests can reach their connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._gone = asyncio.Event()
        self._is_held = False
        self._is_ending = False  # the server closes
        self.app_state = {**self.app_state, _CONNECTION: self}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone.set()

    def shutdown(self) -> None:
        """A connection that a fault holds has nothing to finish."""
        self._is_ending = True
        if self._is_held:
            self.transport.abort()
        else:
            super().shutdown()

    def close(self) -> None:
        """End it after what was sent."""
        self.transport.close()

    async def cut(self) -> None:
        """Reset it, as a crashed peer or a middlebox does."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        await self._gone.wait()

    async def hold(self, seconds: float | None) -> bool:
        """Do nothing for so long; tells whether the connection ended meanwhile."""
        if self._is_ending:
            self.transport.abort()
        self._is_held = True
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._is_held = False
        return True


def connection_of(scope: Scope) -> Connection:
    """The connection that a request came on."""
    connection = scope["state"][_CONNECTION]
    assert isinstance(connection, Connection)
    return connection
