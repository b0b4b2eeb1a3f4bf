"""The plan of what goes wrong: which request is struck, by what, and how often it was.

A fault strikes the n-th matching request. What it does there is an effect: of the wire
(`Wire`, done by effects.py), or a twist of the platform itself.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from orchestrator.emulator.records import (
    END_TWISTS,
    PUBLISH_TWISTS,
    PUSH_TWISTS,
    START_TWISTS,
    Twist,
)

EVERY = "*"  # matches each call of the API
_METHOD = re.compile(r"/(?:api/)?v1/(?:[a-z_]+\.)?([A-Za-z]+/[A-Za-z]+)")
SESSION_START, SESSION_END = "session/start", "session/end"
# Which operations a twist can be planted in.
_OPERATIONS: Mapping[frozenset[Twist], tuple[str, ...]] = {
    PUSH_TWISTS: ("SaveKernel",),
    PUBLISH_TWISTS: ("CreateDataset", "CreateDatasetVersion"),
    START_TWISTS: (SESSION_START,),
    END_TWISTS: (SESSION_END,),
}


class Wire(StrEnum):
    """What can happen to a request or an answer on its way."""

    # the request is not handled
    RESET_BEFORE = "reset_before"  # the connection is cut
    HANG = "hang"  # accepted, and never answered
    STATUS = "status"  # answered with an HTTP status and a body
    ANSWER = "answer"  # the same with 200
    EXPIRE = "expire"  # this link has expired; others are as before
    # the request is handled
    RESET_AFTER = "reset_after"  # the connection is cut
    HANG_AFTER = "hang_after"  # never answered
    STATUS_AFTER = "status_after"  # answered with an HTTP status and a body
    ANSWER_AFTER = "answer_after"  # the same with 200
    CUT_UPLOAD = "cut_upload"  # the first half of its body is; then the connection is cut
    TWICE = "twice"  # two times over; the second answer is sent
    DELAY = "delay"  # after a while
    # the answer is changed
    EDIT = "edit"  # its JSON is changed by a merge patch
    PART = "part"  # its lists have lost their second half
    RENAME = "rename"  # its first file has another name
    DOUBLE = "double"  # its first file is listed again, under a name of its own or the same
    FREEZE = "freeze"  # the first one that was struck is sent again
    HEADERS = "headers"  # headers are set, or removed if they are empty
    TRUNCATE = "truncate"  # half of it is sent, then the connection ends
    DRIP = "drip"  # it comes in drops
    FLIP = "flip"  # one bit of it is wrong
    SWAP = "swap"  # all bytes are another file's


@dataclass(frozen=True)
class Fault:
    """`match` names what is struck; alternatives are separated by "|".

    It is a method ("KernelsApiService/SaveKernel", "SaveKernel"), the beginning of a path
    ("/kf/"), "*" for each call of the API, or for a twist "session/start" or "session/end".
    """

    match: str
    effect: str
    name: str = ""  # in the catalogue
    nth: int = 1  # the first matching request that is struck, counted from 1
    times: int = 1  # how many are struck from there on
    every: int = 1  # of those that match: each, every second, ...
    status: int | None = None  # of `status` and `answer`; 503 and 200 if not given
    body: str | None = None  # HTML, XML or JSON; Kaggle's JSON error if not given
    headers: Mapping[str, str] = field(default_factory=dict)
    patch: Mapping[str, Any] = field(default_factory=dict)  # of `edit`, as in RFC 7396
    file_name: str | None = None  # of `rename` and `double`
    seconds: float | None = None  # how long `hang`, `drip` and `delay` last; None: for ever
    drop_bytes: int = 1  # of `drip`
    drop_seconds: float = 0.3

    def __post_init__(self) -> None:
        if self.effect not in {*Wire, *Twist}:
            known = ", ".join(sorted([*Wire, *Twist]))
            raise ValueError(f"unknown effect {self.effect!r}; there are {known}")
        self._check_match()
        if min(self.nth, self.times, self.every) < 1:
            raise ValueError("nth, times and every count from 1")
        if self.status is not None and self.status not in set(HTTPStatus):
            raise ValueError(f"{self.status} is no HTTP status")
        if self.effect == Wire.DELAY and self.seconds is None:
            raise ValueError("a delay needs its seconds")

    def _check_match(self) -> None:
        allowed: tuple[str, ...] = ()
        for twists, operations in _OPERATIONS.items():
            if self.effect in twists:
                allowed = operations
        for match in self.match.split("|"):
            is_session = match in (SESSION_START, SESSION_END)
            name = match if is_session else match.rpartition("/")[2]
            if allowed and name not in allowed:
                raise ValueError(f"{self.effect} can happen in {' and '.join(allowed)} only")
            if is_session and not allowed:
                raise ValueError(f"{self.effect} happens to requests, not to sessions")

    def matches(self, path: str) -> bool:
        return any(_matches(match, path) for match in self.match.split("|"))

    def is_due(self, seen: int) -> bool:
        """Tell whether the matching request with this number is struck."""
        since = seen - self.nth
        return 0 <= since < self.times * self.every and since % self.every == 0


def _matches(match: str, path: str) -> bool:
    if match == EVERY:
        return path.startswith(("/v1/", "/api/v1/"))
    if match.startswith("/"):
        return path.startswith(match)
    return path.endswith((f"/{match}", f".{match}"))


@dataclass(frozen=True)
class Strike:
    """One fault at one request; `kept` is what the fault remembers between its strikes."""

    method: str
    call: int  # of this method, counted from 1
    fault: Fault
    by_chaos: bool
    kept: dict[Any, Any]

    def to_json(self) -> dict[str, Any]:
        what = self.fault.name or self.fault.effect
        return {"method": self.method, "call": self.call, "fault": what, "chaos": self.by_chaos}


@dataclass
class Planted:
    """A fault in force."""

    fault: Fault
    seen: int = 0
    fired: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)


Draw = Callable[[str, int], Fault | None]  # method, number of the call


class FaultPlan:
    """The faults in force, how often each matched and fired, and all strikes in order.

    `draw` may strike requests that no planted fault does.
    """

    def __init__(self, faults: Iterable[Fault] = (), draw: Draw | None = None) -> None:
        self._lock = threading.Lock()
        self._draw = draw
        self._planted: list[Planted] = []
        self._strikes: list[Strike] = []
        self._calls: dict[str, int] = {}
        self._drawn: dict[str, dict[Any, Any]] = {}
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._planted.extend(Planted(fault) for fault in faults)

    def clear(self) -> None:
        with self._lock:
            self._planted = []

    @property
    def fired(self) -> list[int]:
        """How often each fault fired, in the order in which they were added."""
        with self._lock:
            return [planted.fired for planted in self._planted]

    @property
    def strikes(self) -> list[Strike]:
        """Every strike so far, planted or drawn."""
        with self._lock:
            return list(self._strikes)

    def strike(self, path: str) -> Strike | None:
        """Count a request; returns what strikes it."""
        method = method_of(path)
        with self._lock:
            call = self._calls[method] = self._calls.get(method, 0) + 1
            struck = self._planted_for(path, method, call) or self._drawn_for(method, call)
            if struck is not None:
                self._strikes.append(struck)
            return struck

    def session_twist(self, moment: str) -> Twist | None:
        """Count the start or the end of a session; returns what the platform does wrong."""
        strike = self.strike(f"/{moment}")
        return None if strike is None else Twist(strike.fault.effect)

    def to_json(self) -> list[dict[str, Any]]:
        """Every planted fault, with how often it matched and fired."""
        with self._lock:
            return [
                {**asdict(planted.fault), "seen": planted.seen, "fired": planted.fired}
                for planted in self._planted
            ]

    def _planted_for(self, path: str, method: str, call: int) -> Strike | None:
        """Count for all that match; the first that is due strikes."""
        struck = None
        for planted in self._planted:
            if not planted.fault.matches(path):
                continue
            planted.seen += 1
            if struck is None and planted.fault.is_due(planted.seen):
                planted.fired += 1
                struck = Strike(method, call, planted.fault, False, planted.kept)
        return struck

    def _drawn_for(self, method: str, call: int) -> Strike | None:
        fault = self._draw(method, call) if self._draw else None
        if fault is None:
            return None
        return Strike(method, call, fault, True, self._drawn.setdefault(fault.name, {}))


def method_of(path: str) -> str:
    """Under which name a request is counted: its method, or the area that its path is in."""
    method = _METHOD.fullmatch(path)
    if method is not None:
        return method[1]
    if path in (f"/{SESSION_START}", f"/{SESSION_END}"):
        return path[1:]
    is_api = path.startswith(("/v1/", "/api/v1/"))
    return "/v1/" if is_api else "/".join([*path.split("/", 2)[:2], ""])
