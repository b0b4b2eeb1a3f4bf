"""A whole chain through the real command, the official client and a local Kaggle over HTTP."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.emulator.faults import Fault
from orchestrator.emulator.server import LocalKaggle, Settings
from tests.crash.place import wait_until

ROOT = Path(__file__).parent.parent
QUICK = """
[timing]
poll_seconds = 0.1
settle_seconds = 1.0
read_gap_seconds = 0.2
grace_seconds = 5.0
retry_seconds = 0.2
"""
SETTINGS = Settings(queue_seconds=0.1, dataset_processing_seconds=0.2, dataset_visible_seconds=0.1)


@pytest.fixture
def local_kaggle(tmp_path):
    with LocalKaggle(tmp_path / "kaggle", settings=SETTINGS) as local:
        yield local
        local.close(kill_sessions=True)


@pytest.fixture
def point_at(local_kaggle):
    return {
        "KCHAIN_KAGGLE_ENDPOINT": local_kaggle.url,
        "KAGGLE_API_TOKEN": local_kaggle.token,
    }


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


def test_a_killed_run_goes_on_and_starts_nothing_twice(project_folder, local_kaggle, point_at):
    folder = project_folder(extra=QUICK)
    journal = folder / ".kchain" / "demo" / "journal.db"
    kills = 0

    for stop_at in (3, 4, 6, 8, 10, 12, 15, 20, 10_000):
        process = start_run(folder, point_at)
        if wait_for_events(journal, stop_at, process):
            process.send_signal(signal.SIGKILL)
            kills += 1
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0, output
    assert kills >= 8
    assert_exactly_three_sessions(local_kaggle)


def test_an_interrupted_run_says_how_to_go_on(project_folder, local_kaggle, point_at):
    folder = project_folder(extra=QUICK)
    journal = folder / ".kchain" / "demo" / "journal.db"

    process = start_run(folder, point_at)
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


def start_run(folder, env):
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run", "--sessions", "3"],
        cwd=folder,
        # Kills in a row before anything is sent count as attempts; nobody kills so often.
        env={**os.environ, **env, "PYTHONPATH": str(ROOT), "KCHAIN_CHAIN_MAX_ATTEMPTS": "10"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_events(journal, count, process):
    """Wait until the journal holds so many events; False if the process ended before."""
    has_ended = lambda: process.poll() is not None  # noqa: E731
    wait_until(lambda: has_ended() or count_events(journal) >= count, f"event {count}")
    return not has_ended()


def count_events(journal):
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM events").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def assert_exactly_three_sessions(local_kaggle):
    truth = local_kaggle.state()
    assert len(truth["sessions"]) == 3
    (dataset,) = truth["datasets"]
    assert len(dataset["versions"]) == 3
