"""The checks themselves: each notices what it is there for."""

import os
import re
import shutil
from dataclasses import replace

import pytest

from orchestrator.emulator.records import Draft
from orchestrator.kaggle.port import PublishRequest, PushRequest
from orchestrator.machine import Kind, Push, State
from tests.simulation.chain import DATASET, KERNEL, Act
from tests.simulation.faults import Fault, lost_request
from tests.simulation.host import NEIGHBOUR, NEIGHBOURS_DATASET
from tests.simulation.invariants import Violation
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_commits, check_reached


def _remove_checkpoints(folder):
    for path in folder.glob("*.pt"):
        path.unlink()


def _pushed_twice(call, request):
    call(request)
    return call(request)


def test_a_token_that_landed_twice_is_noticed(simulate):
    fault = Fault("push", _pushed_twice, nth=2)
    run = simulate(faults=[fault])
    run.watch.one_live = False

    run.run()

    assert fault.fired == 1
    with pytest.raises(AssertionError, match="a token landed twice"):
        check_always(run)


def test_two_live_sessions_are_noticed(simulate):
    def beside_another(call, request):
        other = re.sub(r"kc1\.[a-z2-7]{26}", "kc1." + "a" * 26, request.source)
        call(replace(request, source=other))
        return call(request)

    fault = Fault("push", beside_another, nth=2)
    run = simulate(faults=[fault])
    run.host.on_landing = None
    run.watch.one_live = False

    run.run()

    assert fault.fired == 1
    with pytest.raises(AssertionError, match="two sessions were live at once"):
        check_always(run)


def test_a_second_complete_version_of_a_head_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()
    run.clock.sleep(3600)
    run.host.on_landing = None
    head = run.state.head.checkpoint
    files = (*head.publish, "manifest.json")
    folder = run.store / head.manifest_sha256
    notes = run.host.versions(DATASET)[0].token
    run.kaggle.publish_version(PublishRequest(DATASET, DATASET, folder, files, notes))

    with pytest.raises(AssertionError):
        check_commits(run)


def test_a_push_that_no_journal_announced_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()

    source = run.kaggle.kernel(KERNEL).source
    request = PushRequest(KERNEL, KERNEL, source, (), None, False, 3600)

    with pytest.raises(AssertionError, match="a push landed in done"):
        run.kaggle.push(request)


def test_a_lost_local_copy_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()
    head = run.state.head.checkpoint
    (run.store / head.manifest_sha256 / head.file).write_bytes(b"")

    with pytest.raises(AssertionError):
        run.run()


def test_an_older_checkpoint_that_disappeared_is_noticed(simulate):
    run = simulate(sessions=2)
    run.run()
    newest = run.state.head.checkpoint.manifest_sha256
    [older] = [folder for folder in run.store.iterdir() if folder.name != newest]
    shutil.rmtree(older)
    run.want(3)

    with pytest.raises(Violation, match="I7"):
        run.run()


def test_a_copy_that_was_damaged_in_place_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()
    head = run.state.head.checkpoint
    copy = run.store / head.manifest_sha256 / head.file
    told = copy.stat()
    copy.write_bytes(b"q" + copy.read_bytes()[1:])
    os.utime(copy, ns=(told.st_atime_ns, told.st_mtime_ns))
    run.want(2)

    with pytest.raises(Violation, match="I4"):
        run.run()


def test_a_training_that_started_over_is_noticed(simulate):
    run = simulate(sessions=2, scripts={2: Script(forgets=True)})

    run.run()

    with pytest.raises(AssertionError, match="the training did not continue exactly"):
        check_reached(run, sessions=2)


def test_a_change_to_somebody_elses_dataset_is_noticed(simulate):
    def elsewhere_too(call, request):
        call(replace(request, dataset="somebody-elses"))
        return call(request)

    fault = Fault("create_dataset", elsewhere_too)
    run = simulate(faults=[fault])

    with pytest.raises(Violation, match="I9: somebody-elses was to be changed"):
        run.run()


