"""The notebook as text: what the controller renders and a person reads on Kaggle."""

import ast
import re

import pytest

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def notebook(kernel):
    return (kernel / "notebook.md").read_text()


def test_the_sections_are_numbered_as_in_the_guide(notebook):
    assert re.findall(r"^## (.+)$", notebook, re.MULTILINE) == [
        "1. What this is",
        "2. Settings",
        "3. Checkpoint search",
        "4. Model",
        "5. Data",
        "6. Training",
        "7. Results",
    ]


def test_every_module_is_written_before_the_first_cell_that_needs_it(notebook, kernel):
    written = re.findall(r"^```\w+ module=(\S+)$", notebook, re.MULTILINE)
    modules = [path.name for path in kernel.glob("*.py") if path.name != "__init__.py"]

    assert sorted(written) == sorted([*modules, "presets.json"])
    for number, name in enumerate(written):
        if name.endswith(".py"):
            tree = ast.parse((kernel / name).read_text())
            needed = {
                f"{node.module}.py" for node in tree.body if isinstance(node, ast.ImportFrom)
            } & set(modules)
            assert needed <= set(written[:number])


def test_the_cells_compile_and_the_parameters_come_once(notebook):
    cells = [(match[2].strip(), match[3]) for match in FENCE.finditer(notebook)]

    assert [info for info, _ in cells].count("parameters") == 1
    for info, body in cells:
        assert info == "" or body == ""
        compile(body, "cell", "exec")


def test_the_notebook_is_small(notebook, kernel):
    modules = [*kernel.glob("*.py"), kernel / "presets.json"]

    assert len(notebook) + sum(path.stat().st_size for path in modules) < 150_000
