"""A whole chain through the real command, the official client and a local Kaggle over HTTP."""

import json
import signal
import time

import pytest

from orchestrator.emulator.faults import Fault
from tests.running import QUICK, count_events, wait_until


def test_three_sessions_chain_and_running_again_adds_none(
    kchain, project_folder, local_kaggle, point_at
):
    folder = project_folder(extra=QUICK)

    first = kchain("run", "--sessions", 3, "--json", env=point_at)
    again = kchain("run", "--sessions", 3, "--json", env=point_at)
    more = kchain("run", "--sessions", 4, "--json", env=point_at)

    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert [(row["first_step"], row["last_step"]) for row in report["rows"]] == [
        (0, 10),
        (10, 20),
        (20, 30),
    ]
    assert [row["dataset_version"] for row in report["rows"]] == [1, 2, 3]
    assert json.loads(again.stdout)["rows"] == report["rows"]
    assert json.loads(more.stdout)["sessions_done"] == 4
    assert (folder / "output" / "checkpoint_epoch1_step40.pt").exists()
    assert not (folder / "output" / "checkpoint_epoch1_step30.pt").exists()
    assert "resuming from checkpoint_epoch1_step10.pt (sha256 " in first.stderr


def test_ticks_alone_carry_a_chain(kchain, project_folder, local_kaggle, point_at):
    project_folder(extra=QUICK)
    codes = []

    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        done = kchain("tick", "--sessions", 3, env=point_at)
        codes.append(done.returncode)
        assert done.returncode in (0, 3), done.stderr
        if done.returncode == 0:
            break

    assert codes[-1] == 0
    assert 3 in codes
    status = json.loads(kchain("status", "--json", env=point_at).stdout)
    assert status["sessions_done"] == 3
    assert status["finished"] == "all 3 sessions are done"


def test_a_killed_run_goes_on_and_starts_nothing_twice(project_folder, local_kaggle, controller):
    folder = project_folder(extra=QUICK)
    journal = folder / ".kchain" / "demo" / "journal.db"
    kills = 0

    for stop_at in (3, 4, 6, 8, 10, 12, 15, 20, 10_000):
        # Kills in a row before anything is sent count as attempts; nobody kills so often.
        process = controller("run", "--sessions", "3", KCHAIN_CHAIN_MAX_ATTEMPTS="10")
        if wait_for_events(journal, stop_at, process):
            process.send_signal(signal.SIGKILL)
            kills += 1
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0, output
    assert kills >= 8
    assert_exactly_three_sessions(local_kaggle)


def test_an_interrupted_run_says_how_to_go_on(project_folder, controller):
    folder = project_folder(extra=QUICK)
    journal = folder / ".kchain" / "demo" / "journal.db"

    process = controller("run", "--sessions", "3")
    assert wait_for_events(journal, 4, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "run the same command again" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("method", ["SaveKernel", "CreateDataset", "CreateDatasetVersion"])
def test_a_lost_answer_is_found_on_kaggle_again(
    kchain, project_folder, local_kaggle, point_at, method
):
    project_folder(extra=QUICK)
    service = (
        "kernels.KernelsApiService" if method == "SaveKernel" else "datasets.DatasetApiService"
    )
    lost = Fault(f"{service}/{method}", "reset_after")
    local_kaggle.faults.add(lost)

    done = kchain("run", "--sessions", 3, "--json", env=point_at)

    assert done.returncode == 0, done.stderr
    assert local_kaggle.faults.fired == [1]
    assert "no clear answer" in done.stderr
    assert_exactly_three_sessions(local_kaggle)


def wait_for_events(journal, count, process):
    """Wait until the journal holds so many events; False if the process ended before."""
    has_ended = lambda: process.poll() is not None  # noqa: E731
    wait_until(lambda: has_ended() or count_events(journal) >= count, f"event {count}")
    return not has_ended()


def assert_exactly_three_sessions(local_kaggle):
    truth = local_kaggle.state()
    assert len(truth["sessions"]) == 3
    (dataset,) = truth["datasets"]
    assert len(dataset["versions"]) == 3
