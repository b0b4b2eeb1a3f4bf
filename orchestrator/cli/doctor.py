"""`kchain doctor`: what is installed, whose credential this is, and does Kaggle answer."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import click

from orchestrator import config
from orchestrator.cli.display import print_json
from orchestrator.cli.options import HELP, load
from orchestrator.cli.target import TRAIN_PACKAGES, Target
from orchestrator.cli.workplace import check_credential
from orchestrator.config import Project
from orchestrator.errors import KchainError
from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.child import Credential
from orchestrator.model import Quota

T = TypeVar("T")
Check = tuple[str, bool | None, str]  # name, fine (None: not needed), what was found


@click.command(
    epilog="""\b
Examples:
  kchain doctor
  kchain doctor --json
""",
    context_settings=HELP,
)
@click.option("--config", "given", metavar="FILE", help="The kchain.toml to check.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, given: str | None, as_json: bool) -> None:
    """Check installation, configuration, credential and Kaggle; change nothing."""
    checks = [_python(), _client(), _extra()]
    project = _checked(checks, "configuration", lambda: load(given), _say_project)
    endpoint = project.settings.kaggle.endpoint if project else config.PRODUCTION
    credential = _checked(
        checks,
        "credential",
        lambda: credentials.find(config.environment(), Path.home()),
        lambda found: f"found in {found.source}",
    )
    if credential:
        _checked(checks, "Kaggle", lambda: _account(endpoint, credential), str)
    if as_json:
        print_json([{"check": name, "ok": fine, "found": text} for name, fine, text in checks])
    else:
        for name, fine, text in checks:
            mark = {True: "ok", False: "no", None: "--"}[fine]
            click.echo(f"{mark}  {name:<14} {text}")
    if any(fine is False for _, fine, _ in checks):
        sys.exit(2)


def _checked(
    checks: list[Check], name: str, find: Callable[[], T], say: Callable[[T], str]
) -> T | None:
    """Add a check that may fail with an error of ours; return what it found."""
    try:
        found = find()
    except KchainError as error:
        checks.append((name, False, str(error)))
        return None
    checks.append((name, True, say(found)))
    return found


def _python() -> Check:
    fine = sys.version_info >= (3, 11)
    return ("Python", fine, f"{platform.python_version()} at {sys.executable}")


def _client() -> Check:
    try:
        return ("kaggle", True, f"client {version('kaggle')}, kagglesdk {version('kagglesdk')}")
    except PackageNotFoundError:
        return ("kaggle", False, 'missing; pip install "kchain"')


def _extra() -> Check:
    found, missing = [], []
    for name in TRAIN_PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        text = f"missing {', '.join(missing)}; only --dry-run and --local need them"
        return ("extra train", None, text)
    return ("extra train", True, ", ".join(found))


def _say_project(project: Project) -> str:
    settings = project.settings
    return (
        f"{project.file}: kernel {settings.kernel_slug}, dataset {settings.dataset_slug},"
        f" preset {settings.training.preset}"
    )


def _account(endpoint: str, credential: Credential) -> str:
    target = Target(endpoint, endpoint, credential)
    with KaggleApi(endpoint, credential) as kaggle:
        owner = check_credential(kaggle, target)
        left = kaggle.quota()
    quota = ""
    if isinstance(left, Quota):
        quota = f", {left.remaining_seconds / 3600:.1f} GPU hours left this week"
    return f"{endpoint} answers; the credential is {owner}'s{quota}"
