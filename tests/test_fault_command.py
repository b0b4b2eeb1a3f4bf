"""`kchain local fault` and `--chaos`, as their users call them."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import requests
from click.testing import CliRunner

from orchestrator.cli import cli
from orchestrator.emulator.catalogue import CATALOGUE
from orchestrator.emulator.chaos import Chaos
from orchestrator.emulator.server import LocalKaggle
from tests.running import COMMAND, environment, run, wait_until

SERVE = (*COMMAND, "local", "serve")
QUOTA = "GetAcceleratorQuotaStatistics"
CALLS = f"""
import os, requests
url = os.environ["KCHAIN_KAGGLE_ENDPOINT"] + "/v1/kernels.KernelsApiService/{QUOTA}"
headers = {{"Authorization": "Bearer " + os.environ["KAGGLE_API_TOKEN"]}}
for _ in range(40):
    try:
        requests.post(url, headers=headers, timeout=0.3)
    except requests.RequestException:
        pass
"""


@pytest.fixture
def fault(tmp_path, monkeypatch):
    """Call `kchain local fault` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        return CliRunner().invoke(cli, ["local", "fault", *map(str, args)])

    return call


@pytest.fixture
def state(tmp_path):
    return tmp_path / ".kchain" / "local" / "kaggle"


@pytest.fixture
def running(state):
    with LocalKaggle(state) as local:
        yield local


def test_every_fault_is_listed_by_name(fault):
    listed = fault("list")
    as_json = fault("list", "--json")

    lines = listed.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(CATALOGUE)
    assert [row["name"] for row in json.loads(as_json.stdout)] == list(CATALOGUE)


def test_a_word_narrows_the_list(fault):
    listed = fault("list", "upload", "--json")

    names = [row["name"] for row in json.loads(listed.stdout)]
    assert "upload-cut" in names
    assert "lost-push-answer" not in names


def test_a_planted_fault_strikes_and_is_shown_and_forgotten(kchain, fault, running):
    added = fault(
        *("add", "unavailable", "rate-limit-old", "--match", QUOTA),
        *("--nth", 1, "--times", 1),
    )
    struck = kchain("local", "exec", "--", "kaggle", "quota")
    shown = json.loads(fault("show", "--json").stdout)
    table = fault("show")
    cleared = fault("clear")

    assert added.exit_code == 0, added.output
    assert "planted unavailable: 503, without effect" in added.stdout
    assert struck.returncode != 0
    assert "Service Unavailable" in struck.stdout + struck.stderr
    assert [(row["name"], row["seen"], row["fired"]) for row in shown["planted"]] == [
        ("unavailable", 1, 1),
        ("rate-limit-old", 1, 0),  # it was due at the same request, and came second
    ]
    assert f"struck KernelsApiService/{QUOTA} call 1: unavailable" in table.stdout
    assert cleared.stdout == "forgot 2 faults\n"
    assert running.faults.fired == []


def test_options_change_what_the_catalogue_says(fault, running):
    added = fault(
        *("add", "hang", "--match", "/kf/", "--seconds", 0.5),
        *("--nth", 3, "--times", 2, "--every", 4),
    )
    fault("add", "unavailable", "--status", 504)

    assert added.exit_code == 0, added.output
    first, second = running.faults.to_json()
    wanted = {"match": "/kf/", "seconds": 0.5, "nth": 3, "times": 2, "every": 4}
    assert {name: first[name] for name in wanted} == wanted
    assert second["status"] == 504


@pytest.mark.parametrize("command", [["add", "hang"], ["show"], ["clear"]])
def test_without_a_running_local_kaggle_there_is_nothing_to_plant_in(fault, command):
    done = fault(*command)

    assert done.exit_code == 2
    assert "no local Kaggle runs on" in done.output
    assert "kchain local serve" in done.output


def test_a_local_kaggle_that_was_killed_counts_as_none(fault, state):
    with LocalKaggle(state):  # what a killed one leaves: a file that names nobody
        left = (state / "server.json").read_text()
    (state / "server.json").write_text(left)

    done = fault("show")

    assert done.exit_code == 2
    assert "no local Kaggle runs on" in done.output


def test_an_unknown_name_is_refused_with_those_that_are_like_it(fault):
    done = fault("add", "lost-push")

    assert done.exit_code == 2
    assert "did you mean lost-push-answer" in done.output


def test_what_cannot_happen_there_is_refused(fault, running):
    done = fault("add", "vanish", "--match", "SaveKernel")

    assert done.exit_code == 2
    assert "vanish can happen in session/end only" in done.output
    assert running.faults.to_json() == []


