import json

import pytest

from orchestrator import contract
from tests.simulation import session
from tests.simulation.session import Script, run
from tests.simulation.truth import check_reached


@pytest.mark.parametrize("sessions", [1, 3, 5])
def test_a_chain_reaches_its_target(simulate, sessions):
    simulation = simulate(sessions=sessions)

    simulation.run()

    check_reached(simulation, sessions=sessions)
    assert simulation.state.head.checkpoint.step == 10 * sessions

