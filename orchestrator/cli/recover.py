"""`kchain recover`: rebuild a chain's journal from what Kaggle holds of it."""

from __future__ import annotations

import click

from orchestrator import engine
from orchestrator.cli import workplace
from orchestrator.cli.display import Display, describe_phase, print_json
from orchestrator.cli.run import chosen, config_option, end_on_signals, raise_if_halted
from orchestrator.cli.workplace import Workplace
from orchestrator.report import summary


@click.command(
    epilog="""\b
Examples:
  kchain recover               after the laptop, or the folder .kchain, was lost
  kchain recover && kchain run

Needed are kchain.toml and the account's credential, nothing else. If the folder of a damaged
journal is still there, move it away first. Nothing on Kaggle is changed. If no session runs, it
takes as long as the settle time (15 minutes): what was sent last must have become visible.
A journal that was begun since, and never sent anything, is kept as journal.db.old.
It may be interrupted; the same command goes on.
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@config_option
@click.option("--local", is_flag=True, help="Recover the chain of `run --local`.")
@click.option("--json", "as_json", is_flag=True, help="Print where the chain stands as JSON.")
def recover(*, given: str | None, local: bool, as_json: bool) -> None:
    """Rebuild a lost journal from the kernel versions and dataset versions on the account."""
    display = Display(to_stderr=as_json)
    end_on_signals()
    with chosen(given, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(
            project, target, state_dir, display.event, journal_may_be_lost=True
        ) as place:
            while (wake := _recover(place)) is not None:
                place.clock.sleep(wake - place.clock.now())
            state = place.journal.state
            raise_if_halted(state)
            if as_json:
                planned = project.settings.chain.sessions
                print_json(summary(project.name, state, planned, place.journal.events))
                return
            display.line(f"{project.name}: {describe_phase(state)}; `kchain run` goes on")
            if state.head:
                display.line(f"checkpoints and history are in {project.output_dir}")


def _recover(place: Workplace) -> float | None:
    return engine.recover(
        place.project.settings,
        place.journal,
        place.kaggle,
        place.files,
        place.clock,
        place.rng,
        endpoint=place.target.binding,
    )
