"""Owns one worker process: starts it confined, talks to it with deadlines, kills it.

A call ends as an `Answer`: a result, an error described by the worker, or silence (deadline
passed, or the process died). `sent` tells whether a request that changes Kaggle may have left.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.leaks import redact

WORKER_COMMAND = (sys.executable, "-m", "orchestrator.kaggle.worker")
START_SECONDS = 60.0
LAST_WORDS_SECONDS = 5.0  # for what a killed worker had said already
_CAPTURED_LINES = 200
_MESSAGE_LIMIT = 400  # characters of a foreign message that are passed on
_SHORTEST_SECRET = 16  # characters; anything shorter would blank out ordinary words
_SECRET_NAME = re.compile(r"(?i)(?:key|token|secret|password)$")  # a user name is none


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential, as the file it would be to the client. Never printed, never written."""

    source: str  # where it was found, for people
    file: str  # its kind
    content: str

    def __repr__(self) -> str:
        return f"Credential(source={self.source!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not be printed, whatever surrounds them."""
        try:
            body = json.loads(self.content)
        except ValueError:
            body = None
        named = body.items() if isinstance(body, dict) else [("token", self.content.strip())]
        texts = [v for name, v in named if _SECRET_NAME.search(name) and isinstance(v, str)]
        if self.file == "kaggle.json" and isinstance(body, dict):  # as it travels
            login = f"{body.get('username')}:{body.get('key')}"
            texts.append(base64.b64encode(login.encode()).decode())
        return tuple(text for text in texts if len(text) >= _SHORTEST_SECRET)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended. `error` is the worker's description, None after a result or silence."""

    result: Any = None
    error: Mapping[str, Any] | None = None
    silent: bool = False
    sent: bool = False


class Child:
    """A worker process, started at the first call and again after it had to be killed."""

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        *,
        command: Sequence[str] = WORKER_COMMAND,
        homes: Path | None = None,
    ) -> None:
        self._endpoint, self._credential, self._command = endpoint, credential, tuple(command)
        self._homes = homes  # where private folders are made; None: with temporary files
        self._process: subprocess.Popen[str] | None = None
        self._home: Path | None = None
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._captured: deque[str] = deque(maxlen=_CAPTURED_LINES)
        self._readers: list[threading.Thread] = []
        self._calls = 0
        self._lifecycle = threading.Lock()  # a follower's child is closed by another thread
        self._closed = False
        self.greeting: Answer | None = None

    def call(self, verb: str, args: Mapping[str, Any], deadline_seconds: float) -> Answer:
        """Make one call; afterwards the process is idle, or dead."""
        if not self._is_started():
            return self._failed_start()
        self._calls += 1
        message = json.dumps({"id": self._calls, "verb": verb, "args": dict(args)})
        try:
            self._write(message)
        except OSError:
            self.kill()
            return Answer(silent=True)
        answer = self._receive(self._calls, time.monotonic() + deadline_seconds)
        if answer.silent:
            self.kill()
            # A request may have left between the deadline and the end.
            return replace(answer, sent=answer.sent or self._last_words_were_sending())
        return answer

    def stream(self, verb: str, args: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the lines of a call until it ends or the process is killed."""
        if not self._is_started():
            return
        self._calls += 1
        try:
            self._write(json.dumps({"id": self._calls, "verb": verb, "args": dict(args)}))
        except OSError:
            return  # it was closed meanwhile
        while (message := self._messages.get()) is not None:
            if "line" not in message:
                return
            yield message["line"]

    @property
    def captured(self) -> str:
        """What the client printed, redacted."""
        return redact("".join(self._captured))

    def close(self) -> None:
        """End the process, and never start another."""
        self._closed = True
        self.kill()

    def kill(self) -> None:
        """End the process group at once and remove its private folder."""
        with self._lifecycle:
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it may be gone already
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for reader in self._readers:
                reader.join(LAST_WORDS_SECONDS)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                _close_quietly(pipe)
            self._process = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _is_started(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return True
        with self._lifecycle:
            self._kill()
            if self._closed:
                self.greeting = Answer(silent=True)
                return False
            self._start()
        self.greeting = self._receive(0, time.monotonic() + START_SECONDS)
        if self.greeting.result is None:
            self.kill()
            return False
        return True

    def _failed_start(self) -> Answer:
        assert self.greeting is not None
        return Answer(error=self.greeting.error, silent=self.greeting.silent)

    def _start(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="kchain-worker-", dir=self._homes))
        (self._home / "tmp").mkdir(mode=0o700)
        self._messages = queue.Queue()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=self._home,
            env=_environment(self._home),
            start_new_session=True,
        )
        self._readers = []
        for target in (self._read_answers, self._read_prints):
            self._read_in_background(target)
        hello = {
            "home": str(self._home),
            "endpoint": self._endpoint,
            "credential": {"file": self._credential.file, "content": self._credential.content},
        }
        with contextlib.suppress(OSError):  # it died at once; _receive sees its output end
            self._write(json.dumps(hello))

    def _read_in_background(self, target: Callable[..., None]) -> None:
        reader = threading.Thread(target=target, args=(self._process, self._messages), daemon=True)
        try:
            reader.start()
        except RuntimeError as error:  # how Python says that the machine gives no thread
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        self._readers.append(reader)

    def _write(self, line: str) -> None:
        pipe = self._process and self._process.stdin
        if not pipe or pipe.closed:
            raise BrokenPipeError("the worker is gone")
        pipe.write(line + "\n")
        pipe.flush()

    def _receive(self, call: int, deadline: float) -> Answer:
        sent = False
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return Answer(silent=True, sent=sent)
            if message is None:
                return Answer(silent=True, sent=sent)
            if message["id"] != call:
                continue
            if message.get("sending"):
                sent = True
                continue
            error = message.get("error")
            if error is not None:
                error = {**error, "message": redact(error["message"])[:_MESSAGE_LIMIT]}
            return Answer(result=message.get("result"), error=error, sent=sent)

    def _last_words_were_sending(self) -> bool:
        sent = False
        while not self._messages.empty() and (message := self._messages.get()) is not None:
            sent = sent or bool(message.get("sending"))
        return sent

    def _read_answers(
        self, process: subprocess.Popen[str], messages: queue.Queue[dict[str, Any] | None]
    ) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed by kill()
            for line in process.stdout:
                text = self._without_secrets(line)
                if (message := _parse_message(text)) is not None:
                    messages.put(message)
                else:  # a line that it was killed in, or that something printed before it ran
                    self._captured.append(text[:2000])
        messages.put(None)

    def _read_prints(self, process: subprocess.Popen[str], _messages: object) -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # closed by kill()
            self._captured.extend(self._without_secrets(line)[:2000] for line in process.stderr)

    def _without_secrets(self, text: str) -> str:
        for secret in self._credential.secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _parse_message(text: str) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "id" in message else None


def _environment(home: Path) -> dict[str, str]:
    """Everything the child may know: an allow-list, built from nothing."""
    return {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PATH": os.defpath,
        "PYTHONPATH": str(Path(orchestrator.__file__).parent.parent),
        "PYTHONUTF8": "1",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }


def _close_quietly(pipe: Any) -> None:
    with contextlib.suppress(OSError):  # its reader is gone; nothing is lost
        pipe.close()
