"""Dying at a chosen effect. An effect is one call across a seam: journal, Kaggle, disk."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

MOST_EFFECTS = 20_000  # of one run; beyond it something goes round in circles


class Killed(BaseException):
    """The process is gone; nothing after this line happened."""


class Effects:
    """Counts the effects of a run, over all its restarts, and kills it where asked to."""

    def __init__(self, kills: Callable[[int, str], bool]) -> None:
        self.names: list[str] = []
        self._kills = kills  # asked with the number of the effect, and "before" or "after"
        self.fired: list[tuple[int, str]] = []

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        number = len(self.names)
        assert number < MOST_EFFECTS, "the chain goes round in circles"
        self.names.append(name)
        self._die_if_asked(number, "before")
        result = call()
        with _closed_by_death(result):
            self._die_if_asked(number, "after")
        return result

    def _die_if_asked(self, number: int, moment: str) -> None:
        if self._kills(number, moment):
            self.fired.append((number, moment))
            raise Killed


@contextmanager
def _closed_by_death(result: Any) -> Iterator[None]:
    """The operating system closes what a dead process had just opened."""
    try:
        yield
    except Killed as death:
        if isinstance(result, AbstractContextManager):
            result.__exit__(Killed, death, None)
        raise


class Watched:
    """Passes everything on to `target`; its `methods` (all public ones if None) are effects."""

    def __init__(
        self, seam: str, target: Any, effects: Effects, methods: frozenset[str] | None = None
    ) -> None:
        self._seam, self._target, self._effects, self._methods = seam, target, effects, methods

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or (self._methods is not None and name not in self._methods):
            return value

        def effect(*args: Any, **kwargs: Any) -> Any:
            what = f" {args[0]}" if self._seam == "journal" else ""
            label = f"{self._seam}.{name}{what}"
            return self._effects.around(label, lambda: value(*args, **kwargs))

        return effect
