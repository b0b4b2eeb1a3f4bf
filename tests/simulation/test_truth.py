"""The checks themselves: each notices what it is there for."""

import os
import re
import shutil
from dataclasses import replace

import pytest

from orchestrator.kaggle.port import PublishRequest, PushRequest
from tests.simulation.chain import DATASET, KERNEL
from tests.simulation.faults import Fault
from tests.simulation.invariants import Violation
from tests.simulation.session import Script
from tests.simulation.truth import check_always, check_commits, check_reached


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
