"""What somebody else does to a chain: versions of theirs, made public, deleted."""

from dataclasses import replace

import pytest

from orchestrator.emulator.records import Draft, Twist
from orchestrator.kaggle.port import Gone, Trouble, Unreadable
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, Act, live_in_session
from tests.simulation.faults import Fault, answering, changing, lost_request
from tests.simulation.host import OWNER
from tests.simulation.truth import check_always, check_reached

HOUR = 3600.0


@pytest.mark.parametrize("verb", ["dataset", "kernel"])
def test_a_read_that_is_behind_is_no_reason_to_halt(simulate, verb):
    def behind(call, *args):
        return replace(call(*args), current_version=1)

    fault = Fault(
        verb,
        behind,
        times=2,
        matches=lambda *_: run.state.phase is Phase.PUSHING and run.state.heads == 2,
    )
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 2
    check_reached(run, sessions=3)


@pytest.mark.parametrize(
    ("verb", "phase"),
    [("kernel", Phase.PUSHING), ("dataset", Phase.PUSHING), ("dataset", Phase.VERIFIED)],
)
def test_a_chain_halts_when_something_of_it_went_public(simulate, verb, phase):
    def when(*_args):
        return (run.state.phase, run.state.heads) == (phase, 1)

    fault = Fault(verb, changing(is_private=False), matches=when)
    run = simulate(faults=[fault])

    assert run.run().halt_code == "public"
    assert fault.fired == 1
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3)


@pytest.mark.parametrize(
    ("verb", "phase", "planned"),
    [
        ("kernel", Phase.PUSHING, None),
        ("dataset", Phase.PUSHING, None),
        ("kernel", Phase.PUSH_UNKNOWN, Fault("push", lost_request, nth=2)),
        ("dataset", Phase.VERIFIED, None),
        ("dataset", Phase.PUBLISH_UNKNOWN, None),
        ("dataset", Phase.PUBLISHED, None),
    ],
)
def test_a_chain_halts_when_something_of_it_is_gone(simulate, verb, phase, planned):
    def when(*_args):
        return (run.state.phase, run.state.heads) == (phase, 1)

    gone = Fault(verb, answering(Gone("Not found")), times=1_000, matches=when)
    run = simulate(faults=[gone, *([replace(planned)] if planned else ())])

    assert run.run().halt_code == "missing"
    assert "not on Kaggle any more" in run.state.halt_message
    waits = [event for event in run.kinds(Kind.WAITING) if event.data["reason"] == "missing"]
    assert len(waits) == 1
    assert 6 * HOUR < run.events[-1].age - waits[0].age < 7 * HOUR
    check_always(run)
    gone.times = 0
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_reads_that_fail_in_between_do_not_add_up_to_something_gone(simulate):
    def when(*_args):
        return (run.state.phase, run.state.heads) == (Phase.PUSHING, 1)

    def now_and_then(_call, *_args):
        return Gone("Not found") if fault.fired % 4 else Unreadable(Trouble.NETWORK, "no answer")

    fault = Fault("dataset", now_and_then, times=400, matches=when)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 400
    check_reached(run, sessions=3)


def test_a_chain_halts_at_a_foreign_dataset_version_until_the_head_is_the_newest(simulate):
    def intrude(call, *args):
        run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
        run.clock.advance(HOUR)
        return call(*args)

    before_the_third = lambda *_: (run.state.phase, run.state.heads) == (Phase.PUSHING, 2)  # noqa: E731
    fault = Fault("kernel", intrude, matches=before_the_third)
    run = simulate(faults=[fault])

    for _ in range(2):
        assert run.run().halt_code == "foreign_dataset_version"
        run.retry()
    assert fault.fired == 1
    check_always(run)
    head = run.store / run.state.head.checkpoint.manifest_sha256
    names = [*run.state.head.checkpoint.publish, "manifest.json"]
    run.host.publish_by_hand(DATASET, {name: (head / name).read_bytes() for name in names})
    run.clock.sleep(HOUR)
    run.run()

    check_reached(run, sessions=3)


