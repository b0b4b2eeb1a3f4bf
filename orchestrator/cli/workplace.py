"""Opens what a command works on: configuration, lock, journal, disk and Kaggle."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from orchestrator import config, kernel, leaks
from orchestrator.cli.folders import refuse_shared
from orchestrator.clock import SystemClock
from orchestrator.config import Project
from orchestrator.disk import Disk
from orchestrator.emulator.server import Chaos, LocalKaggle, PortTaken, StateLocked, StateUnreadable
from orchestrator.emulator.server import Settings as LocalSettings
from orchestrator.errors import ConfigError, JournalError, NotNow
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi, parse_log
from orchestrator.kaggle.child import Credential
from orchestrator.kaggle.port import Gone, Trouble, Unreadable
from orchestrator.machine import Event, State

Listener = Callable[[Event, State], None]
LOCAL = "local Kaggle"  # what a chain on local Kaggle is bound to: the port changes
# Local Kaggle answers at once; nothing is gained by Kaggle's own patience.
LOCAL_TIMING = {
    "poll_seconds": 0.5,
    "settle_seconds": 10.0,
    "read_gap_seconds": 1.0,
    "grace_seconds": 30.0,
    "retry_seconds": 2.0,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Which Kaggle a command talks to, and with which credential."""

    endpoint: str
    binding: str
    credential: Credential


@dataclass(frozen=True, slots=True)
class Workplace:
    """A chain, opened and locked."""

    project: Project
    target: Target
    journal: Journal
    kaggle: KaggleApi
    files: Files
    clock: SystemClock
    rng: random.Random


def load(given: str | None, flags: dict[str, Any] | None = None) -> Project:
    """Read the configuration that a command is called with or beside."""
    return config.load(config.find_file(given, Path.cwd()), config.environment(), flags)


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


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock; it dies with the process."""
    Disk().make_folders(state_dir, 0o700)
    lock = FileLock(state_dir / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise NotNow(f"another kchain is working on {state_dir}; it will go on by itself") from None
    if isinstance(lock, SoftFileLock):  # what it turns into where there is nothing better
        lock.release()
        raise ConfigError(f"{state_dir} is on a file system without locks; use a local disk")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def opened(
    project: Project,
    target: Target,
    state_dir: Path,
    on_event: Listener,
    *,
    journal_may_be_lost: bool = False,
) -> Iterator[Workplace]:
    """Open a chain for driving: lock, journal, disk, and a client whose credential works."""
    refuse_shared(state_dir, force=project.settings.chain.force_folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(state_dir))
        clock = SystemClock()
        journal = stack.enter_context(
            Journal(state_dir / "journal.db", project.name, clock, on_event=on_event)
        )
        files = Files(state_dir, project.output_dir)
        if not journal_may_be_lost:
            _refuse_lost_journal(journal, files)
        kaggle = stack.enter_context(KaggleApi(target.endpoint, target.credential))
        try:
            check_credential(kaggle, target)
        except NotNow:
            if journal.state.binding is None:
                raise  # else the engine waits until Kaggle answers again, as at any other time
        _refuse_own_credential(project, target, journal.state)
        yield Workplace(project, target, journal, kaggle, files, clock, random.SystemRandom())


def _refuse_own_credential(project: Project, target: Target, state: State) -> None:
    """Render what would be pushed next: the credential in use may look like anything."""
    settings = project.settings
    seconds = settings.kernel.time_budget_seconds
    told = kernel.session_parameters(settings, state, token="kc1." + "a" * 26, seconds=seconds)
    if secret := leaks.find(kernel.render(told, project.template_dir), target.credential.secrets):
        raise ConfigError(
            f"the notebook holds {secret}: nothing was sent. A session needs no credential;"
            f" remove it from {project.template_dir or project.file}"
        )


def _refuse_lost_journal(journal: Journal, files: Files) -> None:
    """Verified checkpoints without a journal: it was lost, and a new one knows nothing."""
    if not journal.events and files.has_checkpoints():
        raise JournalError(
            f"the journal {journal.path} is empty, yet {files.state_dir} holds its checkpoints:"
            " `kchain recover` rebuilds it from Kaggle; a new chain needs its own name"
        )


def check_credential(kaggle: KaggleApi, target: Target) -> str:
    """Return the account's name, or say in one line why Kaggle cannot be used now."""
    owner = kaggle.identity()
    if isinstance(owner, str):
        return owner
    if owner.trouble is Trouble.AUTH:
        raise ConfigError(
            f"Kaggle refused the credential from {target.credential.source} ({owner.message});"
            f" {credentials.HELP}"
        )
    raise NotNow(f"{target.endpoint} does not answer ({owner.message}); try again later")


def read_log(project: Project, target: Target, version: int) -> Iterator[str]:
    """Yield the log of one kernel version's session, live while it runs."""
    slug = project.settings.kernel_slug
    with KaggleApi(target.endpoint, target.credential) as kaggle:
        check_credential(kaggle, target)
        info = kaggle.session(slug, version)
        if isinstance(info, Gone):
            raise ConfigError(f"kernel {slug} has no version {version}: {info.message}")
        if isinstance(info, Unreadable):
            raise NotNow(f"the session of {slug} version {version}: {info.message}; try again")
        if info.status.is_terminal:
            text = kaggle.log(slug, version)
            entries = parse_log(text) if isinstance(text, str) else ()
            yield from (str(entry.get("data", "")) for entry in entries)
            return
        with contextlib.closing(kaggle.follow(slug, version)) as follower:
            yield from (str(entry.get("data", "")) for entry in follower)


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
