"""The checks of what a storm may cost: each notices a loss that nothing brought about."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.kaggle.port import PushRequest
from orchestrator.machine import Kind
from tests.simulation.causes import check_halt, check_healed, check_spent
from tests.simulation.chain import KERNEL
from tests.simulation.gusts import HEADS, Gusts
from tests.simulation.invariants import Violation
from tests.simulation.storm import draw

DAY = 86_400.0


@pytest.fixture
def calm():
    """A schedule in which nothing goes wrong."""
    with draw(7, sessions=2) as run:
        run.plan.gusts = Gusts(run.plan.rng, 0)
        yield run


def test_a_session_that_was_given_up_for_nothing_is_noticed():
    with draw(7) as run:
        run.plan.script_of(1)
        bad = replace(run.plan.script_of(1), saves=False)
        run.plan.gusts = Gusts(run.plan.rng, 0)
        run.host.script_of = lambda version: bad if version == 1 else run.plan.script_of(version)
        run.run()
        assert len(run.kinds(Kind.FRUITLESS)) == 1

        with pytest.raises(Violation, match="I6: a session was given up that nothing had struck"):
            check_spent(run)
        run.plan.bad_versions.add(1)
        check_spent(run)


def test_a_session_that_nobody_counted_is_noticed(calm):
    calm.run()
    check_spent(calm)
    calm.host.on_landing = None
    own = calm.kinds(Kind.PUSH_INTENT)[-1].data["token"]
    source = calm.kaggle.kernel(KERNEL).source.replace(own, "kc1." + "a" * 26)
    calm.kaggle.push(PushRequest(KERNEL, KERNEL, source, (), None, False, 3600))

    with pytest.raises(Violation, match="I6: 3 sessions, of which 2 counted"):
        check_spent(calm)


def test_a_halt_that_nothing_brought_about_is_noticed(calm):
    calm.tick()
    calm.journal.append(Kind.HALTED, code="misplaced_push", message="m")
    with pytest.raises(Violation, match="I12: a needless halt"):
        check_halt(calm, {})

    calm.plan.fired["land_elsewhere"] += 1
    check_halt(calm, before := {"foreign_dataset": Counter()})
    with pytest.raises(Violation, match="I12: a needless halt"):
        check_halt(calm, before)


def test_a_halt_of_a_code_that_no_storm_brings_about_is_noticed(calm):
    calm.tick()
    calm.plan.fired.update(["crash", "request lost", "read fails"])
    calm.journal.append(Kind.HALTED, code="missing", message="m")

    with pytest.raises(Violation, match="I12: a needless halt: missing"):
        check_halt(calm, {})


def test_a_chain_that_idles_after_a_storm_is_noticed(calm):
    calm.run()
    calm.plan.over = (calm.clock.true_at, 1)
    calm.clock.sleep(2 * DAY)
    check_healed(calm)
    calm.clock.sleep(DAY)

    with pytest.raises(Violation, match=r"I11: 3\.0 days after the storm"):
        check_healed(calm)


def test_gusts_strike_all_their_effects_with_calm_between_them():
    for seed in range(100):
        gusts, passed = Gusts(random.Random(seed), 300), Counter()  # noqa: S311
        for effect in range(2000):
            gusts.pass_effect(min(effect // 100, HEADS))
            passed[gusts.is_calm] += 1

        assert gusts.left == 0
        assert gusts.is_calm
        assert abs(passed[False] - 300) <= HEADS
