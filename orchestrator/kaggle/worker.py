"""The child process in which Kaggle's official client runs.

The client authenticates on import, prints, exits, retries mutations and has no timeouts. Here
it can do all that without harm: HOME, TMPDIR and environment are private, the credential comes
through a pipe and stays in memory, every call is made once, and the parent kills this process
when a deadline passes.

Protocol, one JSON document a line. In: first `{"home", "endpoint", "credential"}`, then calls
`{"id", "verb", "args"}`. Out, on what was standard output before the client could touch it:
`{"id", "sending": true}` just before a request that changes Kaggle, `{"id", "line"}` for each
log line of `follow`, and `{"id", "result"}` or `{"id", "error"}` at the end.

When standard input ends, the parent is gone and this process ends at once, whatever it is
doing: nothing may change Kaggle that no journal is waiting for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from orchestrator.kaggle.client import Client

CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 10, 60
_MESSAGE_LIMIT = 4000  # characters; the parent cuts further, when it has blanked out secrets


def main() -> None:
    """Serve calls until standard input ends."""
    answers, orders = _take_stdout(), _take_stdin()
    hello = json.loads(orders.readline())
    home = Path(hello["home"])
    if Path.home() != home:
        sys.exit("the worker runs in a home of its own only: it is removed in the end")
    contact = _confine(hello["endpoint"])
    calls, reader = _read_calls(orders, home)
    with contextlib.suppress(BrokenPipeError):  # nobody listens: the parent is gone
        _serve_all(hello, calls, answers, contact)
    reader.join()  # it tidies up when the parent is gone, which must not be cut short


def _serve_all(
    hello: Mapping[str, Any],
    calls: queue.Queue[dict[str, Any]],
    answers: TextIO,
    contact: Contact,
) -> None:
    """Start the client, then make one call after the other; return if it does not start."""
    try:
        from orchestrator.kaggle.client import Client  # noqa: PLC0415 - confined before imported

        client = Client(hello["endpoint"], hello["credential"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the client may raise anything
        _say(answers, {"id": 0, "error": _describe(error, contact)})
        return
    _say(answers, {"id": 0, "result": {"username": client.username}})
    while True:
        _serve(client, calls.get(), answers, contact)


def _read_calls(orders: TextIO, home: Path) -> tuple[queue.Queue[dict[str, Any]], threading.Thread]:
    """Read calls in the background; end the process when the parent is gone."""
    calls: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in orders:
            calls.put(json.loads(line))
        shutil.rmtree(home, ignore_errors=True)  # what the client noted is in it
        os._exit(0)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return calls, reader


@dataclass
class Contact:
    """Whether anybody answered since the call began, or since its mutation was announced."""

    answered: bool = False


def _serve(client: Client, call: Mapping[str, Any], answers: TextIO, contact: Contact) -> None:
    contact.answered = False

    def sending() -> None:
        contact.answered = False
        _say(answers, {"id": call["id"], "sending": True})

    try:
        if call["verb"] == "follow":
            for event in client.follow(**call["args"]):
                _say(answers, {"id": call["id"], "line": event})
            result: object = None
        elif call["verb"] in MUTATIONS:
            result = getattr(client, call["verb"])(sending=sending, **call["args"])
        else:
            result = getattr(client, call["verb"])(**call["args"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reported whole to the parent
        _say(answers, {"id": call["id"], "error": _describe(error, contact, client.access_token)})
    else:
        _say(answers, {"id": call["id"], "result": result})


MUTATIONS = frozenset({"push", "create_dataset", "publish_version"})


def _take_stdout() -> TextIO:
    """Keep standard output for answers; whatever anybody prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _take_stdin() -> TextIO:
    """Keep standard input for calls: the client's `exit` closes sys.stdin, and would wait for us."""
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return orders


def _say(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _confine(endpoint: str) -> Contact:
    """Give every request a timeout; with a loopback endpoint, refuse all other hosts."""
    send, contact = HTTPAdapter.send, Contact()

    def send_in_time(self: HTTPAdapter, request: Any, *args: Any, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or (
            CONNECT_TIMEOUT_SECONDS,
            READ_TIMEOUT_SECONDS,
        )
        answer = send(self, request, *args, **options)
        contact.answered = True
        return answer

    HTTPAdapter.send = send_in_time  # type: ignore[method-assign]
    if is_loopback(urlsplit(endpoint).hostname):
        sys.addaudithook(_refuse_other_hosts)
    return contact


def _refuse_other_hosts(event: str, args: tuple[Any, ...]) -> None:
    if event in _LOOK_UPS and not is_loopback(args[0]):
        raise PermissionError(f"refused to look up {args[0]!r}: the endpoint is local")
    if event in _CONTACTS and isinstance(args[1], tuple) and not is_loopback(args[1][0]):
        raise PermissionError(f"refused to contact {args[1][0]!r}: the endpoint is local")


_LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_CONTACTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


def is_loopback(host: object) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _describe(error: BaseException, contact: Contact, hidden: str = "") -> dict[str, Any]:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    headers = getattr(response, "headers", None) or {}
    # After a redirection the first server has had the request, whoever the second is.
    not_sent = not contact.answered and _never_connected(error)
    message = "no connection" if not_sent else _foreign_message(response) or str(error)
    if hidden:  # a token that was made here is unknown to the parent, which blanks out the others
        message = message.replace(hidden, "[redacted]")
    return {
        "type": type(error).__name__,
        "message": message[:_MESSAGE_LIMIT],
        "status": status,
        "retry_after": headers.get("Retry-After"),
        "not_sent": not_sent,
    }


def _foreign_message(response: Any) -> str:
    """Return the `message` that Kaggle put into an error body, in either of its two shapes."""
    if response is None:
        return ""
    try:
        body = response.json()
    except ValueError:
        return f"HTTP {response.status_code} {response.reason}"
    if not isinstance(body, dict):
        return f"HTTP {response.status_code}"
    inner = body.get("error")
    nested = inner.get("message") if isinstance(inner, dict) else None
    return str(body.get("message") or nested or f"HTTP {response.status_code}")


def _never_connected(error: BaseException | None) -> bool:
    """Tell whether the connection itself failed, so that certainly nothing was sent."""
    names = {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ConnectTimeout"}
    for _depth in range(10):
        if error is None:
            return False
        if type(error).__name__ in names:
            return True
        inner = error.args[0] if error.args else None
        reason = getattr(inner, "reason", None) or inner
        error = reason if isinstance(reason, BaseException) else error.__cause__
    return False


if __name__ == "__main__":
    main()
