from dataclasses import replace

import pytest

from orchestrator import contract
from orchestrator.machine import Kind, Phase
from tests.simulation.kaggle import LATENCY_SECONDS
from tests.simulation.session import Script, run, weights
from tests.simulation.truth import check_reached

PARAMETERS = {
    "contract": 1,
    "chain": "sim",
    "session": 1,
    "attempt": 1,
    "token": "kc1." + "a" * 26,
    "parent": None,
}


@pytest.mark.parametrize("sessions", [1, 3, 5])
def test_a_chain_reaches_its_target(simulate, sessions):
    simulation = simulate(sessions=sessions)

    simulation.run()

    check_reached(simulation, sessions=sessions)
    assert simulation.state.head.checkpoint.step == 10 * sessions


def test_the_same_seed_gives_the_same_events(simulate):
    first, second, other = simulate(seed=1), simulate(seed=1), simulate(seed=2)

    for simulation in (first, second, other):
        simulation.run()

    assert first.events == second.events
    assert first.effects.names == second.effects.names
    assert first.events != other.events


def test_a_tick_never_waits_for_anything_to_happen(simulate):
    simulation = simulate()

    for _ in range(200):
        began_at, calls = simulation.clock.true_at, len(simulation.effects.names)
        wake = simulation.tick()
        called = len(simulation.effects.names) - calls
        assert simulation.clock.true_at - began_at <= called * LATENCY_SECONDS
        if wake is None:
            break
        simulation.clock.sleep(wake - simulation.clock.now())

    check_reached(simulation, sessions=3)


def test_a_finished_chain_goes_on_when_more_sessions_are_asked_for(simulate):
    simulation = simulate(sessions=2)
    simulation.run()

    simulation.want(3)
    simulation.run()

    check_reached(simulation, sessions=3)


@pytest.mark.parametrize("sessions", [1, 2])
def test_a_finished_chain_does_nothing_more_for_the_same_target_or_less(simulate, sessions):
    simulation = simulate(sessions=2)
    simulation.run()
    events = simulation.events

    simulation.want(sessions)
    simulation.run()

    assert simulation.events == events
    check_reached(simulation, sessions=2)


def test_a_chain_is_done_when_training_is_complete(simulate):
    simulation = simulate(sessions=5, scripts={2: Script(training_complete=True)})

    simulation.run()

    check_reached(simulation, sessions=2)
    assert simulation.state.finish_reason == "training is complete"
    simulation.want(9)
    assert simulation.run().phase is Phase.DONE


def test_a_chain_waits_for_the_week_in_which_there_is_quota_again(simulate):
    long = Script(seconds=11 * 3600)
    simulation = simulate(sessions=4, script=long)

    simulation.run()

    check_reached(simulation, sessions=4)
    assert [event.data["reason"] for event in simulation.kinds(Kind.WAITING)] == ["quota"]


def test_a_wait_whose_reason_was_mended_ends_within_the_hour(simulate):
    run = simulate(sessions=4, script=Script(seconds=11 * 3600))
    while (wake := run.tick()) and run.state.wait_reason != "quota":
        run.clock.sleep(wake - run.clock.now())
    assert wake - run.clock.now() > 86_400
    pushes = len(run.kinds(Kind.PUSH_SENT))
    more = replace(run.host.world.settings, gpu_quota_seconds=60 * 3600.0)
    run.host.world.configure(run.clock.true_at, settings=more)

    run.clock.sleep(3660.0)
    run.tick()

    assert len(run.kinds(Kind.PUSH_SENT)) == pushes + 1


def test_a_session_cut_off_at_its_limit_still_counts(simulate):
    simulation = simulate(scripts={2: Script(seconds=13 * 3600)})

    simulation.run()

    check_reached(simulation, sessions=3)
    ends = [event.data["status"] for event in simulation.kinds(Kind.SESSION_ENDED)]
    assert ends == ["complete", "cancel_acknowledged", "complete"]


def test_the_simulated_session_keeps_the_contract():
    left = run(PARAMETERS, {}, Script(), at=1.0)
    resumed = PARAMETERS | {"session": 2, "parent": _parent(left)}
    mounted = {name.replace("checkpoints", "datasets/x"): data for name, data in left.items()}

    for files in (left, run(resumed, mounted, Script(), at=2.0)):
        for document, name in (
            ("manifest", "checkpoints/manifest.json"),
            ("history", "checkpoints/training_history.json"),
            ("verdict", "session.json"),
        ):
            contract.parse(document, files[name])


def test_the_simulated_session_refuses_any_parent_but_its_own():
    left = run(PARAMETERS, {}, Script(), at=1.0)
    resumed = PARAMETERS | {"session": 2, "parent": _parent(left)}
    other = run(PARAMETERS, {}, Script(steps=9), at=1.0)

    for mounted in ({}, {name.replace("checkpoints", "x"): data for name, data in other.items()}):
        files = run(resumed, mounted, Script(), at=2.0)
        assert list(files) == ["session.json"]
        assert contract.parse("verdict", files["session.json"])["reason"] == "parent_missing"


def test_the_weights_of_a_step_depend_on_every_step_before_it():
    assert len({weights(step) for step in range(30)}) == 30


def _parent(left):
    manifest = contract.parse("manifest", left["checkpoints/manifest.json"])
    entry = manifest["files"][0]
    parent = {key: entry[key] for key in ("step", "bytes", "sha256")}
    return {**parent, "file": entry["name"], "manifest_sha256": "0" * 64}
