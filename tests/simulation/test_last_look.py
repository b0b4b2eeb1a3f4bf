"""What is looked at once more right before something is sent, however old the intent."""

from dataclasses import replace

import pytest

from orchestrator import kernel
from orchestrator.emulator.records import Draft
from orchestrator.errors import ConfigError
from orchestrator.files import ask_stop
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Act
from tests.simulation.faults import Fault, unreadable
from tests.simulation.host import OWNER
from tests.simulation.truth import check_always, check_reached

HOUR = 3600.0


@pytest.fixture
def interrupted(simulate):
    """A run whose controller was killed right after an event, the n-th of its kind."""

    def make(kind, nth=1, moment="after", **options):
        clean = simulate()
        clean.run()
        name = f"journal.append {kind.value}" if isinstance(kind, Kind) else kind
        found = [n for n, each in enumerate(clean.effects.names) if each == name]
        run = simulate(kills=[(found[nth - 1], moment)], **options)
        run.run_until_killed()
        return run

    return make


def in_pushing(state):
    return state.phase is Phase.PUSHING and state.heads == 1


# Everybody can read it


def test_nothing_is_uploaded_into_a_dataset_that_was_made_public_since_the_intent(interrupted):
    run = interrupted(Kind.PUBLISH_INTENT, nth=2)
    run.clock.sleep(8 * HOUR)
    run.host.set_public(DATASET, public=True)
    run.reboot()

    for _ in range(2):
        assert run.run().halt_code == "public"
        run.retry()
    assert len(run.host.versions(DATASET)) == 1
    run.host.set_public(DATASET, public=False)
    run.run()

    check_reached(run, sessions=3)


@pytest.mark.parametrize("phase", [Phase.PUBLISH_UNKNOWN, Phase.PUBLISHED])
def test_no_version_becomes_the_head_where_everybody_can_read_it(simulate, phase):
    opened = Act(
        lambda state: state.phase is phase and state.heads == 1,
        lambda run: run.host.set_public(DATASET, public=True),
    )
    run = simulate(acts=[opened], timing={"poll_seconds": 60.0})

    for _ in range(2):
        run.run()
        assert (run.state.halt_code, run.state.halted_in) == ("public", phase)
        run.retry()
    assert opened.fired == 1
    check_always(run)
    run.host.set_public(DATASET, public=False)
    run.run()

    check_reached(run, sessions=3)


# Somebody was quicker


def test_a_publication_is_withdrawn_when_somebody_added_a_version_since_the_intent(interrupted):
    run = interrupted(Kind.PUBLISH_INTENT, nth=2)
    run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
    run.clock.sleep(HOUR)
    run.reboot()

    run.run()

    assert len(run.kinds(Kind.PUBLISH_WITHDRAWN)) == 1
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]


def test_a_dataset_that_somebody_made_since_the_intent_is_left_alone(interrupted):
    run = interrupted(Kind.PUBLISH_INTENT)
    run.host.on_landing = None
    run.host.create(Draft(OWNER, DATASET, DATASET, description="mine"), {"a.bin": b"a"})
    run.clock.sleep(HOUR)
    run.reboot()

    assert run.run().halt_code == "foreign_dataset"
    assert len(run.kinds(Kind.PUBLISH_WITHDRAWN)) == 1
    assert run.kinds(Kind.PUBLISH_SENT) == []


def test_a_dataset_that_cannot_be_read_right_before_a_publication_is_waited_for(interrupted):
    run = interrupted(Kind.PUBLISH_INTENT, nth=2)
    fault = Fault("dataset", unreadable, times=3)
    run.plan.faults = [fault]
    run.reboot()

    run.run()

    assert fault.fired == 3
    check_reached(run, sessions=3)


# The week's quota


def leave(run, seconds):
    """Let so much of the week's quota be left."""
    world = run.host.world
    total = world.settings.gpu_quota_seconds - run.host.gpu_seconds_left() + seconds
    world.configure(run.host.now, settings=replace(world.settings, gpu_quota_seconds=total))


def test_a_push_that_waited_while_the_quota_shrank_asks_for_no_more_than_is_left(simulate):
    fault = Fault("kernel", unreadable, times=3, matches=lambda *_: in_pushing(run.state))
    used = Act(in_pushing, lambda run: leave(run, 5_000))
    run = simulate(faults=[fault], acts=[used])

    run.run()

    assert (fault.fired, used.fired) == (3, 1)
    assert len(run.kinds(Kind.PUSH_WITHDRAWN)) == 1
    asked = [event.data["time_budget_seconds"] for event in run.kinds(Kind.PUSH_INTENT)]
    assert asked[:3] == [41_400, 41_400, 5_000]
    check_reached(run, sessions=3)


