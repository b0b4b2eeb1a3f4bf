"""Time that passes only when somebody waits: the world's, and what the laptop takes it for."""

from collections.abc import Callable

from orchestrator.clock import Moment
from tests.simulation.invariants import require

MONDAY_AT = 1_799_625_600.0  # 2027-01-11 00:00 UTC, five days before the quota's next reset

REBOOT_SECONDS = 60.0


class VirtualClock:
    """Implements `clock.Clock`. `error_seconds` is how wrong the laptop's clock is."""

    def __init__(self) -> None:
        self.true_at = MONDAY_AT
        self.error_seconds = 0.0
        self.boot_id = "first boot"
        self._booted_at = MONDAY_AT
        self.is_ticking = False
        self.listeners: list[Callable[[float], None]] = []

    def now(self) -> float:
        return self.true_at + self.error_seconds

    def moment(self) -> Moment:
        return Moment(self.now(), self.boot_id, self.true_at - self._booted_at)

    def sleep(self, seconds: float) -> None:
        require(not self.is_ticking, "I12", "a tick slept")
        self.advance(seconds)

    def reboot(self, error_seconds: float = 0.0) -> None:
        """Start the machine anew, with a wall clock that is wrong by so much."""
        self.advance(REBOOT_SECONDS)
        self._booted_at, self.error_seconds = self.true_at, error_seconds
        self.boot_id = f"boot at {self.true_at}"

    def advance(self, seconds: float) -> None:
        """Let time pass, and the world go on with it."""
        self.true_at += max(0.0, seconds)
        for listener in self.listeners:
            listener(self.true_at)
