"""Pushes that land after they were given up: ours, and neither repeated nor anybody else's."""

from orchestrator.kaggle.port import SessionInfo
from orchestrator.machine import Kind, Phase
from orchestrator.model import SessionStatus
from tests.simulation.chain import DATASET, KERNEL, Act, live_in_session
from tests.simulation.faults import Fault, answering, lost_request
from tests.simulation.session import Script
from tests.simulation.truth import check_commits, check_reached


def late_push(simulate, verb, phase, **world):
    """A chain whose first push is given up, and lands just before a call in a later phase."""

    def delayed(call, request):
        waiting.append((call, request))
        return lost_request(call, request)

    def landing(call, *args):
        told, run.host.on_landing = run.host.on_landing, None  # it was given up
        push, request = waiting.pop()
        push(request)
        run.host.on_landing = told
        return call(*args)

    def is_due(*_):
        return run.kinds(Kind.PUSH_GIVEN_UP) and run.state.phase is phase

    waiting = []
    late = Fault(verb, landing, matches=is_due)
    run = simulate(faults=[Fault("push", delayed), late], **world)
    run.watch.one_live = False
    return run, late


def test_a_push_that_lands_late_and_still_continues_the_head_is_adopted(simulate):
    run, late = late_push(simulate, "kernel", Phase.PUSHING)

    run.run()

    assert late.fired == 1
    check_reached(run, sessions=3)
    assert [event.data["push"]["version"] for event in run.kinds(Kind.RECOVERED_LIVE)] == [1]


def test_a_push_that_landed_late_is_waited_for_before_the_next_one(simulate):
    run, late = late_push(
        simulate, "dataset", Phase.PUBLISH_UNKNOWN, script=Script(seconds=5 * 3600.0)
    )

    run.run()

    assert late.fired == 1
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    assert "duplicate" in [event.data["reason"] for event in run.kinds(Kind.WAITING)]
    alone = [push.live_beside for push in run.host.pushes(KERNEL)]
    assert alone == [0, 0, 0, 0]
    check_commits(run)


def test_a_late_push_that_never_ends_is_waited_for_until_it_must_have_ended(simulate):
    run, _ = late_push(simulate, "dataset", Phase.PUBLISH_UNKNOWN)
    open_for_ever = Fault(
        "session",
        answering(SessionInfo(SessionStatus.RUNNING, "")),
        times=10**6,
        matches=lambda _slug, version: version == 2,
    )
    run.plan.faults = [*run.plan.faults, open_for_ever]

    run.run()

    assert open_for_ever.fired
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    limit = run.kinds(Kind.PUSH_INTENT)[0].data["time_budget_seconds"]
    (begun,), (ended,) = run.kinds(Kind.RECOVERING), run.kinds(Kind.RECOVERED)
    assert ended.age - begun.age > limit + run.settings.timing.grace_seconds
    check_commits(run)


def test_a_checkpoint_in_hand_comes_before_a_push_that_landed_late(simulate):
    run, late = late_push(simulate, "dataset", Phase.VERIFIED)
    foreign = Act(
        live_in_session(2), lambda run: run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
    )
    run.plan.acts = [foreign]
    late.matches = lambda *_: run.state.phase is Phase.VERIFIED and run.state.heads == 1

    run.run()

    assert (late.fired, foreign.fired) == (1, 1)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]
    check_commits(run)
