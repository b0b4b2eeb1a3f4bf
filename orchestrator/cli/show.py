"""`kchain status` and `kchain logs`: look, and change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from orchestrator import report
from orchestrator.cli.options import HELP, config_option, load
from orchestrator.clock import SystemClock
from orchestrator.config import Project
from orchestrator.errors import ConfigError
from orchestrator.files import is_stop_asked
from orchestrator.journal import Journal
from orchestrator.machine import Phase, State

local_option = click.option("--local", is_flag=True, help="Show the chain of `run --local`.")


@click.command(
    epilog="""\b
Examples:
  kchain status
  kchain status --json | jq .head.step
""",
    context_settings=HELP,
)
@config_option
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, given: str | None, local: bool, as_json: bool) -> None:
    """Show where the chain stands. Reads the journal only, never Kaggle."""
    project = load(given)
    with open_journal(project, local=local) as journal:
        planned = project.settings.chain.sessions
        stop = is_stop_asked(project.state_dir(local=local))
        body = report.summary(
            project.name, journal.state, planned, journal.events, is_stop_asked=stop
        )
        if as_json:
            from orchestrator.cli.display import print_json  # noqa: PLC0415 - keeps status quick

            print_json(body)
            return
        click.echo(_describe(project, journal.state))
        if stop:
            click.echo("stop: asked for, no more sessions are launched; `kchain run` goes on")
        if rows := report.rows(journal.events):
            # Imported here so that a status without tables is quick.
            from orchestrator.cli.display import Screen, closing_tables  # noqa: PLC0415

            Screen(highlight=False, soft_wrap=True).print(closing_tables(rows))


@click.command(
    epilog="""\b
Examples:
  kchain logs               the session that runs now, live; else the newest that ended
  kchain logs --version 2   the session of kernel version 2
""",
    context_settings=HELP,
)
@config_option
@local_option
@click.option("--version", type=click.IntRange(1), metavar="N", help="The kernel version.")
def logs(*, given: str | None, local: bool, version: int | None) -> None:
    """Show a session's log as Kaggle has it; live while the session runs."""
    # Imported here so that a status is quick.
    from orchestrator.cli.target import LOCAL_STATE, local_target, real_target  # noqa: PLC0415
    from orchestrator.cli.workplace import read_log  # noqa: PLC0415

    project = load(given)
    with open_journal(project, local=local) as journal:
        state = journal.state
    wanted = version or (state.push and state.push.version) or state.kernel_version
    if not wanted:
        raise ConfigError(f"chain {project.name!r} has not pushed a session yet; see `kchain run`")
    with contextlib.ExitStack() as stack:
        if local:
            target = stack.enter_context(local_target(project.folder / LOCAL_STATE))
        else:
            target = real_target(project)
        for line in read_log(project, target, wanted):
            click.echo(line.encode("utf-8", "replace"), nl=False)


@contextlib.contextmanager
def open_journal(project: Project, *, local: bool) -> Iterator[Journal]:
    """Open the chain's journal for reading, whoever is driving the chain."""
    path = project.state_dir(local=local) / "journal.db"
    if not path.exists():
        raise ConfigError(
            f"chain {project.name!r} has no journal at {path}; `kchain run` makes"
            " it, and if it was lost, `kchain recover` rebuilds it"
        )
    with Journal(path, project.name, SystemClock(), read_only=True) as journal:
        yield journal


def _describe(project: Project, state: State) -> str:
    from orchestrator.cli.display import describe_phase  # noqa: PLC0415 - keeps logs quick

    planned = project.settings.chain.sessions
    done = report.progress(state.heads, planned)
    lines = [f"chain {project.name}: {done}, {describe_phase(state)}"]
    if state.head:
        checkpoint = state.head.checkpoint
        lines.append(
            f"head: {checkpoint.file}, step {checkpoint.step}, sha256 {checkpoint.sha256[:12]},"
            f" dataset version {state.head.version}"
        )
    if state.wait_message:
        lines.append(f"last wait: {state.wait_message}")
    if state.phase is Phase.HALTED:
        lines.append(f"halted ({state.halt_code}): {state.halt_message}")
    return "\n".join(lines)