def test_exec_under_chaos_tells_what_was_struck_and_the_seed_decides_it(kchain, tmp_path):
    script = tmp_path / "calls.py"
    script.write_text(CALLS)

    done = kchain("local", "exec", "--chaos", 11, "--", sys.executable, str(script))

    method = f"KernelsApiService/{QUOTA}"
    drawn = [(call, Chaos(11).draw(method, call)) for call in range(1, 41)]
    expected = [
        f"struck {method} call {call}: {fault.name}, by chaos" for call, fault in drawn if fault
    ]
    assert done.returncode == 0
    assert len(expected) > 2
    assert done.stderr.splitlines() == expected


def test_chaos_needs_a_local_kaggle_of_its_own(kchain, running):
    done = kchain("local", "exec", "--chaos", 1, "--", "kaggle", "quota")

    assert done.returncode == 3
    assert running.url in done.stderr


@pytest.mark.parametrize("command", ["list", "add", "show", "clear"])
def test_every_fault_command_has_help_with_examples(fault, command):
    assert "Example" in fault(command, "--help").stdout


def test_settings_of_the_platform_are_listed_and_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = lambda *args: CliRunner().invoke(cli, ["local", *args])  # noqa: E731

    listed = json.loads(call("settings", "--json").output)
    assert (listed["phone_verified"], listed["layout"]) == (True, None)
    assert "phone_verified" in call("settings").output

    given = ["--set", "layout=old", "--set", "gpus_instead=A,B", "--set", "queue_seconds=0.5"]
    assert call("exec", *given, "--", "true").exit_code == 0
    lines = (tmp_path / ".kchain/local/kaggle/world.jsonl").read_text().splitlines()
    settings = json.loads(lines[-1])["args"]["settings"]
    assert (settings["layout"], settings["gpus_instead"]) == ("old", ["A", "B"])
    assert settings["queue_seconds"] == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("que_seconds=1", "did you mean queue_seconds?"),
        ("queue_seconds", "is no NAME=VALUE"),
        ("queue_seconds=soon", "queue_seconds: Input should be a valid number"),
        ("layout=sideways", "layout: "),
    ],
)
def test_settings_that_are_none_are_refused(given, message):
    refused = CliRunner().invoke(cli, ["local", "serve", "--set", given])

    assert refused.exit_code == 2
    assert message in refused.output


@contextmanager
def serving(folder, stdout=subprocess.PIPE):
    """`kchain local serve` as a shell's background job: Ctrl-C is ignored when it starts."""
    with subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *SERVE],
        cwd=folder,
        env=environment(),
        stdout=stdout,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="needs a pipe of known size")
def test_serving_in_the_background_can_be_ended_before_it_says_so(tmp_path):
    reader, writer = os.pipe()
    capacity = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, b"\n" * capacity)  # whoever prints now waits for a reader
    with serving(tmp_path, stdout=writer) as process, os.fdopen(reader) as output:
        os.close(writer)
        wait_until((tmp_path / ".kchain/local/kaggle/server.json").exists, "it serves")
        process.send_signal(signal.SIGINT)
        told = output.read()
        process.wait(timeout=30)

    assert process.returncode == 0
    assert told.endswith("ended\n")


def test_what_serve_prints_can_be_sourced_whatever_the_folder_is_called(tmp_path):
    folder = tmp_path / "a folder with 'quotes'"
    folder.mkdir()
    with serving(folder) as process:
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    exports = [shlex.split(line) for line in lines if line.startswith("export ")]

    assert all(len(words) == 2 for words in exports)
    values = dict(words[1].split("=", 1) for words in exports)
    assert values["HOME"] == str(folder / ".kchain" / "local" / "kaggle" / "home")


def test_a_fault_of_the_wrong_types_is_refused(tmp_path):
    with LocalKaggle(tmp_path / "state") as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        for fields in ({"match": 5, "effect": "hang"}, {"name": "hang", "seconds": "x"}, 7, {}):
            answer = requests.post(
                f"{server.url}/_local/faults", json=[fields], headers=headers, timeout=30
            )
            assert answer.status_code == 400


def test_an_account_file_of_another_shape_is_refused_by_name(state):
    state.mkdir(parents=True)
    for content in ("{}", "[]", '{"username": "x"}', "garbage"):
        (state / "account.json").write_text(content)
        with pytest.raises(ValueError, match="does not hold the account's credentials"):
            LocalKaggle(state)
    refused = run([*COMMAND, "local", "exec", "--state", state, "--", "true"])
    assert refused.returncode == 2
    assert "does not hold the account's credentials; move it away" in refused.stderr
