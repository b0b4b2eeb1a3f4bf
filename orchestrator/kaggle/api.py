"""The port over the official client: every foreign error becomes one of our outcomes here.

What certainly did nothing is Refused, what may have done something is Unknown, what failed to
read is Unreadable. Kaggle answers 403 alike for "missing" and "not permitted"; the quota call,
which needs nothing but a good credential, tells the two apart.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from orchestrator import leaks, transfer
from orchestrator.kaggle.child import WORKER_COMMAND, Answer, Child, Credential
from orchestrator.kaggle.port import (
    DatasetInfo,
    DatasetVersion,
    Done,
    Gone,
    KernelInfo,
    LandedBad,
    OutputFile,
    PublishRequest,
    Pushed,
    PushRequest,
    Refused,
    SessionInfo,
    Sink,
    Trouble,
    Unknown,
    Unreadable,
)
from orchestrator.model import Quota, SessionStatus

T = TypeVar("T")

READ_SECONDS = 90.0
PUSH_SECONDS = 180.0
SLOWEST_UPLOAD = 50_000  # bytes per second below which an upload counts as stuck
MAX_RETRY_AFTER_SECONDS = 900.0

_BY_STATUS = {
    400: Trouble.INVALID,
    401: Trouble.AUTH,
    403: Trouble.AUTH,
    404: Trouble.INVALID,
    409: Trouble.INVALID,
    412: Trouble.INVALID,
    413: Trouble.INVALID,
    429: Trouble.RATE,
}


class KaggleApi:
    """Implements `port.Kaggle`. One worker process for calls, disposable ones for logs."""

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        *,
        command: Sequence[str] = WORKER_COMMAND,
        homes: Path | None = None,
    ) -> None:
        self._start = partial(Child, endpoint, credential, command=command, homes=homes)
        self._endpoint, self._credential = endpoint, credential
        self._child = self._start()
        self._lock = threading.Lock()

    def close(self) -> None:
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Mutations

    def push(self, request: PushRequest) -> Done[Pushed] | Refused | LandedBad | Unknown:
        if secret := leaks.find(request.source, self._credential.secrets):
            return Refused(Trouble.INVALID, f"not sent: the notebook holds {secret}")
        answer = self._call(
            "push",
            PUSH_SECONDS,
            kernel=request.kernel,
            title=request.title,
            source=request.source,
            dataset_sources=list(request.dataset_sources),
            machine_shape=request.machine_shape,
            enable_internet=request.enable_internet,
            session_timeout_seconds=request.session_timeout_seconds,
        )
        return _failed_mutation(answer) or _read_push(request, answer.result)

    def create_dataset(self, request: PublishRequest) -> Done[None] | Refused | Unknown:
        return self._publish("create_dataset", request)

    def publish_version(self, request: PublishRequest) -> Done[None] | Refused | Unknown:
        return self._publish("publish_version", request)

    def _publish(self, verb: str, request: PublishRequest) -> Done[None] | Refused | Unknown:
        size = sum((request.folder / name).stat().st_size for name in request.files)
        answer = self._call(
            verb,
            PUSH_SECONDS + size / SLOWEST_UPLOAD,
            dataset=request.dataset,
            title=request.title,
            folder=str(request.folder),
            files=list(request.files),
            notes=request.notes,
        )
        if failed := _failed_mutation(answer):
            if isinstance(failed, Refused) and _status(answer) == 403:
                # Kaggle's words for "the first version is still processing", and for a
                # credential that may not write: either way, later.
                return Refused(Trouble.BUSY, failed.message)
            return failed
        if answer.result["error"]:
            return _refused_in_words(answer.result["error"])
        if answer.result["status"].lower() != "ok":
            return Unknown(f"odd answer to {verb}: status {answer.result['status']!r}")
        return Done(None)

    # Reads

    def identity(self) -> str | Unreadable:
        answer = self._call("identity", READ_SECONDS)
        if answer.error is not None or answer.silent:
            return _unreadable(answer)
        return str(answer.result) or Unreadable(Trouble.AUTH, "the credential names no user")

    def kernel(self, kernel: str, version: int | None = None) -> KernelInfo | Gone | Unreadable:
        return self._read("kernel", _read_kernel, kernel=kernel, version=version)

    def session(self, kernel: str, version: int) -> SessionInfo | Gone | Unreadable:
        return self._read("session", _read_session, kernel=kernel, version=version)

    def outputs(self, kernel: str, version: int) -> tuple[OutputFile, ...] | Gone | Unreadable:
        return self._read("outputs", _read_outputs, kernel=kernel, version=version)

    def log(self, kernel: str, version: int) -> str | Gone | Unreadable:
        return self._read("log", str, kernel=kernel, version=version)

    def download(self, file: OutputFile, sink: Sink, limit_bytes: int) -> int | Gone | Unreadable:
        return transfer.download(file.url, sink, limit_bytes, endpoint=self._endpoint)

    def dataset(self, dataset: str) -> DatasetInfo | Gone | Unreadable:
        return self._read("dataset", _read_dataset, dataset=dataset)

    def dataset_files(self, dataset: str, version: int) -> Mapping[str, int] | Gone | Unreadable:
        return self._read("dataset_files", dict, dataset=dataset, version=version)

    def dataset_file(
        self, dataset: str, version: int, name: str, limit_bytes: int
    ) -> bytes | Gone | Unreadable:
        return self._read(
            "dataset_file",
            lambda body: bytes.fromhex(body["hex"]),
            dataset=dataset,
            version=version,
            name=name,
            limit_bytes=limit_bytes,
        )

    def dataset_address(
        self, dataset: str, version: int, name: str
    ) -> OutputFile | Gone | Unreadable:
        return self._read(
            "dataset_address",
            lambda url: OutputFile(name, str(url)),
            dataset=dataset,
            version=version,
            name=name,
        )

    def quota(self) -> Quota | Unreadable:
        answer = self._call("quota", READ_SECONDS)
        if answer.error is not None or answer.silent:
            return _unreadable(answer)
        return Quota(**answer.result)

    def follow(self, kernel: str, version: int) -> LogFollower:
        """Open the live log of a running session, in a disposable process of its own."""
        return LogFollower(self._start(), kernel, version)

    def _call(self, verb: str, deadline_seconds: float, **args: Any) -> Answer:
        with self._lock:
            answer = self._child.call(verb, args, deadline_seconds)
            if _status(answer) == 401:
                self._child.kill()  # an access token ends in hours; the next worker gets its own
            return answer

    def _read(self, verb: str, parse: Callable[[Any], T], **args: Any) -> T | Gone | Unreadable:
        answer = self._call(verb, READ_SECONDS, **args)
        if answer.silent or answer.error is not None:
            if _status(answer) == 404:
                return Gone(_message(answer))
            if _status(answer) == 403 and isinstance(self.quota(), Quota):
                return Gone(_message(answer))
            return _unreadable(answer)
        try:
            return parse(answer.result)
        except (KeyError, TypeError, ValueError) as error:
            return Unreadable(Trouble.ODD, f"odd answer to {verb}: {error}")


class LogFollower:
    """Log events of one running session, until it ends or `close` is called."""

    def __init__(self, child: Child, kernel: str, version: int) -> None:
        self._child, self._args = child, {"kernel": kernel, "version": version}

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for entry in self._child.stream("follow", self._args):
            if isinstance(entry, dict):
                yield _redacted(entry)

    def close(self) -> None:
        self._child.close()


def _read_push(
    request: PushRequest, body: Mapping[str, Any]
) -> Done[Pushed] | Refused | LandedBad | Unknown:
    """Judge the answer to a push: a refusal and a missing source are fields, not errors."""
    if body["error"]:
        return _refused_in_words(body["error"])
    version = body["version"]
    if version < 1:
        return Unknown("the answer to the push names no version")
    slug = body["ref"].rstrip("/").rpartition("/")[2]
    if slug and slug.lower() != request.kernel:
        return LandedBad(None, f"Kaggle saved the kernel as {slug!r} instead (version {version})")
    if body["invalid_sources"]:
        names = ", ".join(body["invalid_sources"])
        return LandedBad(version, f"the session runs without its input {names}")
    return Done(Pushed(version, body["url"]))


def _read_kernel(body: Mapping[str, Any]) -> KernelInfo:
    if body["current_version"] < 1 or not body["source"]:
        raise ValueError("a kernel without version or source")
    return KernelInfo(**body)


def _read_session(body: Mapping[str, Any]) -> SessionInfo:
    return SessionInfo(SessionStatus(body["status"]), body["failure_message"])


def _read_outputs(body: Sequence[Mapping[str, str]]) -> tuple[OutputFile, ...]:
    files = tuple(OutputFile(**file) for file in body)
    if not all(file.name and file.url for file in files):
        raise ValueError("an output file without name or address")
    return files


def _read_dataset(body: Mapping[str, Any]) -> DatasetInfo:
    if body["current_version"] < 1 or body["is_private"] is None or body["status"] is None:
        raise ValueError("a dataset without version, privacy or status")
    return DatasetInfo(
        current_version=body["current_version"],
        is_private=body["is_private"],
        is_ready=body["status"] == "ready",
        has_failed=body["status"] == "failed",
        versions=tuple(DatasetVersion(**version) for version in body["versions"]),
    )


def _failed_mutation(answer: Answer) -> Refused | Unknown | None:
    """Return what a mutation that brought no result has come to; None if it brought one."""
    if not answer.silent and answer.error is None:
        return None
    message, error = _message(answer), answer.error or {}
    trouble = _certain_trouble(answer)
    if trouble is None and answer.sent and not error.get("not_sent"):
        return Unknown(message)
    return Refused(trouble or Trouble.NETWORK, message, _retry_after(error.get("retry_after")))


def _unreadable(answer: Answer) -> Unreadable:
    trouble = _certain_trouble(answer)
    if trouble is None:
        never_asked = answer.silent or (answer.error or {}).get("not_sent")
        trouble = Trouble.NETWORK if never_asked else Trouble.ODD
    return Unreadable(trouble, _message(answer))


def _certain_trouble(answer: Answer) -> Trouble | None:
    """Return what an answer says for certain; None if it leaves open what happened."""
    if not answer.sent and (answer.error or {}).get("type") == "SystemExit":
        return Trouble.AUTH  # how the client says that it found no usable credential
    return _BY_STATUS.get(_status(answer) or 0)


def _refused_in_words(message: str) -> Refused:
    """Class a refusal that came as text with HTTP 200."""
    text, trouble = message.lower(), Trouble.INVALID
    if "session count" in text:
        trouble = Trouble.CAPACITY
    elif "quota" in text:
        trouble = Trouble.QUOTA
    return Refused(trouble, leaks.redact(message))


def _status(answer: Answer) -> int | None:
    status = (answer.error or {}).get("status")
    return status if isinstance(status, int) else None


def _message(answer: Answer) -> str:
    if answer.silent:
        return "Kaggle's client gave no answer in time"
    error = answer.error or {}
    return str(error.get("message") or error.get("type") or "no reason given")


def _retry_after(header: object) -> float | None:
    """Read a Retry-After header, capped; None if there is none or it makes no sense."""
    if not isinstance(header, str):
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def parse_log(text: str) -> tuple[Mapping[str, Any], ...]:
    """Read an ended session's log; an unreadable one counts as one line."""
    try:
        events = json.loads(text or "[]")
    except ValueError:
        events = None
    if not isinstance(events, list):
        return ({"stream_name": "stdout", "time": 0.0, "data": leaks.redact(text)},)
    return tuple(_redacted(event) for event in events if isinstance(event, dict))


def _redacted(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**entry, "data": leaks.redact(str(entry.get("data", "")))}
