"""Opens what a command works on: configuration, lock, journal, disk and Kaggle."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from orchestrator import engine, kernel, leaks
from orchestrator.cli import crashes
from orchestrator.cli.folders import refuse_shared
from orchestrator.cli.target import Target
from orchestrator.clock import SystemClock
from orchestrator.config import Project, Settings
from orchestrator.disk import Disk
from orchestrator.errors import ConfigError, JournalError, NotNow
from orchestrator.files import Files
from orchestrator.journal import Journal
from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi, parse_log
from orchestrator.kaggle.port import Gone, Trouble, Unreadable
from orchestrator.machine import Event, State

Listener = Callable[[Event, State], None]


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

    def tick(self) -> float | None:
        """Make all progress that is possible without waiting."""
        template = self.project.template_dir
        return engine.tick(*self._seams, endpoint=self.target.binding, template=template)

    def recover(self) -> float | None:
        """Go on with rebuilding a lost journal."""
        return engine.recover(*self._seams, endpoint=self.target.binding)

    @property
    def _seams(self) -> tuple[Settings, Journal, KaggleApi, Files, SystemClock, random.Random]:
        settings = self.project.settings
        return settings, self.journal, self.kaggle, self.files, self.clock, self.rng


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
    secrets = target.credential.secrets
    crashes.hide(secrets)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(state_dir))
        clock = SystemClock()
        journal = stack.enter_context(
            Journal(
                state_dir / "journal.db",
                project.name,
                clock,
                on_event=on_event,
                clean=partial(leaks.redact, own=secrets),
            )
        )
        files = Files(state_dir, project.output_dir)
        if not journal_may_be_lost:
            _refuse_lost_journal(journal, files)
        homes = _empty_homes(state_dir)
        kaggle = stack.enter_context(KaggleApi(target.endpoint, target.credential, homes=homes))
        try:
            check_credential(kaggle, target)
        except NotNow:
            if journal.state.binding is None:
                raise  # else the engine waits until Kaggle answers again, as at any other time
        _refuse_own_credential(project, target, journal.state)
        yield Workplace(project, target, journal, kaggle, files, clock, random.SystemRandom())


def _empty_homes(state_dir: Path) -> Path:
    """Return where workers live; what is there was left when a worker and its kchain were killed."""
    homes = state_dir / "workers"
    shutil.rmtree(homes, ignore_errors=True)  # such a worker may be tidying up this very moment
    Disk().make_folders(homes, 0o700)
    return homes


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
