"""What costs a session, halts the chain, or takes it long; and how it goes on afterwards."""

import itertools
from dataclasses import replace

import pytest

from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import Gone, Refused, SessionInfo, Trouble
from orchestrator.machine import Kind, Phase
from orchestrator.model import SessionStatus
from tests.simulation.chain import DATASET, KERNEL, MOST_TICKS, Act
from tests.simulation.faults import Fault, answering, changing, lost_answer, lost_request
from tests.simulation.kaggle import PLATFORM
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_commits, check_reached

HOUR = 3600.0


def _in_vain(call, request):
    return call.__self__.publish_in_vain(call, request)


def _slowly(call, request):
    return call.__self__.publish_slowly(call, request, 3 * HOUR)


def _live_in_session(number):
    return lambda state: state.phase is Phase.LIVE and state.session == number


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
            run.kaggle.push_by_hand(name, gpu=True)

    run = simulate(acts=[Act(lambda state: state.phase is Phase.UNBOUND, occupy)])

    run.run()

    check_reached(run, sessions=3)
    refused = [event.data["trouble"] for event in run.kinds(Kind.PUSH_REFUSED)]
    assert set(refused) == {"capacity"}


def test_a_session_that_started_without_its_input_is_waited_for_and_rejected(simulate):
    def misdirect(call, request):
        return call(replace(request, dataset_sources=("local/no-such-dataset",)))

    fault = Fault("push", misdirect, nth=2)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3, pushes=4)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == ["rejected"]
    assert [e.data["attempt"] for e in run.kinds(Kind.PUSH_INTENT)] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(saves=False), "no_checkpoint"),
        (Script(saves=False, ending="exception"), "no_checkpoint"),
        (Script(ending="out_of_memory"), "no_checkpoint"),
        (Script(steps=0), "rejected"),
        (Script(stale_versions=1), "parent_missing"),
    ],
)
def test_a_session_that_brings_nothing_is_tried_again(simulate, script, reason):
    run = simulate(scripts={3: script})

    run.run()

    check_reached(run, sessions=3, pushes=4)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == [reason]
    assert [e.data["attempt"] for e in run.kinds(Kind.PUSH_INTENT)] == [1, 1, 1, 2]


@pytest.mark.parametrize(("allowed", "pushes"), [(1, 1), (2, 2), (3, 2)])
def test_a_chain_halts_when_its_sessions_keep_failing_alike(simulate, allowed, pushes):
    run = simulate(chain={"max_attempts": allowed}, script=Script(saves=False))

    run.run()

    assert run.state.halt_code == "failing_sessions"
    assert "no_checkpoint" in run.state.halt_message
    assert len(run.kaggle.pushes(KERNEL)) == pushes
    check_always(run)


def test_a_chain_halts_after_as_many_different_failures_as_are_allowed(simulate):
    scripts = {
        2: Script(saves=False),
        3: Script(saves=False, ending="exception"),
        4: Script(saves=False, ending="timeout"),
    }
    run = simulate(chain={"max_attempts": 3}, scripts=scripts)

    assert run.run().halt_code == "failing_sessions"
    assert len(run.kaggle.pushes(KERNEL)) == 4
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3, pushes=6)


def test_a_chain_halts_where_somebody_else_pushed_and_goes_on_when_told_to(simulate):
    intruder = Act(_live_in_session(2), lambda run: run.kaggle.push_by_hand(KERNEL))
    run = simulate(acts=[intruder])

    assert run.run().halt_code == "foreign_kernel_version"
    assert intruder.fired == 1
    assert run.state.heads == 2
    run.retry()
    run.run()

    check_reached(run, sessions=3)
    assert [push.version for push in run.kaggle.pushes(KERNEL) if push.token] == [1, 2, 4]


