"""Dataset versions that are slow, broken, unpacked, foreign or public."""

import pathlib
import shutil
from dataclasses import replace

import pytest

from orchestrator.emulator.records import Draft, Twist
from orchestrator.kaggle.port import Gone, Refused, Trouble, Unreadable
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Act, live_in_session
from tests.simulation.faults import (
    Fault,
    answering,
    changing,
    lost_request,
    publishing_damaged,
    publishing_in_vain,
    publishing_slowly,
    without_file,
)
from tests.simulation.host import OWNER, PLATFORM
from tests.simulation.truth import check_always, check_reached

HOUR = 3600.0


@pytest.mark.parametrize("verb", ["create_dataset", "publish_version"])
def test_a_version_that_is_processed_for_hours_is_waited_for(simulate, verb):
    fault = Fault(verb, publishing_slowly(3 * HOUR))
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert len(run.host.versions(DATASET)) == 3


def test_a_version_that_kaggle_failed_to_process_is_published_again(simulate):
    fault = Fault("publish_version", publishing_in_vain())
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert len(run.kinds(Kind.PUBLISH_INCOMPLETE)) == 1


def test_a_dataset_that_kaggle_failed_to_process_at_its_creation_halts_the_chain(simulate):
    fault = Fault("create_dataset", publishing_in_vain())
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert run.state.phase is Phase.HALTED
    check_always(run)


def test_a_chain_halts_when_publications_keep_failing_and_goes_on_when_told_to(simulate):
    fault = Fault("publish_version", publishing_in_vain(), times=3)
    run = simulate(faults=[fault])

    assert run.run().halt_code == "failing_publications"
    assert fault.fired == 3
    check_always(run)
    run.retry()
    run.run()

    check_reached(run, sessions=3)


@pytest.mark.parametrize("root", ["archive/", ""])
def test_a_checkpoint_that_kaggle_unpacked_counts_as_published(simulate, root):
    def shown(call, *args):
        files = call(*args)
        return {name.replace("archive/", root): size for name, size in files.items()}

    fault = Fault("dataset_files", shown, times=3)
    run = simulate(faults=[fault], platform=replace(PLATFORM, unpack_checkpoints=True))

    run.run()

    assert fault.fired == 3
    check_reached(run, sessions=3)


def test_a_stale_read_before_publishing_again_does_not_double_a_version(simulate):
    fault = Fault("publish_version", without_file("latest_checkpoint.txt"))
    stale = Fault(
        "dataset",
        lambda call, *args: replace(call(*args), current_version=1),
        matches=lambda *_: run.state.phase is Phase.VERIFIED and run.state.failed_publications,
    )
    run = simulate(faults=[fault, stale])

    run.run()

    assert (fault.fired, stale.fired) == (1, 1)
    check_reached(run, sessions=3)


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


def test_a_publication_waits_until_there_is_storage_again(simulate):
    full = answering(Refused(Trouble.QUOTA, "exceeds your remaining private storage quota"))
    faults = [Fault(verb, full, times=3) for verb in ("create_dataset", "publish_version")]
    run = simulate(faults=faults)

    run.run()

    assert [fault.fired for fault in faults] == [3, 3]
    check_reached(run, sessions=3)
    assert [event.data["trouble"] for event in run.kinds(Kind.PUBLISH_REFUSED)] == ["quota"] * 6
    assert len(run.host.versions(DATASET)) == 3


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


@pytest.mark.parametrize("strike", [publishing_slowly(3 * HOUR), publishing_in_vain(3 * HOUR)])
def test_a_version_whose_files_show_before_it_is_ready_is_waited_for(simulate, strike):
    def shown(call, _dataset, version, *name):
        files = run.host.versions(DATASET)[version - 1].files
        return files[name[0]] if name else {path: len(data) for path, data in files.items()}

    slow = Fault("publish_version", strike)
    files = Fault("dataset_files", shown, times=100)
    file = Fault("dataset_file", lambda call, d, v, n, _limit: shown(call, d, v, n), times=100)
    run = simulate(faults=[slow, files, file])

    run.run()

    assert slow.fired == 1
    assert files.fired
    assert file.fired
    check_reached(run, sessions=3)


def test_a_version_whose_manifest_is_not_the_one_published_is_published_again(simulate):
    damaged = publishing_damaged("manifest.json", lambda data: data + b" ")
    fault = Fault("publish_version", damaged)
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    check_reached(run, sessions=3)
    assert len(run.kinds(Kind.PUBLISH_INCOMPLETE)) == 1


def test_a_version_whose_checkpoint_was_cut_short_is_published_again(simulate):
    fault = Fault("publish_version", publishing_damaged(".pt", lambda data: data[:-1]))
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    assert run.state.phase is Phase.DONE


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _tidy_up(path):
    shutil.rmtree(path.parent)


