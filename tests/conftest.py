"""What every test runs under: a scratch home, no credential, and no way off this machine."""

import ipaddress
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata

import pytest
from filelock import FileLock

from orchestrator.emulator.client_env import REDIRECT
from tests import running
from tests.running import COMMAND, ROOT, environment

CLIENTS = ROOT / ".venv" / "clients"


def _refuse_other_hosts(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple) and not _is_loopback(args[1][0]):
        raise AssertionError(f"a test tried to reach {args[1][0]}")


def _is_loopback(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


sys.addaudithook(_refuse_other_hosts)


@pytest.fixture(autouse=True)
def _scratch_home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "KCHAIN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


PROVEN = ROOT / "docs" / "proven.md"


@pytest.fixture(scope="session")
def proven():
    """Enter what a long count showed into docs/proven.md; a row replaces the one of its name."""
    rows = {}
    yield rows.__setitem__
    text = PROVEN.read_text(encoding="utf-8")
    head, rule, table = text.partition("| --- | --- | --- |\n")
    old = dict(line.strip("| ").split(" | ", 1) for line in table.splitlines())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    when = f"{datetime.now(UTC):%Y-%m-%d}, {commit}, {machine}"
    table = {**old, **{what: f"{result} | {when}" for what, result in rows.items()}}
    lines = [f"| {what} | {rest} |\n" for what, rest in table.items()]
    PROVEN.write_text(head + rule + "".join(lines), encoding="utf-8")


@pytest.fixture(scope="session")
def client_versions():
    """For each version of the official client, what its process needs in its environment.

    The additions may be laid over any environment: a bare client's, redirected or not, and
    kchain's own.
    """
    lists = sorted((ROOT / "tests" / "clients").glob("*.txt"))
    paths = {metadata.version("kaggle"): [REDIRECT, ROOT]}
    for requirements in lists:
        version = requirements.stem.removeprefix("kaggle-")
        paths[version] = [_installed_client(requirements), REDIRECT, ROOT]
    return {
        version: {"PYTHONPATH": os.pathsep.join(map(str, path))} for version, path in paths.items()
    }


def _installed_client(requirements):
    """Return the folder of a client that `make` installed; install it here if it did not."""
    folder = CLIENTS / requirements.stem
    if folder.is_dir():
        return folder
    CLIENTS.mkdir(parents=True, exist_ok=True)
    with FileLock(CLIENTS / f"{requirements.stem}.lock"):
        if not folder.is_dir():
            partial = tempfile.mkdtemp(dir=CLIENTS)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*command, "--target", partial, "-r", requirements], check=True)
            shutil.move(partial, folder)
    return folder


@pytest.fixture
def line_template():
    """A tiny real training that keeps the session contract and starts in no time."""
    return ROOT / "tests" / "templates" / "line"


@pytest.fixture
def kchain(tmp_path):
    """Run the real command in a folder of its own; return the finished process."""

    def run(*args, cwd=tmp_path, env=None, **options):
        command = [*COMMAND, *map(str, args)]
        return running.run(command, cwd=cwd, env=environment(env), **options)

    return run


@pytest.fixture
def controller(tmp_path, point_at):
    """Start a command in the background, in that folder; it is ended with the test."""
    started = []

    def start(*args, **additions):
        process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=tmp_path,
            env=environment(point_at | additions),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def local_kaggle(tmp_path):
    with running.standing(tmp_path / "kaggle") as local:
        yield local


@pytest.fixture
def point_at(local_kaggle):
    """What sends a command to that local Kaggle."""
    return running.pointing_at(local_kaggle)


@pytest.fixture(scope="session")
def wait_until():
    return running.wait_until


@pytest.fixture
def project_folder(tmp_path, line_template):
    """A folder with a kchain.toml for the tiny training."""

    def write(name="demo", extra="", template=line_template, overrides=""):
        (tmp_path / "kchain.toml").write_text(
            f'[chain]\nname = "{name}"\n'
            f'[training]\npreset = "rehearsal"\n{overrides}\n'
            f'[kernel]\ntemplate = "{template}"\n{extra}\n'
        )
        return tmp_path

    return write