@pytest.mark.parametrize(("verb", "nth"), [("kernel", 2), ("dataset", 1), ("dataset", 5)])
def test_a_chain_halts_when_something_of_it_went_public(simulate, verb, nth):
    fault = Fault(verb, changing(is_private=False), nth=nth, matches=lambda *_: True)
    if nth == 1:  # nothing is there to read before the first publication
        fault.matches = lambda *_: run.state.phase is Phase.IDLE
    run = simulate(faults=[fault])

    assert run.run().halt_code == "public"
    assert fault.fired == 1
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_a_chain_halts_at_a_foreign_dataset_version_until_the_head_is_the_newest(simulate):
    def intrude(call, *args):
        run.kaggle.publish_by_hand(DATASET, {"a.bin": b"a"})
        run.clock.advance(HOUR)
        return call(*args)

    before_the_third = lambda *_: (run.state.phase, run.state.heads) == (Phase.IDLE, 2)  # noqa: E731
    fault = Fault("kernel", intrude, matches=before_the_third)
    run = simulate(faults=[fault])

    for _ in range(2):
        assert run.run().halt_code == "foreign_dataset_version"
        run.retry()
    assert fault.fired == 1
    check_always(run)
    head = run.store / run.state.head.checkpoint.manifest_sha256
    names = [*run.state.head.checkpoint.publish, "manifest.json"]
    run.kaggle.publish_by_hand(DATASET, {name: (head / name).read_bytes() for name in names})
    run.clock.sleep(HOUR)
    run.run()

    check_reached(run, sessions=3)


def test_a_foreign_dataset_version_during_a_session_is_superseded(simulate):
    intruder = Act(
        _live_in_session(2), lambda run: run.kaggle.publish_by_hand(DATASET, {"a.bin": b"a"})
    )
    run = simulate(acts=[intruder])

    run.run()

    assert intruder.fired == 1
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]


def test_another_accounts_credential_is_refused(simulate):
    def swap(run):
        run.kaggle.user = "somebody-else"

    run = simulate(acts=[Act(_live_in_session(2), swap)])

    with pytest.raises(ConfigError, match="somebody-else"):
        run.run()

    events = run.events
    run.kaggle.user = "local"
    run.run()
    assert run.events[: len(events)] == events
    check_reached(run, sessions=3)


def test_a_chain_halts_after_a_loss_that_was_not_finite(simulate):
    run = simulate(scripts={2: Script(reason="nonfinite_loss")})

    run.run()

    assert run.state.halt_code == "nonfinite_loss"
    assert (run.state.heads, run.state.head.checkpoint.step) == (2, 20)
    check_always(run)


def test_a_chain_goes_on_after_a_loss_that_was_not_finite_when_told_to(simulate):
    run = simulate(scripts={2: Script(reason="nonfinite_loss")})

    run.run()
    run.retry()
    run.run()

    check_reached(run, sessions=3)


@pytest.mark.parametrize("verb", ["create_dataset", "publish_version"])
def test_a_version_that_is_processed_for_hours_is_waited_for(simulate, verb):
    fault = Fault(verb, _slowly)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert len(run.kaggle.versions(DATASET)) == 3


def test_a_version_that_kaggle_failed_to_process_is_published_again(simulate):
    fault = Fault("publish_version", _in_vain)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert len(run.kinds(Kind.PUBLISH_INCOMPLETE)) == 1


def test_a_chain_halts_when_publications_keep_failing_and_goes_on_when_told_to(simulate):
    fault = Fault("publish_version", _in_vain, times=3)
    run = simulate(faults=[fault])

    assert run.run().halt_code == "failing_publications"
    assert fault.fired == 3
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_a_session_that_never_ends_is_given_up_after_its_limit_and_grace(simulate):
    endless = answering(SessionInfo(SessionStatus.RUNNING, ""))
    fault = Fault("session", endless, times=85)
    run = simulate(faults=[fault], scripts={1: Script(seconds=11 * HOUR)})

    run.run()

    assert fault.fired == 85
    check_reached(run, sessions=3, pushes=4)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == ["overrun"]


@pytest.mark.xfail(
    strict=True, reason="half a minute without any output counts as a session that left nothing"
)
def test_outputs_that_take_minutes_to_appear_are_waited_for(simulate):
    def after_five_minutes(call, *args):
        ended_at = run.state.push.ended_at
        return () if run.clock.now() < ended_at + 300 else call(*args)

    fault = Fault("outputs", after_five_minutes, times=100)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired
    check_reached(run, sessions=3)


def test_a_verdict_that_appears_after_the_manifest_is_waited_for(simulate):
    def without_verdict(call, *args):
        return tuple(file for file in call(*args) if file.name != "session.json")

    fault = Fault("outputs", without_verdict)
    run = simulate(faults=[fault], scripts={1: Script(reason="nonfinite_loss")})

    run.run()

    assert fault.fired
    assert run.state.halt_code == "nonfinite_loss"


