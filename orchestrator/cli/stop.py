"""`kchain stop`: launch no more sessions. Works beside a running kchain, and takes no lock."""

from __future__ import annotations

import click

from orchestrator.cli.options import HELP, load
from orchestrator.cli.show import open_journal
from orchestrator.files import ask_stop, is_stop_asked
from orchestrator.machine import Phase, State

NOTHING_RUNS = frozenset({Phase.UNBOUND, Phase.RECOVERING, Phase.IDLE, Phase.PUSHING})


@click.command(
    epilog="""\b
Examples:
  kchain stop           the session that runs is the last one
  kchain stop --undo    it is not
  kchain run            goes on later; it withdraws the stop too

What a stop cannot do is end a session that runs: Kaggle's call for that wants a number that
Kaggle tells no client. It goes on to its end or its time limit, and its hours count. kchain,
running or called by cron, then fetches, verifies and publishes its checkpoint as always, and
finishes with exit code 0.

To end it now, cancel its run on kaggle.com. What it had saved was kept wherever that was seen,
and kchain takes the newest checkpoint of it. Deleting the notebook ends it too, but its output
is lost; published checkpoints are not. kchain deletes nothing.
""",
    context_settings=HELP,
)
@click.option("--config", "given", metavar="FILE", help="The kchain.toml to use.")
@click.option("--local", is_flag=True, help="Stop the chain of `run --local`.")
@click.option("--undo", is_flag=True, help="Withdraw a stop that was asked for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(*, given: str | None, local: bool, undo: bool, as_json: bool) -> None:
    """Launch no more sessions after the one that runs; the chain then finishes by itself."""
    project = load(given)
    with open_journal(project, local=local) as journal:
        state = journal.state
    state_dir = project.state_dir(local=local)
    is_new = ask_stop(state_dir, wanted=not undo)
    message = _say_undone(is_new=is_new) if undo else _say(state)
    if not as_json:
        click.echo(f"chain {project.name}: {message}")
        return
    from orchestrator.cli.display import print_json  # noqa: PLC0415 - keeps stop quick

    push = state.push
    print_json(
        {
            "chain": project.name,
            "stop_asked": is_stop_asked(state_dir),
            "phase": state.phase.value,
            "session": None if state.phase in NOTHING_RUNS | {Phase.DONE} else state.session,
            "kernel_version": push.version if push else None,
            "message": message,
        }
    )


def _say_undone(*, is_new: bool) -> str:
    if not is_new:
        return "no stop was asked for; nothing has changed"
    return "the stop is withdrawn; `kchain run` or the next tick goes on"


def _say(state: State) -> str:
    """Return in words what will happen now, and what will not."""
    if state.phase is Phase.DONE:
        return f"it is finished already ({state.finish_reason}); nothing is launched any more"
    if state.phase is Phase.HALTED:
        return "it is halted already; no tick launches a session, not even with --retry"
    if state.phase in NOTHING_RUNS:
        return "no session is on Kaggle, and none will be pushed"
    session = f"session {state.session}"
    if state.phase is Phase.PUSH_UNKNOWN:
        return (
            f"{session} may have been pushed a moment ago; if it was, it is the last one, and is"
            " fetched and published when it ends"
        )
    if state.phase is Phase.LIVE:
        assert state.push is not None
        return (
            f"{session} is the last one. It goes on on Kaggle (kernel version"
            f" {state.push.version}) until it ends or reaches its limit, and its hours count:"
            " kchain cannot end it. Its checkpoint is fetched and published then, by the kchain that"
            " runs or by the next ticks"
        )
    return f"{session} is the last one: its checkpoint is still fetched and published"
