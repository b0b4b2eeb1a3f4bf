"""Pushes that are lost, late, refused or in somebody's way."""

import itertools

import pytest

from orchestrator.emulator.records import Twist
from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import Gone, Refused, Trouble
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import KERNEL, Act, live_in_session
from tests.simulation.faults import (
    Fault,
    answering,
    lost_answer,
    lost_request,
    unreadable,
)
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_commits, check_reached


def test_a_push_is_repeated_only_after_settling_and_three_agreeing_reads(simulate):
    fault = Fault("push", lost_request)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    sent, again = run.kinds(Kind.PUSH_SENT)[:2]
    reads = [event.at for event in run.kinds(Kind.PUSH_ABSENT)]
    timing = run.settings.timing
    assert reads[0] - sent.at >= timing.settle_seconds
    assert all(b - a >= timing.read_gap_seconds for a, b in itertools.pairwise(reads))
    assert again.at >= reads[-1] + timing.read_gap_seconds
    assert len({event.data["token"] for event in run.kinds(Kind.PUSH_INTENT)}) == 4


def test_a_push_whose_answer_was_lost_is_adopted(simulate):
    fault = Fault("push", lost_answer)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert [e.data["adopted"] for e in run.kinds(Kind.PUSH_DONE)] == [True, False, False]


@pytest.mark.parametrize("verb", ["push", "create_dataset", "publish_version"])
def test_what_becomes_visible_late_is_waited_for(simulate, verb):
    def landed_late(call, request):
        answer = lost_answer(call, request)
        landed_at.append(run.clock.true_at)
        return answer

    def hidden(call, *args):
        late = run.clock.true_at < landed_at[0] + 850
        return (before[-1] if before else Gone("nothing")) if late else call(*args)

    def remembered(call, *args):
        before.append(call(*args))
        return before[-1]

    landed_at, before = [], []
    read = "kernel" if verb == "push" else "dataset"
    run = simulate(
        faults=[
            Fault(verb, landed_late),
            Fault(read, hidden, times=100, matches=lambda *_: landed_at),
            Fault(read, remembered, times=100, matches=lambda *_: not landed_at),
        ]
    )

    run.run()

    assert run.plan.faults[1].fired
    check_reached(run, sessions=3)


def test_reads_that_disagree_do_not_add_up_to_an_absence(simulate):
    fault = Fault("push", lost_answer)
    behind = Fault(
        "kernel",
        answering(Gone("no such kernel")),
        times=5,  # the last three of them after the settle window
        matches=lambda *_: run.state.phase is Phase.PUSH_UNKNOWN,
    )
    run = simulate(faults=[fault, behind])

    run.run()

    check_reached(run, sessions=3)
    assert (fault.fired, behind.fired) == (1, 5)
    assert len(run.kinds(Kind.PUSH_ABSENT)) == 3


@pytest.mark.parametrize("verb", ["push", "create_dataset", "publish_version"])
def test_reads_that_fail_do_not_add_up_to_an_absence(simulate, verb):
    read, phase = ("kernel", Phase.PUSH_UNKNOWN)
    if verb != "push":
        read, phase = ("dataset", Phase.PUBLISH_UNKNOWN)
    fault = Fault(verb, lost_answer)
    failing = Fault(
        read, unreadable, times=8, matches=lambda *_: fault.fired and run.state.phase is phase
    )
    run = simulate(faults=[fault, failing])

    run.run()

    check_reached(run, sessions=3)
    assert (fault.fired, failing.fired) == (1, 8)
    assert run.kinds(Kind.PUSH_GIVEN_UP) == run.kinds(Kind.PUBLISH_GIVEN_UP) == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_controller_that_dies_again_and_again_does_not_read_faster(simulate, times):
    clean = simulate(faults=[Fault("push", lost_request)])
    clean.run()
    absent = [n for n, name in enumerate(clean.effects.names) if name.endswith("push_absent")]
    kills = [(absent[0] + 2 * n, "after") for n in range(times)]
    fault = Fault("push", lost_request)
    run = simulate(faults=[fault], kills=kills)

    run.run()

    assert fault.fired == 1
    assert run.effects.fired == kills
    reads = [event.age for event in run.kinds(Kind.PUSH_ABSENT)]
    gap = run.settings.timing.read_gap_seconds
    assert all(b - a >= gap for a, b in itertools.pairwise(reads))
    check_reached(run, sessions=3)


