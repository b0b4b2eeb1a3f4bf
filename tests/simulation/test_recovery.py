"""The journal is rebuilt from what Kaggle holds, and the chain goes on."""

import json
from dataclasses import replace

import pytest

from orchestrator.emulator.records import Push
from orchestrator.errors import ConfigError
from orchestrator.kaggle.port import Gone
from orchestrator.machine import Kind, Phase
from tests.simulation.chain import DATASET, KERNEL, Act, live_in_session
from tests.simulation.faults import (
    Fault,
    answering,
    garbling,
    lost_answer,
    lost_request,
    publishing_in_vain,
    publishing_slowly,
    unreadable,
    without_file,
)
from tests.simulation.host import PLATFORM
from tests.simulation.laptops import lose_and_recover
from tests.simulation.session import Script
from tests.simulation.truth import check_heads, check_reached

HOUR = 3600.0


def test_a_session_that_runs_is_watched_again_at_once(simulate):
    lost = Act(when=lambda state: state.push and state.push.running_age, do=lose_and_recover)
    run = simulate(acts=[lost])

    run.run()

    assert lost.fired == 1
    check_reached(run, sessions=3)
    assert run.events[1].kind is Kind.RECOVERED_LIVE
    assert run.events[1].age < 60


def test_a_push_that_was_sent_and_never_arrived_is_repeated_once(simulate):
    lost = Act(
        when=lambda state: state.phase is Phase.PUSH_UNKNOWN and state.heads == 1,
        do=lose_and_recover,
    )
    fault = Fault("push", lost_request, nth=2)
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 1)
    check_reached(run, sessions=3)


def test_a_push_that_becomes_visible_late_is_waited_for(simulate):
    lost = Act(
        when=lambda state: state.phase is Phase.PUSH_UNKNOWN and state.heads == 1,
        do=lose_and_recover,
    )
    fault = Fault("push", lost_answer, nth=2)
    late = replace(PLATFORM, kernel_visible_seconds=850.0)
    run = simulate(acts=[lost], faults=[fault], platform=late, script=Script(seconds=3 * HOUR))

    run.run()

    assert (lost.fired, fault.fired) == (1, 1)
    check_reached(run, sessions=3)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("seconds", [10 * 60.0, 3 * HOUR])
def test_a_version_that_was_still_being_processed_is_waited_for(simulate, nth, seconds):
    verb = "create_dataset" if nth == 1 else "publish_version"
    fault = Fault(verb, publishing_slowly(seconds))
    lost = Act(
        when=lambda state: state.publication and state.session == nth,
        do=lose_and_recover,
    )
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 1)
    check_reached(run, sessions=3)


@pytest.mark.parametrize("strike", [without_file("latest_checkpoint.txt"), publishing_in_vain()])
def test_a_newest_version_that_is_unusable_is_superseded(simulate, strike):
    fault = Fault("publish_version", strike)
    lost = Act(
        when=lambda state: state.phase is Phase.PUBLISH_UNKNOWN and state.heads == 1,
        do=lose_and_recover,
    )
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 1)
    check_reached(run, sessions=3)
    assert len(run.host.versions(DATASET)) == 4


def test_a_first_version_that_is_incomplete_is_superseded(simulate):
    fault = Fault("create_dataset", without_file("latest_checkpoint.txt"))
    lost = Act(when=lambda state: state.phase is Phase.PUBLISH_UNKNOWN, do=lose_and_recover)
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 1)
    check_reached(run, sessions=3)


def test_a_head_that_was_accepted_without_its_history_is_found_again(simulate):
    def is_history(file, *_):
        return file.name.endswith("training_history.json")

    fault = Fault("download", garbling(lambda data: b"q"), times=3, matches=is_history)
    lost = Act(when=live_in_session(2), do=lose_and_recover)
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 3)
    check_reached(run, sessions=3)


@pytest.mark.parametrize("heads", [0, 1])
def test_a_version_that_was_published_without_its_history_is_not_published_again(simulate, heads):
    def is_newest_history(file, *_):
        is_it = file.name.endswith("training_history.json")
        return is_it and (run.lost or run.state.heads == heads)

    fault = Fault("download", garbling(lambda data: b"q"), times=6, matches=is_newest_history)
    lost = Act(
        when=lambda state: (state.phase, state.heads) == (Phase.PUBLISH_UNKNOWN, heads),
        do=lose_and_recover,
    )
    run = simulate(acts=[lost], faults=[fault])

    run.run()

    assert (lost.fired, fault.fired) == (1, 6)
    check_reached(run, sessions=3)
    assert len(run.kinds(Kind.PUBLISH_FOUND)) == 1


def test_what_comes_after_a_recovery_is_compared_with_the_recovered_head(simulate):
    lost = Act(when=live_in_session(3), do=lose_and_recover)
    run = simulate(acts=[lost], scripts={3: Script(reshapes=True)})

    run.run()

    assert lost.fired == 1
    check_reached(run, sessions=3, pushes=4)
    assert "the head's is float32 of 33" in run.kinds(Kind.FRUITLESS)[0].data["message"]


