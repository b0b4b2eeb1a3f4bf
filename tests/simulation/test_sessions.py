"""Sessions that bring nothing, too little, too late, or the wrong thing."""

import itertools
import re
from dataclasses import replace

import pytest

from orchestrator.kaggle.port import Gone, SessionInfo, Trouble, Unreadable
from orchestrator.machine import Kind, Phase
from orchestrator.model import SessionStatus
from tests.simulation.chain import DATASET, KERNEL, MOST_TICKS
from tests.simulation.faults import Fault, Memory, answering, garbling
from tests.simulation.host import PLATFORM
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_commits, check_reached

HOUR = 3600.0


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


def test_what_was_fetched_of_an_attempt_that_brought_nothing_does_not_stay(simulate):
    garbled = Fault("download", garbling(lambda data: data[:-1] + b"x"), times=MOST_TICKS)
    garbled.matches = lambda file, *_: file.name.endswith(".pt") and run.state.attempt == 1
    run = simulate(faults=[garbled])

    run.run()

    assert garbled.fired
    assert len(run.kinds(Kind.FRUITLESS)) == 3
    check_reached(run, sessions=3, pushes=6)
    assert list((run.folder / "state" / "incoming").iterdir()) == []


def test_what_was_fetched_again_of_an_attempt_that_was_kept_already_does_not_stay(simulate):
    clean = simulate()
    clean.run()
    run = simulate(kills=[(clean.effects.names.index("files.promote"), "after")])

    run.run()

    assert len(run.effects.fired) == 1
    check_reached(run, sessions=3)
    assert list((run.folder / "state" / "incoming").iterdir()) == []


THREE_SAVED = Script(saves_every=2)  # 16, 18 and 20 of the second session's steps


