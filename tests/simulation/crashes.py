"""Dying at a chosen effect. An effect is one call across a seam: journal, Kaggle, disk."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from orchestrator.journal import Journal
from orchestrator.machine import Kind, State
from tests.simulation.invariants import require

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
        require(number < MOST_EFFECTS, "I11", "the chain goes round in circles")
        self.names.append(name)
        self._die_if_asked(number, "before")
        result = call(*args, **kwargs)
        try:
            self._die_if_asked(number, "after")
        except Killed as death:
            if isinstance(result, AbstractContextManager):  # the system closes what was open
                result.__exit__(Killed, death, None)
            raise
        return result

    def _die_if_asked(self, number: int, moment: str) -> None:
        if self._kills(number, moment):
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

        label = f"{self._seam}.{name}"

        def effect(*args: Any, **kwargs: Any) -> Any:
            return self._effects.around(label, value, *args, **kwargs)

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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, kind: Kind, **data: Any) -> State:
        label = f"journal.append {kind}"
        return self._effects.around(label, self._journal.append, kind, **data)
