"""A lost folder, a stop and a lost connection, through the real command and a local Kaggle."""

import errno
import fcntl
import json
import shutil
import signal

import pytest

from orchestrator.cli.workplace import locked
from orchestrator.emulator.faults import Fault
from orchestrator.errors import ConfigError, NotNow
from tests.running import QUICK, wait_until


def wait_for(reached, process):
    wait_until(lambda: reached() or process.poll() is not None, "what the run is to reach")
    assert reached(), process.communicate()[0]


def sessions(local_kaggle):
    return len(local_kaggle.state()["sessions"])


@pytest.mark.parametrize("keeps_outputs", [True, False])
def test_a_lost_folder_is_rebuilt_and_the_chain_goes_on_without_a_second_session(
    kchain, project_folder, local_kaggle, point_at, keeps_outputs
):
    folder = project_folder(extra=QUICK)
    assert kchain("run", "--sessions", 2, env=point_at).returncode == 0
    before = json.loads(kchain("status", "--json", env=point_at).stdout)
    checkpoint = (folder / "output" / before["head"]["file"]).read_bytes()
    for lost in (".kchain", "output"):
        shutil.rmtree(folder / lost)
    faults = []
    if not keeps_outputs:
        method = "kernels.KernelsApiService/ListKernelSessionOutput"
        faults = [Fault(method, "status", status=404, times=1000)]
    for fault in faults:
        local_kaggle.faults.add(fault)

    done = kchain("recover", "--json", env=point_at)

    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    exact = ("file", "step", "sha256", "manifest_sha256", "dataset_version", "publish")
    assert {key: after["head"][key] for key in exact} == {key: before["head"][key] for key in exact}
    assert (after["head"] == before["head"]) is keeps_outputs
    assert after["sessions_done"] == 2
    assert after["rows"][-1]["checkpoint"] == before["head"]["file"]
    assert (folder / "output" / before["head"]["file"]).read_bytes() == checkpoint
    local_kaggle.faults.clear()
    more = kchain("run", "--sessions", 3, "--json", env=point_at)
    assert json.loads(more.stdout)["sessions_done"] == 3, more.stderr
    assert sessions(local_kaggle) == 3
    again = kchain("recover", env=point_at)
    assert again.returncode == 2
    assert "in use" in again.stderr


def test_a_session_that_runs_is_found_again(
    kchain, project_folder, local_kaggle, controller, point_at
):
    folder = project_folder(extra=QUICK)
    process = controller("run", "--sessions", "2")
    wait_for(lambda: sessions(local_kaggle) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder / ".kchain")

    done = kchain("recover", env=point_at)

    assert done.returncode == 0, done.stderr
    assert "recovered: head is checkpoint_epoch1_step10.pt of session 1" in done.stdout
    more = kchain("run", "--sessions", 2, "--json", env=point_at)
    assert json.loads(more.stdout)["sessions_done"] == 2, more.stderr
    assert sessions(local_kaggle) == 2


