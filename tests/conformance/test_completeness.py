"""Nothing that the official client can ask is forgotten: commands, options and endpoints."""

import importlib.util
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import requests

from orchestrator.emulator.api import IMITATED

HERE = Path(__file__).parent
WALK = """
import argparse, json
from kaggle import cli

def walk(parser, path):
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if "func" in parser._defaults:
        options = [a.option_strings[-1] for a in parser._actions if a.option_strings]
        hidden = {a.option_strings[-1] for a in parser._actions
                  if a.option_strings and a.help == argparse.SUPPRESS}
        yield " ".join(path), sorted(set(options) - hidden - {"--help"})
    for group in groups:
        for name, child in group._name_parser_map.items():
            yield from walk(child, [*path, name])

root = argparse.ArgumentParser()
top = root.add_subparsers(dest="command")
for parse in (cli.parse_kernels, cli.parse_datasets, cli.parse_quota):
    parse(top)
found = dict(walk(root, []))
print(json.dumps({name: options for name, options in found.items() if name[:2] not in ("k ", "d ")}))
"""


@pytest.fixture(scope="module")
def trees(client_versions, tmp_path_factory):
    """For each version of the client: command to its options, from its own parser."""
    home = tmp_path_factory.mktemp("home")
    basic = {"HOME": str(home), "KAGGLE_USERNAME": "local", "KAGGLE_KEY": "none"}
    return {
        version: json.loads(
            subprocess.run(
                [sys.executable, "-c", WALK],
                env={**basic, **additions},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
        )
        for version, additions in client_versions.items()
    }


def _shown(kind):
    """The commands that tests of this folder are marked with."""
    shown = set()
    for path in HERE.glob("test_*.py"):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for function in vars(module).values():
            shown |= {m.args[0] for m in _marks(function) if m.name == kind}
    return shown


def _marks(function):
    for mark in getattr(function, "pytestmark", []):
        yield mark
        if mark.name == "parametrize":
            for values in mark.args[1]:
                yield from getattr(values, "marks", ())


def test_every_command_of_every_client_is_in_the_docs_with_its_options(trees, documented_commands):
    everything = {}
    for tree in trees.values():
        for command, options in tree.items():
            everything.setdefault(command, set()).update(options)

    assert {command: set(row.options) for command, row in documented_commands.items()} == everything


def test_every_imitated_command_is_shown_to_work(documented_commands):
    imitated = {command for command, row in documented_commands.items() if row.is_imitated}

    assert _shown("succeeds") == imitated


def test_every_command_is_shown_to_refuse(documented_commands):
    assert _shown("refuses") == set(documented_commands)


def test_the_client_under_test_is_the_version_it_is_called(kaggle, version):
    assert kaggle("--version").strip() == f"Kaggle CLI {version}"


def _endpoints(folder):
    """Every endpoint of kagglesdk, from its source: package.Service/Method."""
    text = "\n".join(path.read_text() for path in folder.rglob("services/*.py"))
    calls = re.findall(r'self\._client\.call\("([\w.]+)", "(\w+)"', text)
    return {f"{service}/{method}" for service, method in calls}


@pytest.fixture(scope="module")
def endpoints():
    folder = metadata.distribution("kagglesdk").locate_file("kagglesdk")
    return _endpoints(Path(folder))


def test_every_imitated_endpoint_is_one_of_kaggles(endpoints):
    assert len(endpoints) > 100
    assert endpoints >= IMITATED


def test_every_other_endpoint_answers_501_with_its_name(server, endpoints):
    others = sorted(endpoints - IMITATED)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {server.token}"
        for index, endpoint in enumerate(others):
            prefix = ("/v1", "/api/v1")[index % 2]
            answer = session.post(f"{server.url}{prefix}/{endpoint}", json={}, timeout=30)
            name = endpoint.rpartition(".")[2]  # Service/Method
            message = f"{name} is not imitated by local Kaggle"
            assert answer.status_code == 501, endpoint
            assert answer.json() == {"code": 501, "message": message}


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "kernels/push"),
        ("GET", "kernels/status"),
        ("GET", "kernels/output"),
        ("GET", "kernels/quota"),
        ("GET", "kernels/pull"),
        ("POST", "blobs/upload"),
        ("POST", "datasets/create/new"),
        ("POST", "datasets/create/version/local/my-data"),
        ("GET", "datasets/status/local/my-data"),
        ("GET", "datasets/view/local/my-data"),
    ],
)
def test_an_older_address_answers_501_with_its_name(server, verb, path):
    answer = requests.request(
        verb,
        f"{server.url}/api/v1/{path}",
        headers={"Authorization": f"Bearer {server.token}"},
        timeout=30,
    )

    assert answer.status_code == 501
    assert answer.json()["message"] == f"{path} is not imitated by local Kaggle"
