"""`kchain run` and `kchain tick`: drive a chain, with or without waiting."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from orchestrator import config, contract, engine, kernel, report
from orchestrator.cli import workplace
from orchestrator.cli.display import Display, describe_phase, print_json
from orchestrator.cli.workplace import LOCAL_TIMING, Target, Workplace
from orchestrator.config import Project
from orchestrator.emulator.server import LocalKaggle
from orchestrator.errors import ChainError, MissingExtra, NotNow
from orchestrator.kaggle import credentials
from orchestrator.kaggle.port import Trouble, Unreadable
from orchestrator.machine import Phase, State

STOP_LOOK_SECONDS = 2.0  # between two looks for a stop while a push is waited for
AFTER_LOG_SECONDS = 0.3  # a log that ended means a session that is about to end
# SIGINT too: a shell starts its background jobs with Ctrl-C ignored.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TRAIN_PACKAGES = ("torch", "datasets", "tokenizers", "transformers", "papermill", "ipykernel")

config_option = click.option(
    "--config", "given", metavar="FILE", help="The kchain.toml to use; default: ./kchain.toml."
)
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
    context_settings={"help_option_names": ["-h", "--help"]},
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
    end_on_signals()
    if dry_run:
        _dry_run(display, given, sessions, as_json=as_json)
        return
    with chosen(given, sessions, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(project, target, state_dir, display.event) as place:
            if retry:
                engine.retry(place.journal)
            if place.files.withdraw_stop():
                display.line("a stop was asked for; this run goes on, and withdraws it")
            _until_done(place, display)
            _close(place, display, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  kchain tick                               go on as far as possible, then exit
  */10 * * * * cd ~/my-run && kchain tick   from cron

Exit code 3 means: not finished, call again later.
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@config_option
@sessions_option
@local_option
@retry_option
def tick(*, given: str | None, sessions: int | None, local: bool, retry: bool) -> None:
    """Make all progress that is possible without waiting, then exit."""
    display = Display()
    end_on_signals()
    with chosen(given, sessions, local=local) as (project, target):
        state_dir = project.state_dir(local=local)
        with workplace.opened(project, target, state_dir, display.event) as place:
            if retry:
                engine.retry(place.journal)
            wake = _tick(place)
            if wake is not None:
                state = place.journal.state
                why = state.wait_message or describe_phase(state)
                display.line(f"not finished: {why}; call again later")
                sys.exit(3)
            raise_if_halted(place.journal.state)
            if place.files.is_stop_asked():
                display.line(f"{project.name}: {describe_phase(place.journal.state)}")


def _tick(place: Workplace) -> float | None:
    return engine.tick(
        place.project.settings,
        place.journal,
        place.kaggle,
        place.files,
        place.clock,
        place.rng,
        endpoint=place.target.binding,
        template=place.project.template_dir,
    )


def _until_done(place: Workplace, display: Display) -> None:
    """Tick, and sleep in between; while a session runs, show its log."""
    with contextlib.closing(_Watch(place, display)) as watch:
        while (wake := _tick(place)) is not None:
            _refuse_ended_local(place)
            watch.wait(wake - place.clock.now())
    display.quiet()


def _refuse_ended_local(place: Workplace) -> None:
    """A local Kaggle that another process kept may end; its address does not come back."""
    state = place.journal.state
    if place.target.binding != workplace.LOCAL or state.wait_reason != Trouble.NETWORK:
        return
    # The journal may still tell of a trouble that is over: ask before believing it.
    if isinstance(place.kaggle.quota(), Unreadable):
        raise NotNow("the local Kaggle has ended; run the same command again to go on")


class _Watch:
    """Follows the live log of the running session and cuts the wait short when it ends."""

    def __init__(self, place: Workplace, display: Display) -> None:
        self._place, self._display = place, display
        self._log_ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._follower: Any = None
        self._seen: dict[int, int] = {}

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the log of the running session ends."""
        self._start()
        if self._may_stop():
            self._wait_for_stop(seconds)
        elif self._log_ended.wait(max(0.0, seconds)):
            self._log_ended.clear()
            self._place.clock.sleep(min(AFTER_LOG_SECONDS, max(0.0, seconds)))

    def _may_stop(self) -> bool:
        return self._place.journal.state.phase in engine.BEFORE_A_PUSH

    def _wait_for_stop(self, seconds: float) -> None:
        """Sleep before a push, for days perhaps, but notice soon that nobody wants it any more."""
        clock = self._place.clock
        until = clock.now() + seconds
        while (left := until - clock.now()) > 0 and not self._place.files.is_stop_asked():
            clock.sleep(min(left, STOP_LOOK_SECONDS))

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        if self._thread is not None:
            self._thread.join()
        self._display.quiet()

    def _start(self) -> None:
        state = self._place.journal.state
        running = state.phase is Phase.LIVE and state.push and state.push.running_age
        if not running or (self._thread is not None and self._thread.is_alive()):
            return
        assert state.push is not None
        assert state.push.version is not None
        slug = self._place.project.settings.kernel_slug
        self._follower = self._place.kaggle.follow(slug, state.push.version)
        thread = threading.Thread(
            target=self._follow, args=(state.session, state.push.version), daemon=True
        )
        with contextlib.suppress(RuntimeError):  # no thread to be had: the log is not shown
            thread.start()
            self._thread = thread

    def _follow(self, session: int, version: int) -> None:
        """Show new lines; each connection replays the log from its start."""
        known = self._seen.get(version, 0)
        # OSError: no process to be had, or nobody reads what is shown; the main thread meets it too.
        with contextlib.suppress(OSError), contextlib.closing(self._follower):
            for count, entry in enumerate(self._follower, start=1):
                if count > known:
                    self._seen[version] = count
                    for line in str(entry.get("data", "")).splitlines():
                        self._display.progress(session, line)
        if self._seen.get(version, 0) > known:
            self._log_ended.set()


