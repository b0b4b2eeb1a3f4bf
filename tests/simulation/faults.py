"""Faults between the engine and Kaggle: the n-th matching call goes wrong in a stated way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.kaggle.port import Trouble, Unknown, Unreadable

Call = Callable[..., Any]
Strike = Callable[
    ..., Any
]  # gets the real call, then the call's arguments; its result is the answer


@dataclass
class Fault:
    """Strikes `times` calls of `verb`, from the `nth` that matches on; counts how many it did."""

    verb: str
    strike: Strike
    nth: int = 1
    times: int = 1
    matches: Callable[..., bool] = lambda *_args: True
    seen: int = 0
    fired: int = 0

    def is_due(self, args: tuple[Any, ...]) -> bool:
        if not self.matches(*args):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class FaultyKaggle:
    """Kaggle as seen through a bad connection: `strike` says what happens to each call."""

    def __init__(self, kaggle: Any, strike: Callable[..., Strike | None]) -> None:
        self._kaggle, self._strike = kaggle, strike

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._kaggle, verb)

        def answer(*args: Any) -> Any:
            strike = self._strike(verb, *args)
            return strike(call, *args) if strike else call(*args)

        setattr(self, verb, answer)  # so that it is made but once
        return answer


# Strikes


def lost_answer(call: Call, *args: Any) -> Any:
    """It arrived, and nobody heard of it."""
    call(*args)
    return Unknown("the connection was reset")


def lost_request(_call: Call, *_args: Any) -> Any:
    """It never arrived, and nobody can tell."""
    return Unknown("the connection was reset")


def unreadable(_call: Call, *_args: Any) -> Any:
    return Unreadable(Trouble.NETWORK, "no connection")


def answering(value: Any) -> Strike:
    """The call is not made; this is the answer."""
    return lambda _call, *_args: value


def changing(**fields: Any) -> Strike:
    """The answer comes with other fields."""
    return lambda call, *args: replace(call(*args), **fields)


def without_file(name: str) -> Strike:
    """A published version silently lacks a file."""

    return lambda call, request: _host(call).publish_without(call, request, name)


def publishing_slowly(seconds: float) -> Strike:
    """A version takes so long to become ready."""
    return lambda call, request: _host(call).publish_slowly(call, request, seconds)


def publishing_in_vain(seconds: float = 0.0) -> Strike:
    """A version lands, and after so long the platform fails to process it."""
    return lambda call, request: _host(call).publish_in_vain(call, request, seconds)


def publishing_damaged(ending: str, garble: Callable[[bytes], bytes]) -> Strike:
    """A version lands whose files of these names hold other bytes than were sent."""

    def strike(call: Call, request: Any) -> Any:
        answer = call(request)
        _host(call).damage(request.dataset, ending, garble)
        return answer

    return strike


def _host(call: Any) -> Any:
    return call.__self__.host


def garbling(garble: Callable[[bytes], bytes]) -> Strike:
    """A download brings other bytes than there are, and no error."""

    def strike(call: Call, file: Any, sink: Any, limit_bytes: int) -> int:
        content = Memory()
        call(file, content, limit_bytes)
        sink.restart()
        sink.write(garble(bytes(content.data)))
        return sink.size_bytes

    return strike


class Memory:
    """A `port.Sink` that forgets nothing and keeps nothing."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def restart(self) -> None:
        self.data.clear()
