"""`kchain run --dry-run`: the whole loop on an embedded local Kaggle, with a tiny training."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from orchestrator import config, contract, kernel
from orchestrator.cli import drive, workplace
from orchestrator.cli.display import Display
from orchestrator.cli.options import load
from orchestrator.cli.target import LOCAL, Target, for_local, need_training_packages
from orchestrator.config import Project
from orchestrator.emulator.server import LocalKaggle
from orchestrator.errors import ChainError
from orchestrator.kaggle import credentials
from orchestrator.machine import State


def rehearse(display: Display, given: str | None, sessions: int | None, *, as_json: bool) -> None:
    """Rehearse on scratch state; with a kchain.toml, validate and render it first."""
    need_training_packages()
    flags: dict[str, Any] = {"chain.sessions": sessions}
    if given or (Path.cwd() / config.FILE_NAME).exists():
        project = load(given, flags)
        flags = {"chain.sessions": project.settings.chain.sessions}
        display.line(_check_real_notebook(project))
    scratch = Path(tempfile.mkdtemp(prefix="kchain-dry-run-"))
    project = for_local(config.rehearsal(scratch, {**flags, **_rehearsal_flags(flags)}))
    planned = project.settings.chain.sessions
    display.line(f"dry run: {planned} sessions on an embedded local Kaggle, in {scratch}")
    with LocalKaggle(scratch / "kaggle", port=0) as local:
        try:
            credential = credentials.from_token(local.token, "local Kaggle")
            target = Target(local.url, LOCAL, credential)
            with workplace.opened(project, target, scratch / "state", display.event) as place:
                drive.until_done(place, display)
                drive.close(place, display, as_json=as_json)
                if place.journal.state.heads != planned:
                    raise ChainError(
                        f"only {place.journal.state.heads} of {planned} sessions chained;"
                        f" everything is kept in {scratch}"
                    )
        except KeyboardInterrupt:
            local.close(kill_sessions=True)
            shutil.rmtree(scratch)
            raise
        finally:
            local.close(kill_sessions=True)
    shutil.rmtree(scratch)
    display.line(f"dry run passed: {planned} sessions chained")


def _rehearsal_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Let the rehearsal's training last exactly as many sessions as were asked for."""
    preset = json.loads(contract.template_text("presets.json"))["rehearsal"]
    sessions = flags["chain.sessions"] or 3
    steps = preset["steps_per_session"] * sessions
    # Scratch state is locked by nobody else, wherever this machine keeps temporary files.
    return {"training.overrides": {"max_steps": steps}, "chain.force_folder": True}


def _check_real_notebook(project: Project) -> str:
    """Render the notebook that the real configuration would push; say its size."""
    settings = project.settings
    parameters = kernel.session_parameters(
        settings,
        State(),
        token="kc1." + "a" * 26,
        seconds=settings.kernel.time_budget_seconds,
    )
    source = kernel.render(parameters, project.template_dir)
    return (
        f"{project.file} is valid: kernel {settings.kernel_slug}, dataset"
        f" {settings.dataset_slug}, notebook of {len(source.encode()):,} bytes"
    )