def _close(place: Workplace, display: Display, *, as_json: bool) -> None:
    """Print the closing table and leave with the chain's exit code."""
    journal = place.journal
    if as_json:
        planned = place.project.settings.chain.sessions
        stop = place.files.is_stop_asked()
        name, events = place.project.name, journal.events
        print_json(report.summary(name, journal.state, planned, events, is_stop_asked=stop))
    else:
        display.table(report.rows(journal.events))
        display.line(f"{place.project.name}: {describe_phase(journal.state)}")
        if journal.state.head and place.project.file:
            display.line(f"checkpoints and history are in {place.project.output_dir}")
    raise_if_halted(journal.state)


def raise_if_halted(state: State) -> None:
    """Leave with the reason of a halt, if there is one."""
    if state.phase is Phase.HALTED:
        raise ChainError(f"the chain is halted ({state.halt_code}): {state.halt_message}")


@contextlib.contextmanager
def chosen(
    given: str | None, sessions: int | None = None, *, local: bool
) -> Iterator[tuple[Project, Target]]:
    """Yield the configuration and the Kaggle that the options ask for."""
    project = workplace.load(given, {"chain.sessions": sessions})
    if not local:
        yield project, workplace.real_target(project)
        return
    _need_training_packages()
    project = _for_local(project)
    state_dir = project.folder / ".kchain" / "local" / "kaggle"
    with workplace.local_target(state_dir) as target:
        yield project, target


def _for_local(project: Project) -> Project:
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


def _dry_run(display: Display, given: str | None, sessions: int | None, *, as_json: bool) -> None:
    """Rehearse on scratch state; with a kchain.toml, validate and render it first."""
    _need_training_packages()
    flags: dict[str, Any] = {"chain.sessions": sessions}
    if given or (Path.cwd() / config.FILE_NAME).exists():
        project = workplace.load(given, flags)
        flags = {"chain.sessions": project.settings.chain.sessions}
        display.line(_check_real_notebook(project))
    scratch = Path(tempfile.mkdtemp(prefix="kchain-dry-run-"))
    project = _for_local(config.rehearsal(scratch, {**flags, **_rehearsal_flags(flags)}))
    planned = project.settings.chain.sessions
    display.line(f"dry run: {planned} sessions on an embedded local Kaggle, in {scratch}")
    with LocalKaggle(scratch / "kaggle", port=0) as local:
        try:
            credential = credentials.from_token(local.token, "local Kaggle")
            target = Target(local.url, workplace.LOCAL, credential)
            with workplace.opened(project, target, scratch / "state", display.event) as place:
                _until_done(place, display)
                _close(place, display, as_json=as_json)
                if place.journal.state.heads != planned:
                    raise ChainError(
                        f"only {place.journal.state.heads} of {planned} sessions chained;"
                        f" everything is kept in {scratch}"
                    )
        except KeyboardInterrupt:
            local.close(kill_sessions=True)
            shutil.rmtree(scratch)
            raise
        finally:
            local.close(kill_sessions=True)
    shutil.rmtree(scratch)
    display.line(f"dry run passed: {planned} sessions chained")


def _rehearsal_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Let the rehearsal's training last exactly as many sessions as were asked for."""
    preset = json.loads(contract.template_text("presets.json"))["rehearsal"]
    sessions = flags["chain.sessions"] or 3
    steps = preset["steps_per_session"] * sessions
    # Scratch state is locked by nobody else, wherever this machine keeps temporary files.
    return {"training.overrides": {"max_steps": steps}, "chain.force_folder": True}


def _check_real_notebook(project: Project) -> str:
    """Render the notebook that the real configuration would push; say its size."""
    settings = project.settings
    parameters = kernel.session_parameters(
        settings,
        State(),
        token="kc1." + "a" * 26,
        seconds=settings.kernel.time_budget_seconds,
    )
    source = kernel.render(parameters, project.template_dir)
    return (
        f"{project.file} is valid: kernel {settings.kernel_slug}, dataset"
        f" {settings.dataset_slug}, notebook of {len(source.encode()):,} bytes"
    )


def _need_training_packages() -> None:
    """Local Kaggle really trains, so it needs what a Kaggle session has."""
    from importlib.util import find_spec  # noqa: PLC0415 - for this one question

    missing = [name for name in TRAIN_PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"local Kaggle really trains and needs {', '.join(missing)};"
            ' install them with: pip install "kchain[train]"'
        )


def end_on_signals() -> None:
    """Let SIGTERM and a closed terminal end a command as Ctrl-C does: tidily."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in ENDING_SIGNALS:
        signal.signal(number, interrupt)