def test_a_push_that_lands_after_it_was_given_up_costs_one_session_and_no_commit(simulate):
    def delayed(call, request):
        waiting.append((call, request))
        return lost_request(call, request)

    def arrive(run):
        run.host.on_landing = None  # it is not the journal's turn any more
        call, request = waiting.pop()
        call(request)

    waiting = []
    arrival = Act(lambda state: state.phase is Phase.LIVE, arrive)
    run = simulate(faults=[Fault("push", delayed)], acts=[arrival])
    run.watch.one_live = False

    run.run()

    assert arrival.fired == 1
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    assert (
        "version 2 is a push of ours that came late"
        in run.kinds(Kind.RECOVERING)[0].data["message"]
    )
    check_commits(run)


def test_a_push_waits_as_long_as_kaggle_asks(simulate):
    fault = Fault("push", answering(Refused(Trouble.RATE, "slow down", 700.0)))
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    first, second = run.kinds(Kind.PUSH_SENT)[:2]
    assert 700 <= second.at - first.at < 710


def test_a_push_waits_until_others_leave_room_for_a_session(simulate):
    def occupy(run):
        for name in ("somebodys-first", "somebodys-second"):
            run.host.push_by_hand(name, gpu=True)

    run = simulate(acts=[Act(lambda state: state.phase is Phase.UNBOUND, occupy)])

    run.run()

    check_reached(run, sessions=3)
    refused = [event.data["trouble"] for event in run.kinds(Kind.PUSH_REFUSED)]
    assert set(refused) == {"capacity"}


def test_a_push_that_kaggle_will_always_refuse_halts_the_chain(simulate):
    refused = Refused(Trouble.INVALID, "Invalid machine shape")
    run = simulate(faults=[Fault("push", answering(refused), times=50)])

    assert run.run().phase is Phase.HALTED


def test_a_push_that_was_saved_elsewhere_halts_the_chain(simulate):
    run = simulate()
    twists = [Twist.LAND_ELSEWHERE]
    run.host.twist = lambda operation: twists.pop() if operation == "push" and twists else None

    assert run.run().halt_code == "misplaced_push"

    assert not twists
    assert run.host.pushes(KERNEL) == []
    assert len(run.host.live_sessions()) == 1
    assert "'kchain-sim-2' instead; what runs there cannot be watched" in run.state.halt_message
    check_always(run)


def test_nothing_is_pushed_while_a_session_may_run_at_another_address(simulate):
    run = simulate(script=Script(seconds=11 * 3600.0))
    twists = [Twist.LAND_ELSEWHERE]
    run.host.twist = lambda operation: twists.pop() if operation == "push" and twists else None

    assert run.run().halt_code == "misplaced_push"
    run.retry()
    run.run()

    check_reached(run, sessions=3)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == ["misplaced"]
    elsewhere, again = run.kinds(Kind.PUSH_SENT)[:2]
    limit = run.kinds(Kind.PUSH_INTENT)[0].data["time_budget_seconds"]
    assert again.age - elsewhere.age > limit + run.settings.timing.grace_seconds


def test_somebody_who_pushes_between_the_last_look_and_ours_is_noticed(simulate):
    def race(call, request):
        run.host.push_by_hand(KERNEL)
        return call(request)

    fault = Fault("push", race, nth=2)
    run = simulate(faults=[fault])

    assert run.run().halt_code == "foreign_kernel_version"
    assert fault.fired == 1
    assert len(run.host.live_sessions()) == 1
    assert "got version 2 just before version 3" in run.state.halt_message
    run.retry()
    run.run()

    check_reached(run, sessions=3)
    assert [push.version for push in run.host.pushes(KERNEL) if push.token] == [1, 3, 4]
    assert len(run.kinds(Kind.HALTED)) == 1