def test_a_push_that_waited_until_the_quota_was_used_up_waits_for_the_next_week(simulate):
    fault = Fault("kernel", unreadable, times=3, matches=lambda *_: in_pushing(run.state))
    used = Act(in_pushing, lambda run: leave(run, 60))
    run = simulate(faults=[fault], acts=[used])

    run.run()

    assert (fault.fired, used.fired) == (3, 1)
    assert "quota" in [event.data["reason"] for event in run.kinds(Kind.WAITING)]
    first, second = run.kinds(Kind.PUSH_SENT)[:2]
    assert second.age - first.age > 86_400
    check_reached(run, sessions=3)


@pytest.mark.parametrize("error_seconds", [0.0, -86_400.0])
def test_after_a_start_of_the_machine_no_quota_counts_as_just_read(interrupted, error_seconds):
    run = interrupted(Kind.PUSH_INTENT, nth=2)
    leave(run, 5_000)
    run.reboot(error_seconds)

    run.run()

    assert len(run.kinds(Kind.PUSH_WITHDRAWN)) == 1
    check_reached(run, sessions=3)


def test_a_quota_that_cannot_be_read_again_is_waited_for(simulate):
    late = Fault("kernel", unreadable, times=3, matches=lambda *_: in_pushing(run.state))
    fault = Fault("quota", unreadable, times=3, matches=lambda *_: in_pushing(run.state))
    run = simulate(faults=[late, fault])

    run.run()

    assert (late.fired, fault.fired) == (3, 3)
    check_reached(run, sessions=3)


def test_a_quota_that_was_just_read_is_not_read_again(simulate):
    run = simulate()

    run.run()

    assert run.effects.names.count("kaggle.quota") == len(run.kinds(Kind.PUSH_SENT)) == 3


# What was written down


def test_a_notebook_that_is_not_the_one_written_down_is_not_sent(simulate):
    fault = Fault("kernel", unreadable, times=3, matches=lambda *_: in_pushing(run.state))
    changed = Act(in_pushing, lambda run: run.want(4))
    run = simulate(faults=[fault], acts=[changed])

    run.run()

    assert (fault.fired, changed.fired) == (3, 1)
    assert len(run.kinds(Kind.PUSH_WITHDRAWN)) == 1
    check_reached(run, sessions=4)
    intents = {e.data["token"]: e.data["source_sha256"] for e in run.kinds(Kind.PUSH_INTENT)}
    for push in run.host.pushes(KERNEL):
        source = run.kaggle.kernel(KERNEL, push.version).source
        assert kernel.source_sha256(source) == intents[push.token]


# Whose account it is


@pytest.mark.parametrize(
    "kind",
    [
        *(Kind.PUSH_INTENT, Kind.PUSH_SENT, Kind.PUSH_DONE, Kind.SESSION_ENDED),
        *(Kind.CHECKPOINT_VERIFIED, Kind.PUBLISH_INTENT, Kind.PUBLISH_SENT, Kind.PUBLISH_SEEN),
    ],
)
def test_nothing_is_read_or_sent_before_it_is_known_whose_account_it_is(interrupted, kind):
    run = interrupted(kind, nth=2)
    fault = Fault("identity", unreadable, times=20)
    run.plan.faults = [fault]
    run.reboot()
    before = len(run.effects.names)

    for _ in range(20):
        run.clock.sleep(run.tick() - run.clock.now())

    assert fault.fired == 20
    called = {name for name in run.effects.names[before:] if name.startswith("kaggle.")}
    assert called == {"kaggle.identity"}
    assert "account cannot be read" in run.state.wait_message
    run.run()
    check_reached(run, sessions=3)


def test_another_accounts_credential_that_is_known_late_sends_nothing(interrupted):
    run = interrupted(Kind.PUSH_INTENT, nth=2)
    fault = Fault("identity", unreadable, times=5)
    run.plan.faults, run.kaggle.user = [fault], "somebody-else"
    run.reboot()

    with pytest.raises(ConfigError, match="somebody-else"):
        run.run()

    assert fault.fired == 5
    assert len(run.kinds(Kind.PUSH_SENT)) == 1


def test_a_chain_stops_as_asked_where_nothing_runs_although_nobody_answers(interrupted):
    run = interrupted(Kind.PUSH_INTENT, nth=2)
    run.plan.faults = [Fault("identity", unreadable, times=1_000)]
    run.reboot()
    run.tick()

    ask_stop(run.folder / "state")

    assert run.tick() is None
    assert run.state.finish_reason == "stopped as asked, with 1 of 3 sessions done"


def test_a_tick_that_only_waits_asks_nothing(simulate):
    run = simulate()
    wake = run.tick()
    assert run.state.wait_reason is None
    run.plan.faults = [Fault("identity", unreadable)]
    run.clock.sleep(wake - run.clock.now())
    run.tick()
    assert run.state.wait_reason == "network"
    before = len(run.effects.names)

    run.tick()

    assert "kaggle.identity" not in run.effects.names[before:]
