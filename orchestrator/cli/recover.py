"""`kchain recover`: rebuild a chain's journal from what Kaggle holds of it."""

from __future__ import annotations

import click

from orchestrator.cli import drive, workplace
from orchestrator.cli.display import Display
from orchestrator.cli.options import HELP, config_option
from orchestrator.cli.target import chosen


@click.command(
    epilog="""\b
Examples:
  kchain recover               after the laptop, or the folder .kchain, was lost
  kchain recover && kchain run

Needed are kchain.toml and the account's credential, nothing else. If the folder of a damaged
journal is still there, move it away first. Nothing on Kaggle is changed. If no session runs, it
takes as long as the settle time (15 minutes): what was sent last must have become visible.
A journal that was begun since, and never sent anything, is kept as journal.db.old; so is one
that halted because the account holds what does not follow from it.
It may be interrupted; the same command goes on.
""",
    context_settings=HELP,
)
@config_option
@click.option("--local", is_flag=True, help="Recover the chain of `run --local`.")
@click.option("--json", "as_json", is_flag=True, help="Print where the chain stands as JSON.")
def recover(*, given: str | None, local: bool, as_json: bool) -> None:
    """Rebuild a lost journal from the kernel versions and dataset versions on the account."""
    display = Display(to_stderr=as_json)
    drive.end_on_signals()
    with chosen(given, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(
            project, target, state_dir, display.event, journal_may_be_lost=True
        ) as place:
            while (wake := place.recover()) is not None:
                place.clock.sleep(wake - place.clock.now())
            drive.raise_if_halted(place.journal.state)
            drive.tell(place, display, as_json=as_json, hint="; `kchain run` goes on")
