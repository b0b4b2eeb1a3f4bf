"""Renders the pushed notebook: the kernel template's text, its modules, and one parameter block.

The template is read as data. `notebook.md` holds the notebook as text: headings of level two
begin a new markdown cell, a python fence is a code cell, a fence with `module=NAME` is a cell
that writes that file, and the fence `python parameters` receives the parameters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from orchestrator import contract, leaks
from orchestrator.config import Settings
from orchestrator.errors import CheckpointError, ConfigError
from orchestrator.machine import State

Template = Path | None  # a folder in place of the packaged kernel template
SOURCE_LIMIT_BYTES = 1_000_000  # 933,761 bytes were accepted, 1,141,256 refused (observed)
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PARAMETERS_CELL = """\
# What kchain told this session. The controller reads it back from here.
import json

PARAMETERS = json.loads(r'''
{parameters}
''')
for folder in (CODE_DIR, WORKING_DIR):
    (folder / "session_parameters.json").write_text(json.dumps(PARAMETERS, indent=2))"""

_PARAMETERS = re.compile(
    r"^PARAMETERS = json\.loads\(r'''\n(.*?)\n'''\)$", re.MULTILINE | re.DOTALL
)


def session_parameters(
    settings: Settings, state: State, *, token: str, seconds: int
) -> dict[str, Any]:
    """Return what the next session is told; `seconds` is the limit that the push asks for."""
    return {
        "contract": contract.CONTRACT,
        "chain": settings.chain.name,
        "session": state.session,
        "attempt": state.attempt,
        "token": token,
        "parent": state.parent.to_body() if state.parent else None,
        "time_budget_seconds": seconds,
        "sessions_planned": settings.chain.sessions,
        "training": {
            "preset": settings.training.preset,
            "overrides": settings.training.overrides,
        },
        "accelerator": {
            "kind": settings.accelerator.kind,
            "count": settings.accelerator.count,
            **({"name": settings.accelerator.name} if settings.accelerator.name else {}),
        },
    }


def render(parameters: Mapping[str, Any], template: Template = None) -> str:
    """Return the notebook's source, as the kernel push sends it.

    Args:
        parameters: the session parameters; must keep the contract.
        template: a folder to use in place of the packaged kernel template.

    Raises:
        ConfigError: a parameter or the template cannot be used, the result is over 1 MB, or it
            holds what looks like a secret.
    """
    if found := contract.problems("parameters", parameters):
        raise ConfigError(f"these parameters cannot be pushed: {found[0]}")
    root: Traversable = template if template else files("kernel_template")
    try:
        cells = _cells(root.joinpath("notebook.md").read_text("utf-8"), parameters, root)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the kernel template {root} cannot be read: {error}") from error
    for number, cell in enumerate(cells, start=1):
        if secret := leaks.find(cell["source"]):
            raise ConfigError(
                f"cell {number} of the notebook from {root} holds {secret}: nothing was sent."
                " Remove it there; a secret in use belongs into Kaggle's own Secrets add-on"
            )
    source = json.dumps(_notebook(cells), ensure_ascii=False)
    if not carries(source, parameters["token"]):
        raise ConfigError(f"{root}/notebook.md has no fence `python parameters` to fill in")
    if (size := len(source.encode())) > SOURCE_LIMIT_BYTES:
        raise ConfigError(
            f"the notebook has {size:,} bytes, Kaggle takes {SOURCE_LIMIT_BYTES:,};"
            " move large data from the kernel template into a dataset"
        )
    return source


def source_sha256(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def carries(source: str, token: str) -> bool:
    """Tell whether a kernel version's source was rendered for this token."""
    return token in source


def read_parameters(source: str) -> Mapping[str, Any] | None:
    """Return what a kernel version's source tells its session; None if we did not render it."""
    try:
        cells = json.loads(source)["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError):
        return None
    for text in texts:
        if found := _PARAMETERS.search(text):
            try:
                return contract.parse("parameters", found[1].encode())
            except CheckpointError:
                return None
    return None


def _cells(text: str, parameters: Mapping[str, Any], root: Traversable) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    position = 0
    for fence in _FENCE.finditer(text):
        cells += _markdown(text[position : fence.start()])
        cells.append(_code(fence[2].strip(), fence[3], parameters, root))
        position = fence.end()
    return cells + _markdown(text[position:])


def _markdown(text: str) -> list[dict[str, Any]]:
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [_cell("markdown", part.strip()) for part in parts if part.strip()]


def _code(info: str, body: str, parameters: Mapping[str, Any], root: Traversable) -> dict[str, Any]:
    if info == "parameters":
        # Escaped so that no string can end the literal around it.
        literal = json.dumps(parameters, indent=2, allow_nan=False).replace("'", "\\u0027")
        return _cell("code", _PARAMETERS_CELL.replace("{parameters}", literal))
    if info.startswith("module="):
        name = info.removeprefix("module=")
        module = root.joinpath(name).read_text("utf-8").rstrip()
        return _cell("code", f"%%writefile {{CODE_DIR}}/{name}\n{module}")
    return _cell("code", body.rstrip())


def _cell(kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _notebook(cells: list[dict[str, Any]]) -> dict[str, Any]:
    numbered = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells, start=1)]
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernelspec, "language_info": {"name": "python"}}
    return {"cells": numbered, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