def test_the_head_that_somebody_published_again_is_waited_for_until_it_can_be_mounted(simulate):
    def publish_again(run):
        head = run.state.head.checkpoint
        files = {name: (run.store / head.manifest_sha256 / name).read_bytes() for name in again}
        publish = lambda request: run.host.publish_by_hand(DATASET, request)  # noqa: E731
        run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
        run.clock.advance(HOUR)
        run.host.publish_slowly(publish, files, 3 * HOUR)
        run.clock.advance(600.0)

    def intrude(call, *args):
        publish_again(run)
        return call(*args)

    def shown(_call, _dataset, version, name, _limit):
        return run.host.versions(DATASET)[version - 1].files[name]

    again = ["checkpoint_epoch1_step20.pt", "manifest.json"]
    before_the_third = lambda *_: (run.state.phase, run.state.heads) == (Phase.PUSHING, 2)  # noqa: E731
    fault = Fault("kernel", intrude, matches=before_the_third)
    early = Fault("dataset_file", shown, times=100, matches=before_the_third)
    run = simulate(faults=[fault, early])

    run.run()

    assert fault.fired == 1
    assert early.fired
    assert "processing" in [event.data["reason"] for event in run.kinds(Kind.WAITING)]
    check_reached(run, sessions=3)


def test_a_dataset_that_somebody_else_made_is_left_alone_until_told_otherwise(simulate):
    draft = Draft(OWNER, DATASET, DATASET, description="mine")
    made = Act(live_in_session(1), lambda run: run.host.create(draft, {"a.bin": b"a"}))
    run = simulate(acts=[made])
    run.host.on_landing, checked = None, run.host.on_landing

    assert run.run().halt_code == "foreign_dataset"
    assert made.fired == 1
    assert len(run.host.versions(DATASET)) == 1
    run.host.on_landing = checked
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_a_foreign_dataset_version_during_a_session_is_superseded(simulate):
    intruder = Act(
        live_in_session(2), lambda run: run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
    )
    run = simulate(acts=[intruder])

    run.run()

    assert intruder.fired == 1
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]


def test_a_foreign_version_that_is_stuck_halts_the_chain_until_another_one_follows(simulate):
    def overtaken(call, request):
        run.host.twist = lambda _operation: Twist.STICK_PROCESSING
        run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
        run.host.twist = lambda _operation: None
        return lost_request(call, request)

    fault = Fault("publish_version", overtaken)
    run = simulate(faults=[fault])

    for _ in range(2):
        assert run.run().halt_code == "stuck_dataset"
        run.retry()
    assert fault.fired == 1
    assert "add any version to it by hand" in run.kinds(Kind.HALTED)[0].data["message"]
    run.host.publish_by_hand(DATASET, {"b.bin": b"b"})
    run.clock.sleep(HOUR)
    run.run()

    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 4, 5]


def test_a_version_that_failed_behind_somebody_elses_is_published_again(simulate):
    def overtaken(call, request):
        run.host.twist = lambda _operation: Twist.FAIL_PROCESSING
        answer = call(request)
        run.host.twist = lambda _operation: None
        run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
        return answer

    fault = Fault("publish_version", overtaken)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert "its files have not been there" in run.kinds(Kind.PUBLISH_INCOMPLETE)[0].data["message"]
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 4, 5]


def test_somebody_elses_version_is_not_taken_for_one_whose_answer_was_lost(simulate):
    def overtaken(call, request):
        run.host.publish_by_hand(DATASET, {"a.bin": b"a"})
        return lost_request(call, request)

    fault = Fault("publish_version", overtaken)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert run.kinds(Kind.PUBLISH_INCOMPLETE) == []
    check_reached(run, sessions=3)
    assert [event.data["version"] for event in run.kinds(Kind.HEAD)] == [1, 3, 4]
