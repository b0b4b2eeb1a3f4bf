"""What every phase works with, and the few moves they share.

A phase's step returns None after progress (an event was appended) or the Unix time at which
looking again makes sense.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

from orchestrator.clock import Clock
from orchestrator.config import Settings
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle.port import Gone, Kaggle, Refused, Trouble, Unreadable
from orchestrator.kernel import Template
from orchestrator.machine import Kind, State

Wake = float | None
HEARTBEAT_SECONDS = 3600
SAME_FAILURES = 2  # the same words twice in a row: a third time would say the same
# How long Kaggle may deny what it said exists: longer than its own lapses, as far as is known.
MISSING_SECONDS = 6 * 3600
NOT_OURS = "it counts as somebody else's"
LONGEST_WAIT_SECONDS = 8 * 86_400  # a week's quota and a day; anything longer is a wrong clock


@dataclass(frozen=True, slots=True)
class Stop:
    """A check's way of saying: not further now; this is the step's result."""

    wake: Wake


@dataclass(frozen=True, slots=True)
class Context:
    """The engine's seam to the world."""

    settings: Settings
    template: Template
    endpoint: str
    journal: Journal
    kaggle: Kaggle
    files: Files
    clock: Clock
    rng: random.Random

    @property
    def state(self) -> State:
        return self.journal.state

    def new_token(self) -> str:
        """Return a mark that no push has carried before: 128 random bits."""
        bits = self.rng.getrandbits(128).to_bytes(16, "big")
        return "kc1." + base64.b32encode(bits).decode().rstrip("=").lower()

    def poll(self) -> float:
        """Return when to look again, with a little jitter so that controllers spread out."""
        return self.clock.now() + self.settings.timing.poll_seconds * self.rng.uniform(0.9, 1.1)

    def wait(self, reason: str, message: str, seconds: float) -> float:
        """Record why the chain waits and until when; the same words at most once an hour."""
        # At least a poll: a moment on Kaggle's clock may have passed already on this one.
        shortest = self.settings.timing.poll_seconds
        until = self.clock.now() + min(max(seconds, shortest), LONGEST_WAIT_SECONDS)
        known = (self.state.wait_reason, self.state.wait_message) == (reason, message)
        if not known or self.journal.age > self.state.wait_until_age + HEARTBEAT_SECONDS:
            self.journal.append(Kind.WAITING, reason=reason, message=message, until=until)
        return until

    def unreadable(self, what: str, answer: Unreadable | Gone) -> float:
        """Wait after a read that brought nothing: it changes nothing and proves nothing."""
        reason = answer.trouble.value if isinstance(answer, Unreadable) else "missing"
        message = _cannot_be_read(what) + answer.message
        return self.wait(reason, message, self.settings.timing.poll_seconds)

    def missing(self, what: str, answer: Unreadable | Gone) -> Wake:
        """Wait for what must be there; halt when all reads for hours have said that it is not."""
        if isinstance(answer, Unreadable):
            return self.unreadable(what, answer)
        if not self._is_waiting_for(what, answer):
            return self.unreadable(what, answer)
        if self.seconds_since(self.state.wait_until_age) < MISSING_SECONDS:
            return self.poll()  # and no event: the first one's age is what counts
        self.halt(
            "missing",
            f"{what} is not on Kaggle any more, or not this account's to see ({answer.message});"
            " the checkpoints are kept here. When it is there again, run with --retry",
        )
        return None

    def given_up(self, what: str, answer: Unreadable | Gone, instead: str) -> Stop | None:
        """Wait for what the chain can do without: halt when all reads for hours have failed, and
        return None when a person has looked and it still cannot be read.

        Reading it again after --retry must fail for as long as Kaggle takes to settle.
        """
        if not self._is_waiting_for(what, answer):
            return Stop(self.unreadable(what, answer))
        since, is_seen = self.state.wait_until_age, self.state.halt_facts.get("unread") == what
        if is_seen and self.is_settled(since):
            return None
        if is_seen or self.seconds_since(since) < MISSING_SECONDS:
            return Stop(self.poll())
        self.halt(
            "missing" if isinstance(answer, Gone) else "unreadable",
            f"{what} could not be read for hours ({answer.message}); look at it on kaggle.com."
            f" With --retry it is read again, and if it still cannot be, {instead}",
            unread=what,
        )
        return Stop(None)

    def _is_waiting_for(self, what: str, answer: Unreadable | Gone) -> bool:
        """Tell whether the newest wait was for this as well, and for the same kind of trouble."""
        state = self.state
        is_missing = state.wait_reason == "missing"
        is_known = state.wait_message.startswith(_cannot_be_read(what))
        return is_known and is_missing == isinstance(answer, Gone)

    def stale(self, what: str, shown: int, known: int, way_out: str, **facts: int) -> Wake:
        """Versions only grow: a smaller number is an answer from before, but not for hours."""
        message = f"Kaggle shows {what} at version {shown}, it has been at {known} already"
        state = self.state
        if (state.wait_reason, state.wait_message) != ("stale", message):
            return self.wait("stale", message, self.settings.timing.poll_seconds)
        if self.seconds_since(state.wait_until_age) < MISSING_SECONDS:
            return self.poll()
        self.halt(
            "remade", f"{message}, for hours: it was deleted and made anew. {way_out}", **facts
        )
        return None

    def refused(self, kind: Kind, answer: Refused) -> None:
        """Record a mutation that certainly did nothing, and when to try again."""
        seconds = answer.retry_after_seconds or self.settings.timing.retry_seconds
        until = self.clock.now() + seconds
        self.journal.append(kind, trouble=answer.trouble.value, message=answer.message, until=until)
        if answer.trouble is Trouble.INVALID:
            self.halt("refused", f"Kaggle refused, and will again: {answer.message}")

    def fruitless(self, reason: str, message: str) -> None:
        """Count an attempt that brought nothing; before the next one, let Kaggle settle."""
        if self.state.push:
            self.files.forget_incoming(self.state.push.token)
        self.journal.append(Kind.FRUITLESS, reason=reason, message=message)
        if not self.has_failed():
            self.wait("retry", f"next attempt after {reason}", self.settings.timing.retry_seconds)

    def has_failed(self) -> bool:
        """Tell whether another attempt of this session makes no sense without a person."""
        state = self.state
        limit = self.settings.chain.max_attempts
        return state.same_failures >= SAME_FAILURES or state.fruitless >= limit

    def halt(self, code: str, message: str, **facts: int | str) -> None:
        """Stop the chain until a person has looked."""
        self.journal.append(Kind.HALTED, code=code, message=message, **facts)

    def seconds_since(self, age: float | None) -> float:
        """Return how much time has passed since the chain was so old."""
        return self.journal.age - (age or 0.0)

    def certain_since(self, age: float | None) -> float:
        """Return how much time has passed for certain: what lies before this start of the machine
        is what a wall clock says, and so is what another machine counted.

        Whatever permits another push or publication goes by this.
        """
        return self.journal.age - max(age or 0.0, self.state.boot_age)

    def is_settled(self, sent_age: float | None, patience: float = 1.0) -> bool:
        """Tell whether what was sent must be visible by now, if it ever will be."""
        return self.certain_since(sent_age) >= patience * self.settings.timing.settle_seconds

    def absent(self, kind: Kind) -> Wake:
        """Record one more agreeing read that did not find what was sent; wait for the next."""
        gap = self.settings.timing.read_gap_seconds
        if self.certain_since(self.state.absent_age) >= gap or not self.state.absent:
            self.journal.append(kind)
        return self.clock.now() + gap


def _cannot_be_read(what: str) -> str:
    return f"{what} cannot be read: "
