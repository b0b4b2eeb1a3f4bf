"""Fixture: simulated chains, closed when the test is over."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.simulation.chain import Plan, Simulation


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulation]]:
    """Make simulations: the fields of a plan and the arguments of `Simulation` as keywords."""
    with ExitStack() as stack:

        def make(**options: object) -> Simulation:
            planned = set(options) & set(Plan.__dataclass_fields__)
            plan = Plan(**{key: options.pop(key) for key in planned})
            return stack.enter_context(Simulation(plan, **options))

        yield make
