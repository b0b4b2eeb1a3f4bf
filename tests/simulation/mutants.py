"""The engine's protections, each with the invariant that breaks when it is removed."""

from tests.simulation.mutants_adopting import ADOPTING
from tests.simulation.mutants_apart import APART
from tests.simulation.mutants_last_look import LAST_LOOK
from tests.simulation.mutants_patience import PATIENCE
from tests.simulation.mutants_publishing import PUBLISHING
from tests.simulation.mutants_pushing import PUSHING
from tests.simulation.mutants_recovery import RECOVERY
from tests.simulation.mutants_stray import STRAY
from tests.simulation.mutants_tensors import TENSORS
from tests.simulation.mutants_waste import WASTE
from tests.simulation.protections import Protection

_CONTEXT = "orchestrator/phases/context.py"
_CLOCK = "orchestrator/clock.py"
_TESTS = "tests/simulation/test_"
_CLOCKS = "tests/simulation/test_clock.py::test_"

TIME = [
    Protection(
        "elapsed time is no clock's that somebody sets",
        _CLOCK,
        "        if self.is_same_boot(earlier):\n            return",
        "        if False:\n            return",
        _CLOCKS + "a_clock_that_jumps_ahead_does_not_shorten_the_wait_for_a_push_to_appear",
        invariants=("I1", "I9"),
    ),
    Protection(
        "no wait is longer than a week's quota and a day",
        _CONTEXT,
        "min(max(seconds, shortest), LONGEST_WAIT_SECONDS)",
        "max(seconds, shortest)",
        _CLOCKS + "a_clock_that_disagrees_with_kaggles_about_the_week_does_not_stop_the_chain",
        invariants=("I12",),
    ),
    Protection(
        "a wait is looked at again after an hour, however long it is",
        "orchestrator/engine.py",
        "min(state.wait_until_age, state.age + HEARTBEAT_SECONDS)",
        "state.wait_until_age",
        _TESTS + "clean_chains.py::test_a_wait_whose_reason_was_mended_ends_within_the_hour",
    ),
]

PROTECTIONS = [
    *PUSHING,
    *PUBLISHING,
    *TIME,
    *PATIENCE,
    *LAST_LOOK,
    *RECOVERY,
    *ADOPTING,
    *APART,
    *TENSORS,
    *STRAY,
    *WASTE,
]
