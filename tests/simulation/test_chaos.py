import pytest

from orchestrator.machine import Phase
from tests.simulation.chain import KERNEL
from tests.simulation.chaos import draw
from tests.simulation.truth import check_always, check_reached

MOST_RETRIES = 12  # by a person; every plan heals well before


@pytest.mark.parametrize("seed", range(60))
def test_whatever_goes_wrong_the_chain_reaches_its_target(seed):
    with draw(seed) as run:
        for _ in range(MOST_RETRIES):
            run.run()
            check_always(run)
            if run.state.phase is Phase.DONE:
                break
            run.retry()

        pushes = sum(push.token is not None for push in run.host.pushes(KERNEL))
        check_reached(run, sessions=run.settings.chain.sessions, pushes=pushes)
