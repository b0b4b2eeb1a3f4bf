"""`kchain run` and `kchain tick`: drive a chain, with or without waiting."""

from __future__ import annotations

import sys

import click

from orchestrator import engine
from orchestrator.cli import drive, workplace
from orchestrator.cli.display import Display, describe_phase
from orchestrator.cli.options import HELP, config_option
from orchestrator.cli.rehearsal import rehearse
from orchestrator.cli.target import chosen

sessions_option = click.option(
    "--sessions",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="The chain's total of sessions. Running again never adds any.",
)
local_option = click.option("--local", is_flag=True, help="Use the local Kaggle of this folder.")
retry_option = click.option("--retry", is_flag=True, help="Let a halted chain go on.")


@click.command(
    epilog="""\b
Examples:
  kchain run --sessions 3 --dry-run   a full rehearsal, no account needed
  kchain run --sessions 3             the real thing; Ctrl-C and run again at any time
  kchain run --local                  your configuration against a local Kaggle
""",
    context_settings=HELP,
)
@config_option
@sessions_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Rehearse everything on an embedded local Kaggle with a tiny training.",
)
@local_option
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing report as JSON.")
def run(
    *,
    given: str | None,
    sessions: int | None,
    dry_run: bool,
    local: bool,
    retry: bool,
    as_json: bool,
) -> None:
    """Carry the training through its sessions, unattended."""
    if dry_run and (local or retry):
        raise click.UsageError("--dry-run stands alone: it uses a scratch folder of its own")
    display = Display(to_stderr=as_json)
    drive.end_on_signals()
    if dry_run:
        rehearse(display, given, sessions, as_json=as_json)
        return
    with chosen(given, sessions, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(project, target, state_dir, display.event) as place:
            if retry:
                engine.retry(place.journal)
            if place.files.withdraw_stop():
                display.line("a stop was asked for; this run goes on, and withdraws it")
            drive.until_done(place, display)
            drive.close(place, display, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  kchain tick                               go on as far as possible, then exit
  */10 * * * * cd ~/my-run && kchain tick   from cron

Exit code 3 means: not finished, call again later.
""",
    context_settings=HELP,
)
@config_option
@sessions_option
@local_option
@retry_option
def tick(*, given: str | None, sessions: int | None, local: bool, retry: bool) -> None:
    """Make all progress that is possible without waiting, then exit."""
    display = Display()
    drive.end_on_signals()
    with chosen(given, sessions, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(project, target, state_dir, display.event) as place:
            if retry:
                engine.retry(place.journal)
            wake = place.tick()
            if wake is not None:
                state = place.journal.state
                why = state.wait_message or describe_phase(state)
                display.line(f"not finished: {why}; call again later")
                sys.exit(3)
            drive.raise_if_halted(place.journal.state)
            if place.files.is_stop_asked():
                display.line(f"{project.name}: {describe_phase(place.journal.state)}")