def test_a_folder_from_an_older_backup_goes_on_from_where_the_chain_is(
    kchain, project_folder, local_kaggle, point_at, tmp_path
):
    folder = project_folder(extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0
    backup = shutil.copytree(folder / ".kchain", tmp_path / "backup")
    assert kchain("run", "--sessions", 3, env=point_at).returncode == 0
    before = json.loads(kchain("status", "--json", env=point_at).stdout)
    shutil.rmtree(folder / ".kchain")
    shutil.copytree(backup, folder / ".kchain")

    done = kchain("run", "--sessions", 4, env=point_at)

    assert done.returncode == 0, done.stderr
    assert "is further along than this journal, and continues it" in done.stdout
    recovered = f"recovered: head is {before['head']['file']} of session 3, dataset version 3"
    assert recovered in done.stdout
    after = json.loads(kchain("status", "--json", env=point_at).stdout)
    assert (after["sessions_done"], after["head"]["dataset_version"]) == (4, 4)
    assert sessions(local_kaggle) == 4


def test_an_account_without_the_chain_has_nothing_to_recover(kchain, project_folder, point_at):
    project_folder(name="never-run", extra=QUICK)

    done = kchain("recover", env=point_at)

    assert done.returncode == 2
    assert "nothing of chain 'never-run' is on local's account" in done.stderr


def test_a_stop_beside_a_running_controller_ends_it_after_the_session(
    kchain, project_folder, local_kaggle, controller, point_at
):
    project_folder(extra=QUICK)
    process = controller("run", "--sessions", "5")
    wait_for(lambda: sessions(local_kaggle) == 1, process)

    stopped = kchain("stop", "--json")
    output, _ = process.communicate(timeout=60)

    assert json.loads(stopped.stdout)["stop_asked"] is True
    assert process.returncode == 0, output
    assert "stopped as asked, with" in output
    done = sessions(local_kaggle)
    assert done <= 2  # the second push may have been under way
    assert "stop: asked for" in kchain("status").stdout
    tick = kchain("tick", "--sessions", 5, env=point_at)
    assert tick.returncode == 0, tick.stderr
    assert "stopped as asked" in tick.stdout
    assert sessions(local_kaggle) == done
    more = kchain("run", "--sessions", 3, env=point_at)
    assert more.returncode == 0, more.stderr
    assert "a stop was asked for; this run goes on, and withdraws it" in more.stdout
    assert "stop: asked for" not in kchain("status").stdout
    assert json.loads(kchain("status", "--json").stdout)["sessions_done"] == 3


def test_a_stop_says_what_it_can_do_and_is_withdrawn(kchain, project_folder, point_at):
    project_folder(extra=QUICK)
    assert kchain("stop").returncode == 2
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0

    stopped, undone, again = kchain("stop"), kchain("stop", "--undo"), kchain("stop", "--undo")

    assert "it is finished already" in stopped.stdout
    assert "the stop is withdrawn" in undone.stdout
    assert "nothing has changed" in again.stdout
    assert json.loads(kchain("status", "--json").stdout)["stop_asked"] is False


def test_a_run_of_a_bound_chain_waits_until_kaggle_answers_again(
    kchain, project_folder, local_kaggle, point_at
):
    project_folder(extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0
    fault = Fault("GetAcceleratorQuotaStatistics", "status", status=503, times=2)
    local_kaggle.faults.add(fault)

    done = kchain("run", "--sessions", 2, env=point_at)

    assert local_kaggle.faults.fired == [2]
    assert done.returncode == 0, done.stderr


def test_a_run_of_an_unbound_chain_gives_up_at_once(kchain, project_folder, local_kaggle, point_at):
    project_folder(name="unbound", extra=QUICK)
    fault = Fault("GetAcceleratorQuotaStatistics", "status", status=503)
    local_kaggle.faults.add(fault)

    done = kchain("run", env=point_at)

    assert local_kaggle.faults.fired == [1]
    assert done.returncode == 3
    assert "does not answer" in done.stderr


def test_a_refused_credential_ends_a_run_of_a_bound_chain_too(kchain, project_folder, point_at):
    project_folder(extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0

    done = kchain("run", "--sessions", 2, env={**point_at, "KAGGLE_API_TOKEN": "KGAT_another"})

    assert done.returncode == 2
    assert "refused the credential" in done.stderr


def test_a_state_folder_that_is_locked_already_is_left_alone(tmp_path):
    with locked(tmp_path), pytest.raises(NotNow, match="another kchain"), locked(tmp_path):
        raise AssertionError("it was locked twice")


def test_a_lock_that_would_outlive_its_process_is_refused(tmp_path, monkeypatch):
    def no_locks(_descriptor, _operation):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    with (
        pytest.warns(UserWarning, match="flock not supported"),
        pytest.raises(ConfigError, match="without locks"),
        locked(tmp_path),
    ):
        raise AssertionError("it was locked")


def test_the_lock_of_a_killed_controller_is_free_at_once(
    kchain, project_folder, local_kaggle, controller, point_at
):
    project_folder(extra=QUICK)
    process = controller("run", "--sessions", "3")
    wait_for(lambda: sessions(local_kaggle) == 1, process)

    beside = [kchain(command, env=point_at) for command in ("tick", "run", "recover")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = kchain("run", "--sessions", 3, env=point_at)

    assert [done.returncode for done in beside] == [3, 3, 3]
    assert all("another kchain is working" in done.stderr for done in beside)
    assert after.returncode == 0, after.stderr


def test_a_run_that_only_found_that_its_journal_was_lost_is_in_nobodys_way(
    kchain, project_folder, local_kaggle, point_at
):
    folder = project_folder(extra=QUICK)
    assert kchain("run", "--sessions", 2, env=point_at).returncode == 0
    before = json.loads(kchain("status", "--json", env=point_at).stdout)
    shutil.rmtree(folder / ".kchain")

    halted = kchain("run", "--sessions", 3, env=point_at)
    (journal,) = (folder / ".kchain").glob("*/journal.db")
    content = journal.read_bytes()
    done = kchain("recover", env=point_at)

    assert halted.returncode == 4
    assert "`kchain recover` keeps it as journal.db.old" in halted.stderr
    assert done.returncode == 0, done.stderr
    assert "the journal here is kept as journal.db.old" in done.stdout
    assert journal.with_name("journal.db.old").read_bytes() == content
    after = json.loads(kchain("status", "--json", env=point_at).stdout)
    assert after["head"] == before["head"]
    more = kchain("run", "--sessions", 3, "--json", env=point_at)
    assert json.loads(more.stdout)["sessions_done"] == 3, more.stderr
    assert sessions(local_kaggle) == 3


def test_a_file_of_the_users_own_is_not_set_aside_in_silence(kchain, project_folder, point_at):
    folder = project_folder(extra=QUICK)
    (folder / "output").mkdir()
    (folder / "output" / "training_history.json").write_text("mine")

    done = kchain("run", "--sessions", 1, env=point_at)

    said = "your own training_history.json in the output folder is kept as training_history.json"
    assert f"{said}.yours" in done.stdout, done.stderr
    assert (folder / "output" / "training_history.json.yours").read_text() == "mine"