def test_a_chain_that_has_published_nothing_is_recovered_from_its_kernel_alone(simulate):
    lost = Act(when=live_in_session(1), do=lose_and_recover)
    run = simulate(acts=[lost])

    run.run()

    assert lost.fired == 1
    assert run.events[1].data["head"] is None
    check_reached(run, sessions=3)


def test_an_attempt_after_a_fruitless_one_keeps_its_number(simulate):
    lost = Act(
        when=lambda state: live_in_session(2)(state) and state.attempt == 2, do=lose_and_recover
    )
    run = simulate(acts=[lost], scripts={2: Script(saves=False)})

    run.run()

    assert lost.fired == 1
    assert run.events[1].data["attempt"] == 2
    check_reached(run, sessions=3, pushes=4)


def test_a_finished_chain_is_recovered_and_adds_nothing(simulate):
    run = simulate(scripts={2: Script(training_complete=True)})
    run.run()

    before, after = lose_and_recover(run)

    assert after.head == before.head
    run.run()
    check_reached(run, sessions=2)
    assert run.state.finish_reason == "training is complete"


@pytest.mark.parametrize("unpacked", [True, False])
def test_the_head_comes_from_its_sessions_output_or_from_its_dataset(simulate, unpacked):
    run = simulate(platform=replace(PLATFORM, unpack_checkpoints=unpacked))
    run.run()
    verb, nothing = ("dataset_address", Gone("gone")) if unpacked else ("outputs", Gone("deleted"))
    fault = Fault(verb, answering(nothing), times=10**6)
    run.plan.faults = [fault]

    before, after = lose_and_recover(run)

    assert after.head.checkpoint.as_parent() == before.head.checkpoint.as_parent()
    assert fault.fired or unpacked


def test_a_damaged_download_is_fetched_anew(simulate):
    run = simulate()
    run.run()
    fault = Fault("download", garbling(lambda data: b"q" + data[1:]), times=2)
    run.plan.faults = [fault]

    before, after = lose_and_recover(run)

    assert fault.fired == 2
    assert after.head == before.head


@pytest.mark.parametrize(
    "verb",
    [
        "identity",
        "kernel",
        "dataset",
        "dataset_file",
        "dataset_files",
        "outputs",
        "download",
        "session",
    ],
)
def test_a_read_that_fails_is_asked_again(simulate, verb):
    run = simulate()
    run.run()
    fault = Fault(verb, unreadable, nth=2 if verb == "identity" else 1, times=7)
    run.plan.faults = [fault]

    before, after = lose_and_recover(run)

    assert fault.fired
    assert after.head == before.head


def test_a_head_that_is_nowhere_whole_halts_and_is_found_when_it_is_mended(simulate):
    run = simulate()
    run.run()
    faults = [
        Fault("outputs", answering(Gone("deleted")), times=10**6),
        Fault("dataset_address", answering(Gone("deleted")), times=10**6),
    ]
    run.plan.faults = faults

    before, after = lose_and_recover(run)

    assert after.halt_code == "lost_checkpoint"
    run.plan.faults = []
    run.retry()
    run.run()
    assert run.state.head == before.head
    check_reached(run, sessions=3)


def test_a_session_that_continues_a_checkpoint_that_is_gone_halts_the_recovery(simulate):
    run = simulate()
    while not live_in_session(3)(run.state):
        run.clock.sleep(run.tick() - run.clock.now())
    run.lose_the_laptop()
    gone = Fault(
        "dataset_file",
        answering(Gone("deleted")),
        matches=lambda _dataset, version, *_: version == 2,
        times=10**6,
    )
    run.plan.faults = [gone]

    run.recover()
    check_heads(run)
    assert run.state.halt_code == "broken_lineage"
    assert gone.fired
    run.plan.faults = []
    run.retry()
    run.run()
    check_reached(run, sessions=3)


@pytest.mark.parametrize("heads", [0, 1])
def test_an_older_journal_that_was_restored_adopts_what_was_published_since(simulate, heads):
    run = simulate(sessions=2)
    path = run.folder / "state" / "journal.db"
    while (run.state.phase, run.state.heads) != (Phase.PUBLISH_UNKNOWN, heads):
        if run.state.phase is Phase.LIVE:
            backup = path.read_bytes()
        run.clock.sleep(run.tick() - run.clock.now())
    run.clock.sleep(HOUR)
    path.write_bytes(backup)
    run._start_controller()
    assert run.state.phase is Phase.LIVE

    run.run()

    check_reached(run, sessions=2)
    assert len(run.kinds(Kind.PUBLISH_FOUND)) == 1


