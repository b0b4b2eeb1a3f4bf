"""Downloads of session outputs: resumed by Range, bounded in size and time, never trusted.

What arrives is checked by `checkpoints.py`; here nothing is opened, unpacked or believed.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from orchestrator.kaggle.port import Gone, Sink, Trouble, Unreadable

CHUNK_BYTES = 1 << 20
TIMEOUTS_SECONDS = (10, 60)  # connect, and between two bytes
SLOWEST_BYTES = 50_000  # per second; below this a download counts as stuck
PATIENCE_SECONDS = 120.0
ATTEMPTS = 4


def download(url: str, sink: Sink, limit_bytes: int, *, endpoint: str) -> int | Gone | Unreadable:
    """Bring `url` into `sink`, going on where it stands; return the whole size in bytes.

    A broken connection is taken up again at the next byte, up to ATTEMPTS times. Plain http is
    accepted only from loopback, and only loopback may be asked when the endpoint is loopback;
    that holds for redirections too.
    """
    trouble: Gone | Unreadable = Unreadable(Trouble.NETWORK, "not tried")
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no .netrc: signed URLs go nowhere else
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Guard(endpoint))
        for _attempt in range(ATTEMPTS):
            result = _attempt_download(session, url, sink, limit_bytes)
            if isinstance(result, int | Gone):
                return result
            trouble = result
    return trouble


class _Elsewhere(requests.exceptions.InvalidURL):
    """An address where no output file may be."""


class _Guard(HTTPAdapter):
    """Sends a request only to where an output file may be, however it came to be asked there."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        super().__init__()

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        if problem := _refuse(request.url or "", self._endpoint):
            raise _Elsewhere(problem)
        return super().send(request, *args, **options)


def _attempt_download(
    session: requests.Session, url: str, sink: Sink, limit_bytes: int
) -> int | Gone | Unreadable:
    start = sink.size_bytes
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUTS_SECONDS) as answer:
            if answer.status_code == 416:
                sink.restart()
                return Unreadable(Trouble.ODD, "the file changed while it was downloaded")
            if trouble := _judge(answer):
                return trouble
            if start and answer.status_code == 200:
                sink.restart()
            return _pour(answer, sink, limit_bytes)
    except _Elsewhere as error:
        return Unreadable(Trouble.ODD, str(error))
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        # ValueError: a redirection to what is no address. No text: it may hold a signed URL.
        return Unreadable(Trouble.NETWORK, f"download broke off: {type(error).__name__}")


def _judge(answer: requests.Response) -> Gone | Unreadable | None:
    """Return why an answer's body is no output file; None if it may be one."""
    if answer.status_code in (403, 404, 410):
        return Gone(f"HTTP {answer.status_code} for an output file")
    if answer.status_code not in (200, 206):
        return Unreadable(Trouble.NETWORK, f"HTTP {answer.status_code} for an output file")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        return Unreadable(Trouble.NETWORK, "a web page instead of an output file")
    return None


def _pour(answer: requests.Response, sink: Sink, limit_bytes: int) -> int | Unreadable:
    """Write what arrives, as it arrives: a slow drip must not outlast the deadline."""
    announced = answer.headers.get("Content-Length", "")
    expected = sink.size_bytes + int(announced) if announced.isdecimal() else None
    if expected is not None and expected > limit_bytes:
        return Unreadable(Trouble.ODD, f"{expected} bytes announced, {limit_bytes} allowed")
    deadline = time.monotonic() + PATIENCE_SECONDS + (expected or limit_bytes) / SLOWEST_BYTES
    while chunk := answer.raw.read1(CHUNK_BYTES):
        sink.write(chunk)
        if sink.size_bytes > limit_bytes:
            return Unreadable(Trouble.ODD, f"more than {limit_bytes} bytes")
        if time.monotonic() > deadline:
            return Unreadable(Trouble.NETWORK, "download too slow")
    if expected is not None and sink.size_bytes != expected:
        return Unreadable(Trouble.NETWORK, f"{sink.size_bytes} of {expected} bytes arrived")
    return sink.size_bytes


def _refuse(url: str, endpoint: str) -> str | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(urlsplit(endpoint).hostname or ""):
        return None if _is_loopback(host) else f"an output file at {host!r}: the endpoint is local"
    return None if parts.scheme == "https" else f"an output file over {parts.scheme!r}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
