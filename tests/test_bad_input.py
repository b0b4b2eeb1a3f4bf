"""What a user can do wrong: one clear line, a documented exit code, and nothing lost."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from filelock import FileLock

from orchestrator.cli.target import TRAIN_PACKAGES
from orchestrator.emulator.server import LocalKaggle
from tests.running import QUICK, ROOT, environment, pointing_at, run, standing


@pytest.fixture(scope="module")
def local_kaggle(tmp_path_factory):
    with standing(tmp_path_factory.mktemp("kaggle")) as local:
        yield local


def assert_one_line(done, code, *fragments):
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("kchain: ")
    for fragment in fragments:
        assert str(fragment) in lines[0]


@pytest.mark.parametrize("command", [["run"], ["tick"], ["status"], ["logs"]])
def test_no_configuration_names_the_command_that_writes_one(kchain, command):
    assert_one_line(kchain(*command), 2, "kchain init")


@pytest.mark.parametrize("sessions", ["0", "-3", "many"])
def test_a_senseless_number_of_sessions_is_refused(kchain, sessions):
    assert_one_line(kchain("run", "--dry-run", "--sessions", sessions), 2, "--sessions", sessions)


def test_an_unknown_command_points_to_the_help(kchain):
    assert_one_line(kchain("runn"), 2, "runn", "--help")


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ('colour = "red"', ["line 3", "colour", "allowed: name, sessions"]),
        ("sesions = 3", ["line 3", "did you mean 'sessions'?"]),
        ("sessions = 0", ["line 3", "chain.sessions = 0", "greater than or equal to 1"]),
        ('sessions = "three"', ["line 3", "'three'", "integer"]),
        ("sessions = ", ["not valid TOML", "line 3"]),
    ],
)
def test_a_faulty_line_is_named_with_its_number(kchain, tmp_path, line, fragments):
    (tmp_path / "kchain.toml").write_text(f'[chain]\nname = "demo"\n{line}\n')

    for command in (["run"], ["status"], ["run", "--dry-run"]):
        assert_one_line(kchain(*command), 2, "kchain.toml", *fragments)


@pytest.mark.parametrize(
    ("table", "fragment"),
    [
        ('[kaggle]\nkernel = "abcd"', "at least 5 characters"),
        (f'[kaggle]\nkernel = "{"a" * 51}"', "at most 50 characters"),
        ('[kaggle]\ndataset = "abcde"', "at least 6 characters"),
        ('[kaggle]\nkernel = "My Kernel"', "lower-case letters and digits"),
        ('[kaggle]\nkernel = "my--kernel"', "lower-case letters and digits"),
        ('[training]\npreset = "gpt5"', "'rehearsal', 'wikitext103' or 'wikitext103-19m'"),
        ("[training]\noverrides = { lerning_rate = 1 }", "learning_rate"),
        ('[kernel]\naccelerator = "NvidiaTeslaP100"', "'NvidiaTeslaT4'"),
        ('[kaggle]\nendpoint = "http://kaggle.example"', "use https"),
    ],
)
def test_what_kaggle_would_refuse_is_refused_before_anything_is_sent(
    kchain, tmp_path, table, fragment
):
    (tmp_path / "kchain.toml").write_text(f'[chain]\nname = "demo"\n{table}\n')

    assert_one_line(kchain("run"), 2, "kchain.toml", fragment)


def test_a_variable_with_a_bad_value_is_named(kchain, project_folder):
    project_folder()

    assert_one_line(
        kchain("run", env={"KCHAIN_CHAIN_SESSIONS": "0"}), 2, "KCHAIN_CHAIN_SESSIONS", "'0'"
    )


def test_no_credential_says_where_to_get_one(kchain, project_folder):
    project_folder()

    assert_one_line(kchain("run"), 2, "no Kaggle credential", "access_token")


def test_a_wrong_credential_is_refused_by_name(kchain, project_folder, point_at):
    project_folder()

    done = kchain("run", env={**point_at, "KAGGLE_API_TOKEN": "KGAT_wrong"})

    assert_one_line(done, 2, "refused the credential from KAGGLE_API_TOKEN")
    assert "KGAT_wrong" not in done.stdout + done.stderr


def test_an_endpoint_that_is_down_means_try_later(kchain, project_folder):
    project_folder()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"KCHAIN_KAGGLE_ENDPOINT": f"http://127.0.0.1:{port}", "KAGGLE_API_TOKEN": "KGAT_x"}

    assert_one_line(kchain("run", env=env), 3, "does not answer", "try again later")


def test_a_port_that_is_taken_is_said(kchain, local_kaggle):
    port = local_kaggle.url.rpartition(":")[2]

    assert_one_line(kchain("local", "serve", "--port", port), 2, f"port {port}", "taken")


def test_a_kernel_over_one_megabyte_is_refused_before_the_push(
    kchain, project_folder, tmp_path, line_template, point_at
):
    template = tmp_path / "large"
    shutil.copytree(line_template, template)
    with (template / "line.py").open("a") as module:
        module.write("# " + "x" * 1_100_000)
    project_folder(name="large", template=template)

    assert_one_line(kchain("run", env=point_at), 2, "1,000,000", "dataset")
    assert_one_line(kchain("run", "--dry-run"), 2, "1,000,000", "dataset")


def test_a_state_folder_that_cannot_be_made_is_said(kchain, project_folder, point_at):
    folder = project_folder(name="unwritable")
    (folder / ".kchain").write_text("a file where a folder should be")

    assert_one_line(kchain("run", env=point_at), 2, ".kchain", "can be written")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_means_try_later_and_goes_on_when_there_is_room(
    kchain, project_folder, point_at
):
    folder = project_folder(name="full", extra=QUICK)
    state = folder / ".kchain"
    state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a file system")
    try:
        (state / "ballast").write_bytes(b"x" * 48 * 1024)
        full = kchain("run", "--sessions", 1, env=point_at)
        (state / "ballast").unlink()
        roomy = kchain("run", "--sessions", 1, env=point_at)
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)

    assert_one_line(full, 3, "room")
    assert roomy.returncode == 0, roomy.stderr


def test_a_script_that_raises_halts_the_chain_with_its_error(kchain, project_folder, point_at):
    project_folder(name="raises", extra=QUICK, overrides="overrides = { seed = 666 }")

    done = kchain("run", env=point_at)
    again = kchain("run", env=point_at)

    assert_one_line(done, 4, "failing_sessions", "session 1", "kchain logs", "--retry")
    assert_one_line(again, 4, "failing_sessions")
    log = kchain("logs", env=point_at)
    assert "the script is broken on purpose" in log.stdout


def test_a_session_without_a_checkpoint_is_fruitless_and_then_halts(
    kchain, project_folder, point_at
):
    project_folder(name="nothing", extra=QUICK, overrides="overrides = { seed = 404 }")

    assert_one_line(kchain("run", env=point_at), 4, "left no checkpoint", "--retry")


def test_a_checkpoint_that_does_not_match_its_manifest_is_never_published(
    kchain, project_folder, point_at, local_kaggle
):
    project_folder(name="flipped", extra=QUICK, overrides="overrides = { seed = 500 }")

    assert_one_line(kchain("run", env=point_at), 4, "does not match its SHA-256")
    assert "kchain-flipped-checkpoints" not in str(local_kaggle.state()["datasets"])


@pytest.mark.parametrize("damage", ["garbage", "changed", "unreadable", "renamed", "newer"])
def test_a_corrupt_journal_is_refused_and_left_alone(kchain, project_folder, point_at, damage):
    folder = project_folder(name=f"corrupt-{damage}", extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0
    journal = folder / ".kchain" / f"corrupt-{damage}" / "journal.db"
    spoil(journal, damage)
    before = journal.read_bytes()

    assert_one_line(
        kchain("run", "--sessions", 2, env=point_at),
        4,
        "journal.db",
        "not touched",
        "kchain recover",
    )
    assert_one_line(
        kchain("status", env=point_at), 4, "journal.db", "not touched", "kchain recover"
    )
    assert journal.read_bytes() == before


def spoil(journal, damage):
    if damage == "garbage":
        journal.write_bytes(b"\x00garbage" * 600)
        return
    with sqlite3.connect(journal) as db:
        if damage == "changed":
            db.execute("UPDATE events SET body = replace(body, 'demo', 'dema'), at = at + 1")
            db.execute("""UPDATE events SET body = '{"data": {}, "sha256": ""}' WHERE seq = 3""")
        elif damage == "unreadable":
            db.execute("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 3")
        elif damage == "renamed":
            db.execute("UPDATE events SET chain = 'x' WHERE kind = 'finished'")
        else:
            db.execute("PRAGMA user_version = 99")


def test_an_emptied_journal_beside_checkpoints_is_no_new_chain(kchain, project_folder, point_at):
    folder = project_folder(name="emptied", extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0
    (folder / ".kchain" / "emptied" / "journal.db").unlink()

    for _time in range(2):
        assert_one_line(kchain("run", env=point_at), 4, "is empty", "kchain recover")


def test_an_output_folder_that_cannot_be_made_is_said_before_a_session_is_spent(
    kchain, project_folder, point_at, local_kaggle
):
    folder = project_folder(name="no-output", extra=QUICK)
    (folder / "output").write_text("a file where a folder should be")

    assert_one_line(kchain("run", env=point_at), 2, "output", "can be written")
    assert "kchain-no-output" not in str(local_kaggle.state()["kernels"])


def test_damaged_state_of_local_kaggle_is_refused_by_name(kchain, project_folder):
    folder = project_folder(name="garbled")
    assert kchain("run", "--local", "--sessions", 1).returncode == 0
    state = folder / ".kchain" / "local" / "kaggle"
    (state / "account.json").write_text("{")

    assert_one_line(kchain("tick", "--local"), 2, state, "damaged")


def test_a_second_server_on_one_state_names_the_first(kchain, tmp_path):
    with LocalKaggle(tmp_path / "served") as first:
        done = kchain("local", "serve", "--port", 7799, "--state", tmp_path / "served")

    assert_one_line(done, 3, first.url, "already")


def test_a_template_that_is_not_there_is_said_before_anything_is_bound(
    kchain, project_folder, tmp_path
):
    project_folder(template=tmp_path / "nowhere")

    assert_one_line(kchain("run"), 2, "kernel.template", "notebook.md")


def test_a_second_controller_is_told_that_one_is_at_work(kchain, project_folder, point_at):
    folder = project_folder(name="locked")
    state = folder / ".kchain" / "locked"
    state.mkdir(parents=True)
    with FileLock(state / "lock"):
        assert_one_line(kchain("tick", env=point_at), 3, "another kchain")


def test_another_endpoint_than_the_chains_own_is_refused(
    kchain, project_folder, point_at, tmp_path
):
    project_folder(name="bound", extra=QUICK)
    assert kchain("run", "--sessions", 1, env=point_at).returncode == 0
    with standing(tmp_path / "elsewhere") as other:
        done = kchain("run", env=pointing_at(other))
        assert_one_line(done, 2, "bound to endpoint", other.url)
        assert other.state()["sessions"] == []


def test_dry_run_without_the_training_packages_names_the_install_command(tmp_path):
    # An installation without the extra: all installed packages but those, side by side.
    installed = tmp_path / "installed"
    installed.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] not in TRAIN_PACKAGES and entry.suffix != ".pth":
            (installed / entry.name).symlink_to(entry)

    done = run(
        [sys.executable, "-S", "-m", "orchestrator", "run", "--dry-run"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": f"{installed}:{ROOT}"}),
    )

    assert_one_line(done, 2, "torch", 'pip install "kchain[train]"')
