"""Imported by Python at its start in a session without internet: other hosts are out of reach.

What Python itself would connect to or look up fails as on a machine without a network; this
machine stays within reach. Programs that are not Python are not held back. Standard library only.
"""

import errno
import os
import sys
from typing import Any

_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_ADDRESS_INDEX = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_HERE = frozenset({"", "None", "localhost", "::1", "0.0.0.0", "::", os.uname().nodename})  # noqa: S104


def _is_here(host: object) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return name in _HERE or name.startswith("127.")


def _be_without_network(event: str, args: tuple[Any, ...]) -> None:
    if event in _LOOKUPS:
        if not _is_here(args[0]):
            from socket import EAI_AGAIN, gaierror  # noqa: PLC0415  (loaded: it raised the event)

            raise gaierror(EAI_AGAIN, "Temporary failure in name resolution")
    elif event in _ADDRESS_INDEX:
        address = args[_ADDRESS_INDEX[event]]
        # Anything but a tuple is a Unix socket's path, or no address.
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


if os.environ.get("KCHAIN_INTERNET") == "off":
    sys.addaudithook(_be_without_network)
