"""Which Kaggle a command talks to: the real one, or a local one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from orchestrator import config
from orchestrator.cli.options import load
from orchestrator.config import Project
from orchestrator.emulator.server import Chaos, LocalKaggle, PortTaken, StateLocked, StateUnreadable
from orchestrator.emulator.server import Settings as LocalSettings
from orchestrator.errors import ConfigError, MissingExtra, NotNow
from orchestrator.kaggle import credentials
from orchestrator.kaggle.child import Credential

LOCAL_STATE = Path(".kchain") / "local" / "kaggle"  # beside kchain.toml
LOCAL = "local Kaggle"  # what a chain on local Kaggle is bound to: the port changes
# Local Kaggle answers at once; nothing is gained by Kaggle's own patience.
LOCAL_TIMING = {
    "poll_seconds": 0.5,
    "settle_seconds": 10.0,
    "read_gap_seconds": 1.0,
    "grace_seconds": 30.0,
    "retry_seconds": 2.0,
}
TRAIN_PACKAGES = ("torch", "datasets", "tokenizers", "transformers", "papermill", "ipykernel")


@dataclass(frozen=True, slots=True)
class Target:
    """Which Kaggle a command talks to, and with which credential."""

    endpoint: str
    binding: str
    credential: Credential


@contextlib.contextmanager
def chosen(
    given: str | None, sessions: int | None = None, *, local: bool
) -> Iterator[tuple[Project, Target]]:
    """Yield the configuration and the Kaggle that the options ask for."""
    project = load(given, {"chain.sessions": sessions})
    if not local:
        yield project, real_target(project)
        return
    need_training_packages()
    project = for_local(project)
    with local_target(project.folder / LOCAL_STATE) as target:
        yield project, target


def for_local(project: Project) -> Project:
    """Return the same project with local Kaggle's pace, on the CPU unless it names a GPU.

    Local Kaggle pretends to have GPUs and meters them, but the CPU does the training.
    """
    kernel = project.settings.kernel
    if kernel.accelerator == "auto":
        kernel = kernel.model_copy(update={"accelerator": "none"})
    changes = {
        "timing": project.settings.timing.model_copy(update=LOCAL_TIMING),
        "kernel": kernel,
    }
    settings = project.settings.model_copy(update=changes)
    return Project(settings, project.folder, project.file)


def need_training_packages() -> None:
    """Local Kaggle really trains, so it needs what a Kaggle session has."""
    missing = [name for name in TRAIN_PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"local Kaggle really trains and needs {', '.join(missing)};"
            ' install them with: pip install "kchain[train]"'
        )


def real_target(project: Project) -> Target:
    """Return the Kaggle that the configuration names, with the user's own credential."""
    endpoint = project.settings.kaggle.endpoint
    return Target(endpoint, endpoint, credentials.find(config.environment(), Path.home()))


@contextlib.contextmanager
def local_target(state_dir: Path) -> Iterator[Target]:
    """Start a local Kaggle for the duration of a command, or use the one that is running."""
    with open_local(state_dir) as (url, token):
        yield Target(url, LOCAL, credentials.from_token(token, "local Kaggle"))


@contextlib.contextmanager
def open_local(
    state_dir: Path,
    port: int = 0,
    chaos: Chaos | None = None,
    settings: LocalSettings = LocalSettings(),  # noqa: B008 - it is frozen
) -> Iterator[tuple[str, str]]:
    """Yield the URL and a token of the local Kaggle that keeps its state in `state_dir`."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        local = LocalKaggle(state_dir, port=port, settings=settings, chaos=chaos)
    except PortTaken as error:
        raise ConfigError(error.strerror or str(error)) from error
    except StateLocked:
        url, token = running_local(state_dir)
        if port or chaos or settings != LocalSettings():
            raise NotNow(f"a local Kaggle listens on {url} already, with this state") from None
        yield url, token
        return
    except (StateUnreadable, ValueError) as error:
        raise ConfigError(f"the local Kaggle's state in {state_dir} is damaged: {error}") from error
    with local:
        yield local.url, local.token


def running_local(state_dir: Path) -> tuple[str, str]:
    """Return the URL and a token of the local Kaggle that another process keeps running."""
    try:
        url = json.loads((state_dir / "server.json").read_text())["url"]
        token = json.loads((state_dir / "account.json").read_text())["token"]
    except (OSError, ValueError, KeyError):
        raise NotNow(
            f"the local Kaggle in {state_dir} is just starting or ending; try again"
        ) from None
    return url, token