def spoiling(*steps, times=MOST_TICKS):
    """Every download of these steps' checkpoints is garbled; the rest comes as it is."""
    names = [f"checkpoints/checkpoint_epoch1_step{step}.pt" for step in steps]
    garbled = garbling(lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    return Fault("download", garbled, times=times, matches=lambda file, *_args: file.name in names)


@pytest.mark.parametrize(("spoilt", "heads"), [([20], [10, 18, 28]), ([20, 18], [10, 16, 26])])
def test_a_checkpoint_that_arrives_spoilt_is_replaced_by_an_older_one(simulate, spoilt, heads):
    fault = spoiling(*spoilt)
    run = simulate(faults=[fault], script=THREE_SAVED)

    run.run()

    assert fault.fired >= 3 * len(spoilt)
    check_reached(run, sessions=3)
    verified = run.kinds(Kind.CHECKPOINT_VERIFIED)
    assert [event.data["checkpoint"]["step"] for event in verified] == heads
    names = [f"checkpoint_epoch1_step{step}.pt" for step in spoilt]
    assert [event.data["lost"] for event in verified] == [[], names, []]
    published = run.host.versions(DATASET)[1].files
    assert set(published) == {f"checkpoint_epoch1_step{heads[1]}.pt", "manifest.json"}
    assert run.kinds(Kind.FRUITLESS) == []


def test_a_checkpoint_that_is_not_finite_is_replaced_by_an_older_one(simulate):
    run = simulate(scripts={2: replace(THREE_SAVED, diverges_at=20)})

    run.run()

    check_reached(run, sessions=3)
    verified = [event.data for event in run.kinds(Kind.CHECKPOINT_VERIFIED)]
    assert [each["checkpoint"]["step"] for each in verified] == [10, 18, 28]
    assert verified[1]["lost"] == ["checkpoint_epoch1_step20.pt"]
    assert verified[1]["why"] == (
        "checkpoint_epoch1_step20.pt: tensor 'model/weights' is not finite"
    )


def test_a_session_none_of_whose_checkpoints_is_finite_is_tried_again(simulate):
    run = simulate(scripts={2: replace(THREE_SAVED, diverges_at=11)})

    run.run()

    check_reached(run, sessions=3, pushes=4)
    (fruitless,) = run.kinds(Kind.FRUITLESS)
    assert fruitless.data["reason"] == "rejected"
    assert "tensor 'model/weights' is not finite" in fruitless.data["message"]


def test_a_checkpoint_with_other_shapes_than_the_heads_is_not_taken(simulate):
    run = simulate(scripts={2: replace(THREE_SAVED, reshapes=True)})

    run.run()

    check_reached(run, sessions=3, pushes=4)
    (fruitless,) = run.kinds(Kind.FRUITLESS)
    assert "is float32 of 3 x 11; the head's is float32 of 33" in fruitless.data["message"]


def test_a_file_that_changed_while_its_download_was_broken_off_is_fetched_anew(simulate):
    def break_off(call, file, sink, limit_bytes):
        content = Memory()
        call(file, content, limit_bytes)
        sink.write(b"another" + bytes(content.data[7:-1]))
        return Unreadable(Trouble.NETWORK, "the connection was reset")

    def is_checkpoint(file, *_args):
        return file.name.endswith(".pt")

    fault = Fault("download", break_off, matches=is_checkpoint)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert fault.seen == 3 + 2  # gone on with, and then from the first byte
    check_reached(run, sessions=3)


def test_a_status_that_cannot_be_read_for_a_day_after_the_limit_halts_the_chain(simulate):
    fault = Fault("session", answering(Unreadable(Trouble.ODD, "no status")), nth=3, times=10_000)
    run = simulate(faults=[fault])

    for days in (1, 2):
        assert run.run().halt_code == "unreadable"
        assert len(run.host.pushes(KERNEL)) == 1
        limit = run.kinds(Kind.PUSH_INTENT)[0].data["time_budget_seconds"]
        since = run.state.age - run.kinds(Kind.PUSH_SENT)[0].age
        assert limit + days * 24 * HOUR < since < limit + days * 24 * HOUR + 3 * HOUR
        run.retry()
    fault.times = 0
    run.run()

    check_reached(run, sessions=3)


def test_reads_that_fail_now_and_then_do_not_add_up_to_a_status_that_cannot_be_read(simulate):
    queued = SessionInfo(SessionStatus.QUEUED, "")
    answers = itertools.cycle([Unreadable(Trouble.ODD, "no status")] * 20 + [queued])
    fault = Fault("session", lambda _call, *_args: next(answers), times=400)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 400
    assert run.kinds(Kind.SESSION_READABLE)
    check_reached(run, sessions=3)


def test_what_is_left_of_a_quota_is_not_spent_on_a_session_that_cannot_save(simulate):
    run = simulate(sessions=2, platform=replace(PLATFORM, gpu_quota_seconds=3400.0))

    run.run()

    check_reached(run, sessions=2)
    assert [event.data["reason"] for event in run.kinds(Kind.WAITING)][-1] == "quota"
    asked = [event.data["time_budget_seconds"] for event in run.kinds(Kind.PUSH_INTENT)]
    assert asked == [3400, 3400]


def test_a_session_that_ends_in_an_error_after_its_checkpoint_still_counts(simulate):
    run = simulate(scripts={2: Script(ending="exception")})

    run.run()

    check_reached(run, sessions=3)
    ends = [event.data["status"] for event in run.kinds(Kind.SESSION_ENDED)]
    assert ends == ["complete", "error", "complete"]


def test_an_older_checkpoint_is_turned_to_only_when_nothing_more_can_come(simulate):
    newest = "checkpoints/checkpoint_epoch1_step20.pt"

    def without_newest(call, *args):
        age = run.journal.age
        late = age < run.state.push.ended_age + 20
        return tuple(file for file in call(*args) if not (late and file.name == newest))

    fault = Fault("outputs", without_newest, times=100, matches=lambda _, number: number == 2)
    run = simulate(faults=[fault], script=THREE_SAVED)

    run.run()

    assert fault.fired > 1
    check_reached(run, sessions=3)
    assert [e.data["lost"] for e in run.kinds(Kind.CHECKPOINT_VERIFIED)] == [[], [], []]


def test_outputs_of_which_only_a_part_is_listed_for_minutes_are_waited_for(simulate):
    def first_of_all(call, *args):
        return call(*args)[:1] if run.journal.age < run.state.push.ended_age + 300 else call(*args)

    fault = Fault("outputs", first_of_all, times=100, matches=lambda _, number: number == 2)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired > 1
    check_reached(run, sessions=3)


def test_a_session_none_of_whose_checkpoints_arrives_whole_is_tried_again(simulate):
    fault = spoiling(
        20, 18, 16, times=15
    )  # twice the newest, and then, when all is saved, all three
    run = simulate(faults=[fault], script=THREE_SAVED)

    run.run()

    assert fault.fired == 15
    check_reached(run, sessions=3, pushes=4)
    (lost,) = run.kinds(Kind.FRUITLESS)
    assert "checkpoint_epoch1_step20.pt does not match its SHA-256" in lost.data["message"]


def test_an_older_checkpoint_that_was_kept_stays_when_the_process_dies_before_it_says_so(
    simulate,
):
    rehearsal = simulate(faults=[spoiling(20, times=9)], script=THREE_SAVED)
    rehearsal.run()
    kept = [n for n, name in enumerate(rehearsal.effects.names) if name == "files.promote"]
    fault = spoiling(20, times=9)  # after the death it would arrive whole
    run = simulate(faults=[fault], script=THREE_SAVED, kills=[(kept[1], "after")])

    run.run()

    assert run.effects.fired == [(kept[1], "after")]
    assert fault.fired == 9
    check_reached(run, sessions=3)
    assert run.kinds(Kind.CHECKPOINT_VERIFIED)[1].data["checkpoint"]["step"] == 18


@pytest.mark.parametrize(("allowed", "pushes"), [(1, 1), (2, 2), (3, 2)])
def test_a_chain_halts_when_its_sessions_keep_failing_alike(simulate, allowed, pushes):
    run = simulate(chain={"max_attempts": allowed}, script=Script(saves=False))

    run.run()

    assert run.state.halt_code == "failing_sessions"
    assert "no_checkpoint" in run.state.halt_message
    assert len(run.host.pushes(KERNEL)) == pushes
    check_always(run)


def test_a_chain_halts_after_as_many_different_failures_as_are_allowed(simulate):
    scripts = {
        2: Script(saves=False),
        3: Script(saves=False, ending="exception"),
        4: Script(saves=False, ending="timeout"),
    }
    run = simulate(chain={"max_attempts": 3}, scripts=scripts)

    assert run.run().halt_code == "failing_sessions"
    assert len(run.host.pushes(KERNEL)) == 4
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3, pushes=6)


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


