"""Fixtures: a local Kaggle that stands, and the official client run against it as a user does."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from orchestrator.emulator.client_env import client_environment
from orchestrator.emulator.records import Refusal
from orchestrator.emulator.server import LocalKaggle, Settings
from tests import running
from tests.running import COMMAND, ROOT

INSTALLED, OTHER = "2.2.4", "2.2.5"
QUICK = Settings(
    queue_seconds=0.0,
    dataset_visible_seconds=0.05,
    dataset_processing_seconds=0.1,
    cpu_sessions=50,
)
KCHAIN_EXEC = (*COMMAND, "local", "exec")
ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from kaggle import cli
answers = []
for words in json.load(sys.stdin):
    sys.argv = ["kaggle", *words]
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code or 0
    answers.append([code, printed.getvalue()])
print(json.dumps(answers))
"""
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", params=[INSTALLED, pytest.param(OTHER, marks=pytest.mark.prove)])
def version(request):
    """The version of the official client: the installed one; the other one when proving."""
    return request.param


@pytest.fixture(scope="module")
def server(version, tmp_path_factory):
    """A local Kaggle for the tests of one module and one version of the client."""
    with LocalKaggle(tmp_path_factory.mktemp(f"kaggle-{version}"), settings=QUICK) as standing:
        yield standing
        standing.close(kill_sessions=True)


class Client:
    """The official command of one version, through `kchain local exec`, in a folder of its own."""

    def __init__(self, server, additions, folder):
        self.server = server
        self.folder = folder
        self.ran = []
        self._additions = additions

    def run(self, *arguments, stdin="", program=("kaggle",), **variables):
        """Run the command, whatever comes of it."""
        state = self.server.platform.scratch.parent
        set_here = [f"{name}={value}" for name, value in {**self._additions, **variables}.items()]
        command = ["env", *set_here, *program] if set_here else program
        done = running.run(
            [*KCHAIN_EXEC, "--state", state, "--", *command, *map(str, arguments)],
            cwd=self.folder,
            input=stdin,
        )
        self.ran.append((arguments, done.returncode))
        return done

    def __call__(self, *arguments, **options):
        """Run the command, which must succeed; return what it printed."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments, **options):
        """Run the command, which must fail; return what it printed."""
        done = self.run(*arguments, **options)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def all(self, *commands, code=0):
        """Run several commands, in one process to save time; return what each printed.

        Each must end with `code`: 0 for success, 1 for a refusal.
        """
        spoken = [[str(word) for word in words] for words in commands]
        done = self.run(program=["python", "-c", ONE_AFTER_ANOTHER], stdin=json.dumps(spoken))
        assert done.returncode == 0, done.stdout + done.stderr
        answers = json.loads(done.stdout)
        self.ran += [(tuple(words), told) for words, (told, _) in zip(spoken, answers, strict=True)]
        assert {told for told, _ in answers} == {code}, answers
        return [printed for _, printed in answers]

    def rows(self, *arguments):
        """Run a command that prints a table, as JSON."""
        printed = self(*arguments, "--format", "json")
        return json.loads(printed[printed.index("[") :])


@pytest.fixture
def kaggle(request, server, version, client_versions, tmp_path):
    """The official command; a test that is marked with a command has run that command."""
    additions = {} if version == INSTALLED else client_versions[version]
    client = Client(server, additions, tmp_path)
    yield client
    for mark in itertools.chain(
        request.node.iter_markers("succeeds"), request.node.iter_markers("refuses")
    ):
        words = tuple(mark.args[0].split())
        assert any(arguments[: len(words)] == words for arguments, _ in client.ran), mark.args[0]


@pytest.fixture
def number():
    """A number that no other test of this process has."""
    return next(NUMBERS)


@pytest.fixture
def slug(number):
    return f"thing-number-{number}"


@pytest.fixture
def ref(slug):
    return f"local/{slug}"


@pytest.fixture
def kernel_folder(tmp_path, slug):
    """Write a folder to push; return it."""

    def write(source="print('hi')\n", **fields):
        folder = tmp_path / "kernel"
        folder.mkdir(exist_ok=True)
        metadata = {
            "id": f"local/{slug}",
            "title": slug.replace("-", " ").title(),
            "code_file": "script.py",
            "language": "python",
            "kernel_type": "script",
        }
        (folder / "kernel-metadata.json").write_text(json.dumps({**metadata, **fields}))
        (folder / "script.py").write_text(source)
        return folder

    return write


@pytest.fixture
def dataset_folder(tmp_path, slug):
    """Write a folder to publish; return it."""

    def write(files, **fields):
        folder = tmp_path / "dataset"
        folder.mkdir(exist_ok=True)
        metadata = {
            "id": f"local/{slug}",
            "title": slug.replace("-", " ").title(),
            "licenses": [{"name": "CC0-1.0"}],
        }
        (folder / "dataset-metadata.json").write_text(json.dumps({**metadata, **fields}))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder

    return write


@pytest.fixture
def session_of(server):
    """The session of a kernel's version, as it truly is."""

    def find(slug, version=1):
        sessions = server.state()["sessions"]
        return next(s for s in sessions if (s["slug"], s["version"]) == (slug, version))

    return find


@pytest.fixture
def ended(wait_until, session_of):
    """Wait for the end of a session; returns its truth."""

    def wait(slug, version=1):
        wait_until(lambda: session_of(slug, version)["ending"])
        return session_of(slug, version)

    return wait


@pytest.fixture
def ready(server, wait_until):
    """Wait until a version of a dataset is ready."""

    def wait(slug, number=1):
        def is_ready():
            world, ask = server.platform.ledger.world, server.platform.ledger.ask
            with contextlib.suppress(Refusal):  # it cannot be seen yet
                version = ask(world.dataset_version, owner="local", slug=slug)
                return version.number >= number
            return False

        wait_until(is_ready)

    return wait


@pytest.fixture(scope="module")
def in_client(server, version, client_versions, tmp_path_factory):
    """Run Python in an environment for clients; return what it printed."""
    folder = tmp_path_factory.mktemp("client")

    def run(code, *arguments):
        environment = client_environment(server.url, server.token, folder / "home")
        additions = {} if version == INSTALLED else client_versions[version]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**environment, **additions},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


class Row(NamedTuple):
    """What the docs say about one command of the client."""

    is_imitated: bool
    options: tuple[str, ...]


@pytest.fixture(scope="session")
def documented_commands():
    """The table of commands in the docs: command to its row."""
    text = (ROOT / "docs" / "local-kaggle.md").read_text()
    section = text.partition("## Commands of the official client")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (yes|no)\b[^|]* \| ([^|]*) \|", section, re.MULTILINE)
    assert rows, "docs/local-kaggle.md lost its table of commands"
    return {
        command: Row(answer == "yes", tuple(re.findall(r"`(-[^`]+)`", options)))
        for command, answer, options in rows
    }
