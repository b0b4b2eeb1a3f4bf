"""The real journal with a memory in place of its file, for runs by the thousand."""

import json
from collections.abc import Callable

from orchestrator.clock import Clock, Moment
from orchestrator.fold import apply
from orchestrator.journal import Journal
from orchestrator.machine import Event, Kind, State


class MemoryJournal(Journal):
    """A journal whose disk is a list: the next controller is given the one before it.

    It goes on from where that one began and folds what that one wrote, with data out of its
    JSON: what a file would not keep is lost.
    """

    def __init__(
        self,
        chain: str,
        clock: Clock,
        on_event: Callable[[Event, State], None],
        before: "MemoryJournal | None" = None,
    ) -> None:
        self.chain = chain
        self._clock, self._on_event, self._clean = clock, on_event, None
        self._history: list[Event] = []
        self.state, self._last = State(), None
        if before:
            self.state, self._last, history = before._began
            self._history.extend(history)
            for kind, text, moment in before._written:
                data = json.loads(text)
                event = self._event(self.state.seq + 1, kind, data, moment)
                self._remember(event, apply(self.state, event), moment)
        self._began = (self.state, self._last, tuple(self._history))
        self._written: list[tuple[Kind, str, Moment]] = []

    def _store(self, event: Event, moment: Moment) -> None:
        self._written.append((event.kind, json.dumps(event.data), moment))

    def close(self) -> None:
        """Nothing is open."""