def _damaging(simulate, file, harm, *faults):
    """A chain whose second checkpoint is damaged here after it was verified, before it leaves."""

    def damage(run):
        pending = run.state.pending
        harm(run.store / pending.manifest_sha256 / (file or pending.file))

    act = Act(lambda state: (state.phase, state.heads) == (Phase.VERIFIED, 1), damage)
    busy = Fault("publish_version", answering(Refused(Trouble.BUSY, "denied")))
    run = simulate(faults=[busy, *faults], acts=[act])
    run.watch.check_local_copy = run.watch._check_copies = lambda _state: None
    return run, act


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        (None, _flip),
        (None, _cut),
        (None, pathlib.Path.unlink),
        (None, _tidy_up),
        ("manifest.json", _flip),
        ("manifest.json", pathlib.Path.unlink),
        ("latest_checkpoint.txt", _flip),
    ],
)
def test_a_copy_that_is_damaged_before_it_is_published_is_fetched_anew(simulate, file, harm):
    run, act = _damaging(simulate, file, harm)

    run.run()

    assert act.fired == 1
    assert len(run.kinds(Kind.CHECKPOINT_DAMAGED)) == 1
    check_reached(run, sessions=3)


def test_a_damaged_copy_that_cannot_be_fetched_halts_the_chain_until_it_is_restored(simulate):
    gone = Fault("outputs", answering(()), times=1_000, matches=lambda *_: run.state.is_damaged)
    kept = []

    def harm(path):
        kept.extend([path, path.read_bytes()])
        _flip(path)

    run, act = _damaging(simulate, None, harm, gone)

    assert run.run().halt_code == "damaged_checkpoint"
    assert act.fired == 1
    kept[0].write_bytes(kept[1])
    gone.times = 0
    run.retry()
    run.run()

    check_reached(run, sessions=3)


def test_a_damaged_copy_that_is_nowhere_else_costs_its_session_when_a_person_says_so(simulate):
    gone = Fault("outputs", answering(()), times=1_000)
    gone.matches = lambda _, version: version == 2 and run.kinds(Kind.CHECKPOINT_DAMAGED)
    run, act = _damaging(simulate, None, _flip, gone)

    assert run.run().halt_code == "damaged_checkpoint"
    run.retry()
    run.run()

    assert act.fired == 1
    assert (run.state.phase, run.state.heads) == (Phase.DONE, 3)
    assert len(run.kinds(Kind.FRUITLESS)) == 1
    assert len(run.host.pushes(KERNEL)) == 4


def test_a_version_that_kaggle_failed_to_process_is_noticed_at_once(simulate):
    fault = Fault("publish_version", publishing_in_vain())
    run = simulate(faults=[fault])

    run.run()

    assert fault.fired == 1
    [seen, *_] = [event for event in run.kinds(Kind.PUBLISH_SEEN) if event.data["version"] == 2]
    [incomplete] = run.kinds(Kind.PUBLISH_INCOMPLETE)
    assert incomplete.age - seen.age < HOUR
    check_reached(run, sessions=3)


def test_a_stale_read_of_a_version_that_was_seen_is_not_taken_for_its_state(simulate):
    def behind(call, *args):
        return replace(call(*args), current_version=1, is_ready=True)

    def is_second(*_args):
        return (run.state.phase, run.state.heads) == (Phase.PUBLISHED, 1)

    stale = Fault("dataset", behind, times=3, matches=is_second)
    early = Fault(
        "dataset_files", answering({}), matches=lambda *_: is_second() and stale.fired < 3
    )
    run = simulate(faults=[stale, early])

    run.run()

    assert stale.fired == 3
    assert run.kinds(Kind.PUBLISH_INCOMPLETE) == []
    check_reached(run, sessions=3)


@pytest.mark.parametrize("verb", ["create_dataset", "publish_version"])
def test_a_version_that_kaggle_said_yes_to_is_waited_for_beyond_the_settle_window(simulate, verb):
    def accepted(call, request):
        before.append(run.kaggle.dataset(DATASET))
        answer = call(request)
        landed_at.append(run.clock.true_at)
        return answer

    def hidden(call, *args):
        is_late = run.clock.true_at < landed_at[0] + 2 * run.settings.timing.settle_seconds
        return before[0] if is_late else call(*args)

    before, landed_at = [], []
    late = Fault("dataset", hidden, times=100, matches=lambda *_: landed_at)
    run = simulate(faults=[Fault(verb, accepted), late])

    run.run()

    assert late.fired > 3
    assert run.kinds(Kind.PUBLISH_GIVEN_UP) == []
    check_reached(run, sessions=3)
    assert len(run.host.versions(DATASET)) == 3


def test_publications_that_never_become_visible_are_not_repeated_without_end(simulate):
    fault = Fault("publish_version", lost_request, times=1_000)
    run = simulate(faults=[fault])

    assert run.run().halt_code == "failing_publications"
    assert fault.fired == run.settings.chain.max_attempts
    fault.times = 0
    run.retry()
    run.run()

    check_reached(run, sessions=3)


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
