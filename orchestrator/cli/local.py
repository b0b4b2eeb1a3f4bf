"""`kchain local`: a local Kaggle for people, and the official command against it."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click

from orchestrator.cli import local_settings
from orchestrator.cli.drive import ENDING_SIGNALS
from orchestrator.cli.fault import fault, state_option, tell_strikes
from orchestrator.cli.local_settings import settings_option
from orchestrator.cli.options import HELP
from orchestrator.cli.target import open_local
from orchestrator.emulator.client_env import client_environment
from orchestrator.emulator.server import Chaos
from orchestrator.emulator.settings import Settings

chaos_option = click.option(
    "--chaos",
    "seed",
    type=int,
    metavar="SEED",
    help="Misbehave at random in all known ways; the same seed, the same faults.",
)


@click.group(context_settings=HELP)
def local() -> None:
    """Try everything on a local Kaggle: no account, no network, no quota."""


local.add_command(fault)
local.add_command(local_settings.settings)


@local.command(
    epilog="""\b
Examples:
  kchain local serve --port 7777
  kchain local serve --chaos 7
  kchain local serve --set status_stale_seconds=30 --set layout=old
""",
    context_settings=HELP,
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0: any free port.")
@settings_option
@chaos_option
@state_option
def serve(*, port: int, settings: Settings, seed: int | None, state: Path) -> None:
    """Serve a local Kaggle until Ctrl-C, and print the variables that point a client at it."""
    asked_to_end = _asked_to_end()  # before anybody is told that it runs, and may end it
    with open_local(state, port, _chaos(seed), settings) as (url, token):
        click.echo(f"local Kaggle listens on {url}, state in {state.resolve()}\n")
        for name, value in client_environment(url, token, _home(state)).items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo("\nCtrl-C ends it; sessions that run go on, and the next start finds them.")
        asked_to_end.wait()
    click.echo("ended")


@local.command(
    name="exec",
    epilog="""\b
Examples:
  kchain local exec -- kaggle datasets list --mine
  kchain local exec -- kaggle kernels status local/kchain-my-run
  kchain local exec --chaos 7 -- kaggle datasets list --mine
""",
    context_settings={**HELP, "ignore_unknown_options": True},
)
@settings_option
@chaos_option
@state_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(*, settings: Settings, seed: int | None, state: Path, command: tuple[str, ...]) -> None:
    """Run a command against the local Kaggle, with a scratch HOME and an issued token."""
    with open_local(state, chaos=_chaos(seed), settings=settings) as (url, token):
        environment = client_environment(url, token, _home(state))
        beside = Path(sys.executable).parent / command[0]
        program = str(beside) if beside.exists() else shutil.which(command[0])
        if program is None:
            raise click.UsageError(f"there is no command {command[0]!r}")
        done = subprocess.run([program, *command[1:]], env=environment, check=False)
        if seed is not None:
            tell_strikes(state)
    # as a shell tells of a command that a signal killed
    sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def _asked_to_end() -> threading.Event:
    """Set once a signal asks for the end; unlike an exception, it finds nothing half opened."""
    asked = threading.Event()
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda _number, _frame: asked.set())
    return asked


def _chaos(seed: int | None) -> Chaos | None:
    return None if seed is None else Chaos(seed)


def _home(state: Path) -> Path:
    home = (state / "home").resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home
