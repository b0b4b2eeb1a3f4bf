"""Dataset versions that are slow, broken or unpacked."""

from dataclasses import replace

import pytest

from orchestrator.kaggle.port import Refused, Trouble
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET
from tests.simulation.faults import (
    Fault,
    answering,
    lost_request,
    publishing_damaged,
    publishing_in_vain,
    publishing_slowly,
    without_file,
)
from tests.simulation.host import PLATFORM
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


def test_a_publication_waits_until_there_is_storage_again(simulate):
    full = answering(Refused(Trouble.QUOTA, "exceeds your remaining private storage quota"))
    faults = [Fault(verb, full, times=3) for verb in ("create_dataset", "publish_version")]
    run = simulate(faults=faults)

    run.run()

    assert [fault.fired for fault in faults] == [3, 3]
    check_reached(run, sessions=3)
    assert [event.data["trouble"] for event in run.kinds(Kind.PUBLISH_REFUSED)] == ["quota"] * 6
    assert len(run.host.versions(DATASET)) == 3


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

    for number in (1, 2):
        assert run.run().halt_code == "unknown_publications"
        assert fault.fired == number * run.settings.chain.max_attempts
        run.retry()
    fault.times = 0
    run.run()

    check_reached(run, sessions=3)


def test_publications_that_were_lost_now_and_then_do_not_add_up(simulate):
    lost = Fault("publish_version", lost_request, times=4)
    vain = Fault("publish_version", publishing_in_vain(), nth=3)
    lost.matches = lambda _: lost.seen != 2 or vain.fired
    run = simulate(faults=[lost, vain])

    run.run()

    assert (lost.fired, vain.fired) == (4, 1)
    check_reached(run, sessions=3)


@pytest.mark.parametrize("times", [2, 3])
def test_kills_before_a_publication_leaves_are_no_version_that_holds_something_else(
    simulate, times
):
    def dies(number, moment):
        is_sent = run.effects.names[number] == "journal.append publish_sent"
        return (is_sent, moment, len(run.effects.fired) < times) == (True, "after", True)

    run = simulate()
    run.effects._kills = dies

    state = run.run()

    assert len(run.effects.fired) == times
    if times == run.settings.chain.max_attempts:
        assert state.halt_code == "unknown_publications"
        assert "killed before it sent them" in state.halt_message
        check_always(run)
        run.retry()
        run.run()
    assert run.kinds(Kind.PUBLISH_INCOMPLETE) == []
    check_reached(run, sessions=3)
