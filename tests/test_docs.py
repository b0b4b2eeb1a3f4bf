"""What the docs say is compared with the code and the disk."""

import importlib.util
import re
import subprocess
import sys

import pytest

from orchestrator.cli import COMMANDS
from tests.running import ROOT

FOLDERS_IN_FULL = ("orchestrator", "kernel_template", "docs")
# Named in the tree as a folder with its main files: their neighbours are details of one room.
SUMMED_UP = ("orchestrator/emulator", "kernel_template/contract")


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def readme_tree():
    """Return path to description for every line of README's file tree."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"## The house\n\n```\n(.*?)```", text, re.DOTALL)[1]
    tree, folders = {}, []
    for line in block.splitlines():
        name, _, words = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        tree["".join(folders)] = words.strip()
    return tree


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["docs/cli.md", "docs/machine.md", "docs/faults.md", "docs/local-kaggle.md"]
)
def test_a_generated_page_is_what_the_code_says(page):
    assert (ROOT / page).read_text() == generator().PAGES[page](), "run `make docs`"


def test_every_path_in_the_readme_tree_exists():
    for path in readme_tree():
        assert (ROOT / path).exists(), path


def test_every_file_of_the_main_folders_is_in_the_readme_tree():
    tree = readme_tree()
    for name in tracked_files():
        folder = name.partition("/")[0]
        if folder not in FOLDERS_IN_FULL or name.startswith(SUMMED_UP):
            continue
        if name.endswith(("__init__.py", "py.typed")):
            continue
        assert name in tree, f"{name} is missing in README's tree"


def test_the_readme_tree_describes_a_file_in_three_to_six_words():
    for path, words in readme_tree().items():
        if not path.endswith("/"):
            assert 3 <= len(words.split()) <= 6, (path, words)


def test_every_top_level_entry_is_in_the_readme_tree():
    tops = {name.partition("/")[0] for name in tracked_files()}
    named = {path.partition("/")[0] for path in readme_tree()}

    assert {top for top in tops if not top.startswith(".")} <= named


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()

    for name in COMMANDS:
        assert f"kchain {name}" in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


COUNT = """
import json, model
for name, s in json.load(open("presets.json")).items():
    sizes = (s["n_layer"], s["n_head"], s["d_model"], s["block_tokens"], s["vocab_size"])
    print(model.count_parameters(model.GPT(model.ModelConfig(*sizes, s["dropout"]))))
"""


def test_the_readme_names_the_parameter_counts_that_the_presets_have():
    counted = subprocess.run(
        [sys.executable, "-B", "-c", COUNT],
        cwd=ROOT / "kernel_template",
        capture_output=True,
        text=True,
        check=True,
    )
    text = (ROOT / "README.md").read_text()

    counts = [int(line) for line in counted.stdout.split()]
    assert len(counts) == 3
    for count in counts:
        assert f"{count:,}" in text