def test_a_push_to_somebody_elses_kernel_is_noticed(simulate):
    fault = Fault("push", lambda call, request: call(replace(request, kernel=NEIGHBOUR)))
    run = simulate(faults=[fault])

    with pytest.raises(Violation, match=f"I9: {NEIGHBOUR} was to be changed"):
        run.run()


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.host.push_by_hand(NEIGHBOUR),
        lambda run: run.host.publish_by_hand(NEIGHBOURS_DATASET, {"notes.txt": b"mine"}),
        lambda run: run.host.damage(NEIGHBOURS_DATASET, ".pt", lambda data: data[:-1]),
    ],
)
def test_a_neighbour_that_changed_is_noticed_at_the_end(simulate, change):
    run = simulate(sessions=1)
    run.run()
    change(run)

    with pytest.raises(Violation, match="I9: a neighbour's"):
        check_always(run)


@pytest.mark.parametrize("name", ["manifest.json", "latest_checkpoint.txt"])
def test_a_publication_that_lacks_a_file_is_noticed_as_it_lands(simulate, name):
    def lacking(call, request):
        return call(replace(request, files=tuple(n for n in request.files if n != name)))

    run = simulate(faults=[Fault("publish_version", lacking)])

    with pytest.raises(Violation, match="I5: published"):
        run.run()


def test_a_version_of_a_checkpoint_that_nobody_verified_is_noticed_at_the_end(simulate):
    run = simulate(sessions=1)
    run.run()
    run.host.on_landing = None
    run.host.publish(DATASET, "kc1." + "a" * 26, {"manifest.json": b"{}"})

    with pytest.raises(Violation, match="I5: a version of a checkpoint that nobody verified"):
        check_commits(run)


def test_a_pending_checkpoint_that_was_published_twice_is_noticed(simulate):
    fault = Fault("create_dataset", lost_request)
    run = simulate(sessions=1, faults=[fault], chain={"max_attempts": 1})
    run.run()
    assert run.state.halt_code == "unknown_publications"
    pending = run.state.pending
    folder = run.store / pending.manifest_sha256
    contents = {name: (folder / name).read_bytes() for name in (*pending.publish, "manifest.json")}
    token = run.kinds(Kind.PUBLISH_INTENT)[0].data["token"]
    run.host.on_landing = None
    run.host.create(Draft("local", DATASET, DATASET, description=token), contents)
    check_commits(run)
    run.clock.sleep(3600)
    run.host.publish(DATASET, token, contents)
    run.clock.sleep(3600)

    with pytest.raises(Violation, match="I2"):
        check_commits(run)


def test_a_head_that_the_user_does_not_hold_is_noticed(simulate):
    run = simulate(sessions=1)
    deliver = run._files.deliver
    run._files.deliver = lambda *args: [deliver(*args), _remove_checkpoints(run.output)]

    with pytest.raises(Violation, match="I4: the user's folder"):
        run.run()


def test_an_older_checkpoint_that_was_cut_short_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()
    older = run.state.head.checkpoint
    copy = run.store / older.manifest_sha256 / older.file
    run.want(3)
    run.plan.acts = [
        Act(lambda state: state.heads == 2, lambda _run: copy.write_bytes(copy.read_bytes()[:-1]))
    ]

    with pytest.raises(Violation, match=r"I7: .* has another size"):
        run.run()


def test_an_older_checkpoint_that_was_changed_in_place_is_noticed_at_the_end(simulate):
    run = simulate(sessions=1)
    run.run()
    older = run.state.head.checkpoint
    copy = run.store / older.manifest_sha256 / older.file
    run.want(2)
    run.run()
    copy.write_bytes(b"q" + copy.read_bytes()[1:])

    with pytest.raises(Violation, match=r"I7: .* has changed"):
        check_always(run)


@pytest.mark.parametrize(
    ("state", "seconds"), [(State(), 2 * 600.0), (State(wait_reason="retry"), 7 * 86_400.0)]
)
def test_a_wait_that_is_too_long_for_its_reason_is_noticed(simulate, state, seconds):
    run = simulate(sessions=1)

    with pytest.raises(Violation, match="I12: a wait too long"):
        run.watch.on_tick(run.clock.now() + seconds, state)


def test_a_checkpoint_that_is_not_what_the_session_left_is_noticed(simulate):
    run = simulate(sessions=1)
    run.run()
    state = replace(run.state, pending=replace(run.state.head.checkpoint, sha256="0" * 64))
    push = Push("kc1.x", 0, 3600, version=1)

    with pytest.raises(Violation, match="I4: the session's output"):
        run.watch._on_verified(run.events[-1], replace(state, push=push))