def test_somebody_elses_version_is_not_taken_for_a_push_whose_answer_was_lost(simulate):
    def race(call, request):
        run.host.push_by_hand(KERNEL)
        return lost_answer(call, request)

    run = simulate(faults=[Fault("push", race, nth=2)])

    assert run.run().halt_code == "foreign_kernel_version"
    run.retry()
    run.run()

    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.PUSH_DONE)] == [1, 3, 4]


def test_a_version_in_between_that_cannot_be_read_is_waited_for(simulate):
    def race(call, request):
        run.host.push_by_hand(KERNEL)
        return call(request)

    def is_second(_slug, version=None):
        return version == 2

    unread = Fault("kernel", unreadable, times=2, matches=is_second)
    run = simulate(faults=[Fault("push", race, nth=2), unread])

    assert run.run().halt_code == "foreign_kernel_version"
    assert unread.fired == 2


def test_a_push_of_ours_that_slips_in_late_is_written_down_and_halts_nothing(simulate):
    def delayed(call, request):
        waiting.append(request)
        return lost_request(call, request)

    def race(call, request):
        told, run.host.on_landing = run.host.on_landing, None  # it was given up
        call(waiting.pop())
        run.host.on_landing = told
        return call(request)

    waiting = []
    run = simulate(faults=[Fault("push", delayed), Fault("push", race, nth=2)])
    run.watch.one_live = False

    run.run()

    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    assert [event.data["versions"] for event in run.kinds(Kind.PUSH_OVERTAKEN)] == [[1]]
    check_commits(run)


def test_pushes_that_never_become_visible_are_not_repeated_without_end(simulate):
    fault = Fault("push", lost_request, times=1_000)
    run = simulate(faults=[fault])

    for number in (1, 2):
        assert run.run().halt_code == "unknown_pushes"
        assert fault.fired == number * run.settings.chain.max_attempts
        run.retry()
    fault.times = 0
    run.run()

    check_reached(run, sessions=3)


def test_pushes_that_were_lost_now_and_then_do_not_add_up(simulate):
    fault = Fault("push", lost_request, times=1_000, matches=lambda _: next(turns))
    turns = itertools.cycle([True, False])
    run = simulate(sessions=4, faults=[fault])

    run.run()

    assert fault.fired == 4 > run.settings.chain.max_attempts
    check_reached(run, sessions=4)


def test_a_chain_halts_where_somebody_else_pushed_and_goes_on_when_told_to(simulate):
    intruder = Act(live_in_session(2), lambda run: run.host.push_by_hand(KERNEL))
    run = simulate(acts=[intruder])

    assert run.run().halt_code == "foreign_kernel_version"
    assert intruder.fired == 1
    assert run.state.heads == 2
    run.retry()
    run.run()

    check_reached(run, sessions=3)
    assert [push.version for push in run.host.pushes(KERNEL) if push.token] == [1, 2, 4]


def test_somebody_who_pushes_before_an_interrupted_push_is_noticed(simulate):
    clean = simulate()
    clean.run()
    names = clean.effects.names
    intents = [n for n, name in enumerate(names) if name == "journal.append push_intent"]
    intruder = Act(
        lambda state: state.phase is Phase.PUSHING, lambda run: run.host.push_by_hand(KERNEL)
    )
    run = simulate(acts=[intruder], kills=[(intents[1], "after")])

    run.run()

    assert intruder.fired == 1
    assert run.state.halt_code == "foreign_kernel_version"


def test_another_accounts_credential_is_refused(simulate):
    def swap(run):
        run.kaggle.user = "somebody-else"

    run = simulate(acts=[Act(live_in_session(2), swap)])

    with pytest.raises(ConfigError, match="somebody-else"):
        run.run()

    events = run.events
    run.kaggle.user = "local"
    run.run()
    assert run.events[: len(events)] == events
    check_reached(run, sessions=3)
