"""The smaller commands, as their users call them."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from orchestrator.cli import COMMANDS, cli
from orchestrator.config import load
from orchestrator.emulator.server import LocalKaggle
from tests.running import COMMAND, environment, standing


@pytest.fixture(scope="module")
def local_kaggle(tmp_path_factory):
    with standing(tmp_path_factory.mktemp("kaggle")) as local:
        yield local


def test_init_writes_a_file_that_is_valid_as_it_is(kchain, tmp_path):
    done = kchain("init", "My First Run!")

    assert done.returncode == 0
    path = tmp_path / "My First Run!" / "kchain.toml"
    assert tomllib.loads(path.read_text())["chain"]["name"] == "my-first-run"
    assert load(path, {}).settings.training.preset == "wikitext103"


def test_init_never_replaces_a_file(kchain, tmp_path):
    (tmp_path / "kchain.toml").write_text("mine")

    assert kchain("init").returncode == 2
    assert (tmp_path / "kchain.toml").read_text() == "mine"


def test_every_line_that_init_comments_out_is_valid_when_it_is_not(kchain, tmp_path):
    kchain("init", ".")
    path = tmp_path / "kchain.toml"

    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines[3:]))

    assert load(path, {}).settings.kernel.time_budget_seconds == 41_400


def test_doctor_names_the_account_and_the_quota(kchain, project_folder, local_kaggle, point_at):
    project_folder()

    done = kchain("doctor", env=point_at)
    as_json = kchain("doctor", "--json", env=point_at)

    assert done.returncode == 0, done.stdout
    assert "the credential is local's, 30.0 GPU hours left" in done.stdout
    assert local_kaggle.token not in done.stdout + done.stderr
    checks = {check["check"]: check["ok"] for check in json.loads(as_json.stdout)}
    assert checks["Kaggle"] is True


def test_doctor_says_what_is_missing_and_fails(kchain):
    done = kchain("doctor")

    assert done.returncode == 2
    assert "no  configuration" in done.stdout
    assert "no  credential" in done.stdout


def test_a_legacy_key_works_as_well_as_a_token(kchain, project_folder, local_kaggle):
    project_folder()
    folder = Path(os.environ["HOME"]) / ".kaggle"
    folder.mkdir()
    stored = folder / "kaggle.json"
    stored.write_text(json.dumps({"username": local_kaggle.username, "key": local_kaggle.key}))
    stored.chmod(0o600)
    before = stored.read_bytes()

    done = kchain("doctor", env={"KCHAIN_KAGGLE_ENDPOINT": local_kaggle.url})

    assert done.returncode == 0, done.stdout
    assert "kaggle.json" in done.stdout
    assert stored.read_bytes() == before


def test_local_exec_runs_the_official_command(kchain):
    done = kchain("local", "exec", "--", "kaggle", "quota")
    bad = kchain("local", "exec", "--", "kaggle", "kernels", "status", "local/nothing-here")

    assert done.returncode == 0, done.stderr
    assert "30.00h" in done.stdout
    assert bad.returncode == 1
    assert "Permission 'kernels.get' was denied" in bad.stdout + bad.stderr


def test_a_local_run_rehearses_the_gpu_that_the_configuration_names(kchain, project_folder):
    folder = project_folder(name="rehearsed", extra='accelerator = "NvidiaTeslaT4"')

    done = kchain("run", "--local", "--sessions", 1)

    assert done.returncode == 0, done.stderr
    with LocalKaggle(folder / ".kchain" / "local" / "kaggle") as local:
        [session] = local.state()["sessions"]
    assert session["accelerator"] == "GPU"
    assert list(session["machine"]["gpus"]) == ["Tesla T4", "Tesla T4"]


def test_local_serve_prints_variables_that_point_a_client_at_it(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "local", "serve"],
        cwd=tmp_path,
        env=environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        printed = {}
        for line in server.stdout:
            name, _, value = line.strip().removeprefix("export ").partition("=")
            printed[name] = value
            if "Ctrl-C" in line:
                break
        client = subprocess.run(
            [sys.executable, "-m", "kaggle", "quota"],
            env=printed,
            capture_output=True,
            text=True,
            check=False,
        )
        server.send_signal(signal.SIGINT)
        rest = server.stdout.read()

    assert client.returncode == 0, client.stderr
    assert "30.00h" in client.stdout
    assert server.returncode == 0
    assert "ended" in rest


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["local", "serve"]])
def test_every_command_has_help_with_examples(kchain, command):
    done = kchain(*command, "--help")

    assert done.returncode == 0
    assert "Example" in done.stdout or command == ["local"]


def test_the_shell_completes_commands_and_options():
    completer = BashComplete(cli, {}, "kchain", "_KCHAIN_COMPLETE")

    commands = {item.value for item in completer.get_completions([], "")}
    options = {item.value for item in completer.get_completions(["run"], "--")}

    assert commands == set(COMMANDS)
    assert {"--sessions", "--dry-run", "--local", "--json"} <= options
