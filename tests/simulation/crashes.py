"""Dying at a chosen effect. An effect is one call across a seam: journal, Kaggle, disk."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn

from orchestrator.journal import Journal
from orchestrator.machine import Kind, State
from tests.simulation.invariants import Violation

MOST_EFFECTS = 20_000  # of one run; beyond it something goes round in circles


class Killed(BaseException):
    """The process is gone; nothing after this line happened."""


class Effects:
    """Counts the effects of a run, over all its restarts, and kills it where asked to."""

    def __init__(self, kills: Callable[[int, str], bool]) -> None:
        self.names: list[str] = []
        self._kills = kills  # asked with the number of the effect, and "before" or "after"
        self.fired: list[tuple[int, str]] = []

    def around(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number = len(self.names)
        if number >= MOST_EFFECTS:
            raise Violation("I11", "the chain goes round in circles")
        self.names.append(name)
        if self._kills(number, "before"):
            self._die(number, "before")
        result = call(*args, **kwargs)
        if self._kills(number, "after"):
            if isinstance(result, AbstractContextManager):  # the system closes what was open
                result.__exit__(Killed, Killed(), None)
            self._die(number, "after")
        return result

    def _die(self, number: int, moment: str) -> NoReturn:
        self.fired.append((number, moment))
        raise Killed


class Watched:
    """Passes everything on to `target`; each of its methods is an effect."""

    def __init__(self, seam: str, target: Any, effects: Effects) -> None:
        self._seam, self._target, self._effects = seam, target, effects

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        effect = partial(self._effects.around, f"{self._seam}.{name}", value)
        setattr(self, name, effect)  # so that it is made but once
        return effect


class WatchedJournal:
    """A journal as the engine sees it; only an append is an effect."""

    def __init__(self, journal: Journal, effects: Effects) -> None:
        self._journal, self._effects = journal, effects

    @property
    def state(self) -> State:
        return self._journal.state

    @property
    def age(self) -> float:
        return self._journal.age

    @property
    def is_restarted(self) -> bool:
        return self._journal.is_restarted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, kind: Kind, **data: Any) -> State:
        return self._effects.around(f"journal.append {kind}", self._journal.append, kind, **data)