def test_a_session_that_never_ends_is_given_up_after_its_limit_and_grace(simulate):
    endless = answering(SessionInfo(SessionStatus.RUNNING, ""))
    fault = Fault("session", endless, times=85)
    run = simulate(faults=[fault], scripts={1: Script(seconds=11 * HOUR)})

    run.run()

    assert fault.fired == 85
    check_reached(run, sessions=3, pushes=4)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == ["overrun"]


def test_a_session_that_is_called_running_for_ever_costs_an_attempt_only(simulate):
    endless = answering(SessionInfo(SessionStatus.RUNNING, ""))
    fault = Fault("session", endless, times=MOST_TICKS, matches=lambda _, n: n == 2)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired
    check_reached(run, sessions=3, pushes=4)


def test_a_session_that_kaggle_does_not_have_costs_an_attempt_only(simulate):
    fault = Fault(
        "session", answering(Gone("no session")), times=MOST_TICKS, matches=lambda _, n: n == 2
    )
    run = simulate(faults=[fault])

    run.run()

    check_reached(run, sessions=3, pushes=4)


def test_the_output_of_an_attempt_that_was_given_up_is_not_taken_for_the_next_ones(simulate):
    def of_the_one_before(call, kernel, version):
        return call(kernel, version - 1)

    lost = Fault(
        "session", answering(Gone("no session")), times=MOST_TICKS, matches=lambda _, n: n == 2
    )
    mixed_up = Fault(
        "outputs", of_the_one_before, times=MOST_TICKS, matches=lambda _, version: version == 3
    )
    run = simulate(faults=[lost, mixed_up])

    run.run()

    assert lost.fired
    assert mixed_up.fired
    check_commits(run)
    check_reached(run, sessions=3, pushes=5)


def test_outputs_that_take_minutes_to_appear_are_waited_for(simulate):
    def after_five_minutes(call, *args):
        age = run.journal.age
        return () if age < run.state.push.ended_age + 300 else call(*args)

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


@pytest.mark.parametrize("name", ["session.json", "checkpoints/manifest.json"])
def test_a_document_that_arrives_spoilt_twice_is_still_heard(simulate, name):
    spoil = garbling(lambda content: content[: len(content) // 2])
    fault = Fault("download", spoil, times=2, matches=lambda file, *_args: file.name == name)
    run = simulate(faults=[fault], scripts={1: Script(reason="nonfinite_loss")})

    run.run()

    assert fault.fired == 2
    assert run.state.halt_code == "nonfinite_loss"
    assert run.kinds(Kind.FRUITLESS) == []


def test_a_session_that_names_another_parent_is_rejected(simulate):
    run = simulate(scripts={2: Script(denies_parent=True)})

    run.run()

    check_reached(run, sessions=3, pushes=4)
    assert [event.data["reason"] for event in run.kinds(Kind.FRUITLESS)] == ["rejected"]


def test_the_output_of_another_session_is_not_taken_for_the_one_that_was_asked_for(simulate):
    def push_twice(call, request):
        run.host.on_landing = None
        sibling = re.sub(r"kc1\.[a-z2-7]{26}", "kc1." + "a" * 26, request.source)
        call(replace(request, source=sibling))
        return call(request)

    def of_the_sibling(call, kernel, version):
        return call(kernel, version - 1)

    sibling = Fault("push", push_twice, nth=2)
    mixed_up = Fault("outputs", of_the_sibling, matches=lambda _, version: version == 3)
    run = simulate(faults=[sibling, mixed_up])
    run.watch.one_live = False

    assert run.run().halt_code == "foreign_kernel_version"
    run.retry()
    run.run()

    assert (sibling.fired, mixed_up.fired) == (1, 1)
    assert run.state.phase is Phase.DONE
    check_commits(run)
