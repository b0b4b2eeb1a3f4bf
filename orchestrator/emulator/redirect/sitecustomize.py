"""Imported by Python at its start: send Kaggle's clients to KCHAIN_KAGGLE_ENDPOINT.

The `kaggle` package chooses its server itself and goes to production whatever it is told, so
the table of servers in kagglesdk is rewritten when that module is imported. Should something
get past that, an audit hook refuses every connection that would leave this machine.
Standard library only; does nothing when the variable is not set.
"""

import importlib.abc
import importlib.machinery
import ipaddress
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

ENDPOINT_VARIABLE = "KCHAIN_KAGGLE_ENDPOINT"
_TABLE_MODULE = "kagglesdk.kaggle_env"
_TABLE_NAME = "_env_to_endpoint"
_ADDRESS_INDEX = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_NAME_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})


def _is_loopback(host: object) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "localhost")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse_to_leave(event: str, args: tuple[Any, ...]) -> None:
    if event in _NAME_EVENTS:
        host = args[0]
    elif event in _ADDRESS_INDEX:
        address = args[_ADDRESS_INDEX[event]]
        if not isinstance(address, tuple):  # a Unix socket's path, or no address
            return
        host = address[0]
    else:
        return
    if not _is_loopback(host):
        raise PermissionError(
            f"connection to {host!r} refused: this process may only talk to local Kaggle"
        )


class _RedirectingFinder(importlib.abc.MetaPathFinder):
    """Finds the one module like everybody else, and has its table rewritten on import."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TABLE_MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RedirectingLoader(spec.loader, self._endpoint)
        return spec


class _RedirectingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, endpoint: str) -> None:
        self._loader = loader
        self._endpoint = endpoint

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        table = getattr(module, _TABLE_NAME, None)
        if not isinstance(table, dict):
            raise ImportError(  # noqa: TRY004  (an unknown kagglesdk, not a wrong argument)
                f"{_TABLE_MODULE} has no table {_TABLE_NAME}: this kagglesdk is not known here "
                "and cannot be sent to local Kaggle"
            )
        table.update(dict.fromkeys(table, self._endpoint))


def _install(endpoint: str) -> None:
    sys.addaudithook(_refuse_to_leave)
    sys.meta_path.insert(0, _RedirectingFinder(endpoint.rstrip("/")))


if os.environ.get(ENDPOINT_VARIABLE):
    _install(os.environ[ENDPOINT_VARIABLE])