@pytest.mark.parametrize("verb", ["dataset", "kernel"])
def test_a_read_that_is_behind_is_no_reason_to_halt(simulate, verb):
    def behind(call, *args):
        return replace(call(*args), current_version=1)

    fault = Fault(
        verb,
        behind,
        times=2,
        matches=lambda *_: run.state.phase is Phase.IDLE and run.state.heads == 2,
    )
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 2
    check_reached(run, sessions=3)


def test_a_stale_read_before_publishing_again_does_not_double_a_version(simulate):
    fault = Fault("publish_version", _lacking_a_file)
    stale = Fault(
        "dataset",
        lambda call, *args: replace(call(*args), current_version=1),
        matches=lambda *_: run.state.phase is Phase.VERIFIED and run.state.failed_publications,
    )
    run = simulate(faults=[fault, stale])

    run.run()

    assert (fault.fired, stale.fired) == (1, 1)
    check_reached(run, sessions=3)


def _lacking_a_file(call, request):
    return call(replace(request, files=request.files[1:]))


@pytest.mark.parametrize("root", ["archive/", ""])
def test_a_checkpoint_that_kaggle_unpacked_counts_as_published(simulate, root):
    def shown(call, *args):
        files = call(*args)
        return {name.replace("archive/", root): size for name, size in files.items()}

    fault = Fault("dataset_files", shown, times=3)
    run = simulate(faults=[fault], settings=replace(PLATFORM, unpack_checkpoints=True))

    run.run()

    assert fault.fired == 3
    check_reached(run, sessions=3)


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
        times=3,
        matches=lambda *_: run.state.phase is Phase.PUSH_UNKNOWN,
    )
    run = simulate(faults=[fault, behind])

    run.run()

    assert (fault.fired, behind.fired) == (1, 3)
    check_reached(run, sessions=3)


def test_a_push_that_lands_after_it_was_given_up_costs_one_session_and_no_commit(simulate):
    def delayed(call, request):
        waiting.append((call, request))
        return lost_request(call, request)

    def arrive(run):
        run.kaggle.on_landing = None  # it is not the journal's turn any more
        call, request = waiting.pop()
        call(request)

    waiting = []
    arrival = Act(lambda state: state.phase is Phase.LIVE, arrive)
    run = simulate(faults=[Fault("push", delayed)], acts=[arrival])

    run.run()
    assert (run.state.halt_code, run.state.heads) == ("foreign_kernel_version", 1)
    run.retry()
    run.run()

    assert arrival.fired == 1
    assert run.state.heads == 3
    check_commits(run)


def test_a_dataset_that_kaggle_failed_to_process_at_its_creation_halts_the_chain(simulate):
    fault = Fault("create_dataset", _in_vain)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert run.state.phase is Phase.HALTED
    check_always(run)


@pytest.mark.xfail(
    strict=True, reason="LIVE waits without an end for a session that Kaggle says does not exist"
)
def test_a_session_that_kaggle_does_not_have_costs_an_attempt_only(simulate):
    fault = Fault(
        "session", answering(Gone("no session")), times=MOST_TICKS, matches=lambda _, n: n == 2
    )
    run = simulate(faults=[fault])

    run.run()

    check_reached(run, sessions=3, pushes=4)


@pytest.mark.xfail(
    strict=True, reason="a refusal that Kaggle will repeat for ever is repeated for ever"
)
def test_a_push_that_kaggle_will_always_refuse_halts_the_chain(simulate):
    refused = Refused(Trouble.INVALID, "Invalid machine shape")
    run = simulate(faults=[Fault("push", answering(refused), times=50)])

    assert run.run().phase is Phase.HALTED


@pytest.mark.xfail(
    strict=True, reason="what IDLE checked is not checked again when PUSHING is resumed later"
)
def test_somebody_who_pushes_before_an_interrupted_push_is_noticed(simulate):
    clean = simulate()
    clean.run()
    names = clean.effects.names
    intents = [n for n, name in enumerate(names) if name == "journal.append push_intent"]
    intruder = Act(
        lambda state: state.phase is Phase.PUSHING, lambda run: run.kaggle.push_by_hand(KERNEL)
    )
    run = simulate(acts=[intruder], kills=[(intents[1], "after")])

    run.run()

    assert intruder.fired == 1
    assert run.state.halt_code == "foreign_kernel_version"
