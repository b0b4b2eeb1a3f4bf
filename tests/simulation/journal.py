"""The real journal with a memory in place of its file, for runs by the thousand."""

from collections.abc import Callable

from orchestrator.clock import Clock, Moment
from orchestrator.journal import Journal
from orchestrator.machine import Event, State


class MemoryJournal(Journal):
    """A journal whose disk is a list: the next controller is given the one before it."""

    def __init__(
        self,
        chain: str,
        clock: Clock,
        on_event: Callable[[Event, State], None],
        before: "MemoryJournal | None" = None,
    ) -> None:
        self.chain = chain
        self._clock, self._on_event = clock, on_event
        self._history: list[Event] = before._history if before else []
        self.state, self._last = (before.state, before._last) if before else (State(), None)

    def _store(self, event: Event, moment: Moment) -> None:
        """What the list holds is what a restart finds; nothing is lost between the two."""

    def close(self) -> None:
        """Nothing is open."""