def test_an_old_checkpoint_that_somebody_published_again_is_not_taken_for_the_head(simulate):
    run = simulate(sessions=2)
    run.run()
    run.clock.sleep(HOUR)
    run.host.publish_by_hand(DATASET, run.host.versions(DATASET)[0].files)
    run.clock.sleep(HOUR)

    before, after = lose_and_recover(run)

    assert after.head == before.head
    run.want(3)
    assert run.run().halt_code == "foreign_dataset_version"


def test_a_checkpoint_of_another_lineage_is_not_taken_for_the_head(simulate):
    run = simulate(sessions=2)
    other = simulate(sessions=3, seed=7)
    for each in (run, other):
        each.run()
        each.clock.sleep(HOUR)
    run.host.publish_by_hand(DATASET, other.host.versions(DATASET)[2].files)
    run.clock.sleep(HOUR)

    before, after = lose_and_recover(run)

    assert after.head == before.head


def test_a_manifest_that_says_other_things_than_its_session_was_told_is_not_believed(simulate):
    run = simulate(sessions=2)
    run.run()
    run.clock.sleep(HOUR)
    files = dict(run.host.versions(DATASET)[1].files)
    manifest = json.loads(files["manifest.json"]) | {"attempt": 9}
    files["manifest.json"] = json.dumps(manifest).encode()
    run.host.publish_by_hand(DATASET, files)
    run.clock.sleep(HOUR)

    before, after = lose_and_recover(run)

    assert after.head == before.head


def test_a_token_from_outside_that_names_another_folder_costs_no_checkpoint(simulate):
    run, longer = simulate(sessions=2), simulate(sessions=3)
    for each in (run, longer):
        each.run()
        each.clock.sleep(HOUR)
    before = run.state
    files = dict(longer.host.versions(DATASET)[2].files)
    manifest = json.loads(files["manifest.json"])
    assert manifest["parent"] == before.head.checkpoint.as_parent().to_body()
    kept = sorted(path.name for path in run.store.iterdir())
    other = next(name for name in kept if name != before.head.checkpoint.manifest_sha256)
    manifest["token"] = f"../store/{other}"
    run.host.publish_by_hand(DATASET, files | {"manifest.json": json.dumps(manifest).encode()})
    run.clock.sleep(HOUR)
    (run.folder / "state" / "journal.db").unlink()
    run.lost.append(run.events)
    run._start_controller()

    after = run.recover()

    assert after.head == before.head
    assert sorted(path.name for path in run.store.iterdir()) == kept


def test_a_session_of_another_chain_at_the_same_address_is_not_taken_for_ours(simulate):
    run = simulate(sessions=2)
    run.run()
    source = run.kaggle.kernel(KERNEL).source
    other = source.replace('\\"chain\\": \\"sim\\"', '\\"chain\\": \\"other\\"')
    assert other != source
    run.host.on_landing = None
    run.host.save(Push("local", KERNEL, KERNEL, other, kernel_type="notebook"))
    run.clock.sleep(HOUR)

    before, after = lose_and_recover(run)

    assert (after.head, after.kernel_version) == (before.head, before.kernel_version)


@pytest.mark.parametrize("damaged", [True, False])
def test_a_lost_journal_beside_its_checkpoints_needs_no_download(simulate, damaged):
    run = simulate(sessions=1)
    before = run.run()
    head = before.head.checkpoint
    if damaged:
        (run.store / head.manifest_sha256 / head.file).write_bytes(b"")
    (run.folder / "state" / "journal.db").unlink()
    run.lost.append(run.events)
    run._start_controller()
    fault = Fault("download", unreadable, times=10**6)
    run.plan.faults = [fault]
    run.watch.check_local_copy = lambda _state: None

    after = run.recover()

    assert fault.fired == 0
    assert after.halt_code == ("lost_checkpoint" if damaged else None)
    assert damaged or after.head == before.head


def test_a_person_who_pushed_on_top_is_noticed_after_the_recovery_too(simulate):
    run = simulate(sessions=2)
    run.run()
    run.host.push_by_hand(KERNEL)
    run.clock.sleep(HOUR)

    before, after = lose_and_recover(run)

    assert after.head == before.head
    run.want(3)
    assert run.run().halt_code == "foreign_kernel_version"


def test_nothing_on_kaggle_is_changed(simulate):
    run = simulate()
    run.run()
    pushes, versions = run.host.pushes(KERNEL), run.host.versions(DATASET)

    lose_and_recover(run)

    assert (run.host.pushes(KERNEL), run.host.versions(DATASET)) == (pushes, versions)


def test_an_account_without_the_chain_is_refused_and_nothing_is_bound(simulate):
    run = simulate()

    with pytest.raises(ConfigError, match="nothing of chain 'sim' is on local's account"):
        run.recover()

    assert run.events == ()


def test_a_kernel_of_the_same_name_that_is_not_the_chains_is_nothing_to_recover(simulate):
    run = simulate()
    run.host.push_by_hand(KERNEL)
    run.clock.sleep(HOUR)

    with pytest.raises(ConfigError, match="nothing of chain"):
        run.recover()
