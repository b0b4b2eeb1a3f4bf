"""The command `kchain`: parse arguments, call one function, print its result.

Commands are imported when they are called, so that `kchain --help` stays quick.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from typing import Any

import click

from orchestrator.cli import crashes
from orchestrator.errors import KchainError

COMMANDS = {
    "init": ("orchestrator.cli.init", "Write a commented kchain.toml."),
    "run": ("orchestrator.cli.run", "Carry the training through its sessions, unattended."),
    "tick": ("orchestrator.cli.run", "Make all progress possible without waiting, then exit."),
    "status": ("orchestrator.cli.show", "Show where the chain stands."),
    "logs": ("orchestrator.cli.show", "Show the log of a session."),
    "stop": ("orchestrator.cli.stop", "Launch no more sessions after the one that runs."),
    "recover": ("orchestrator.cli.recover", "Rebuild a lost journal from what Kaggle holds."),
    "doctor": ("orchestrator.cli.doctor", "Check installation, credential and configuration."),
    "local": ("orchestrator.cli.local", "A local Kaggle to try everything on."),
}
DRIVING = {"run", "tick"}  # they are not done when their reader is gone
# What the machine lacks at this moment, and what its user can do about it.
LACKING = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EIO: "see to the disk",
    errno.EMFILE: "raise the limit on open files",
    errno.ENFILE: "end other programs",
    errno.EAGAIN: "end other programs",
    errno.ENOMEM: "end other programs",
}


class Commands(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; tell a known error in one line and leave with its exit code."""
        crashes.hide()
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "kchain"
            _leave(f"{error.format_message()} See `{command} --help`", 2)
        except KchainError as error:
            _leave(str(error), error.exit_code)
        except KeyboardInterrupt:
            _leave("interrupted; run the same command again to go on (a dry run starts anew)", 130)
        except BrokenPipeError:
            _leave_unheard(3 if ctx.invoked_subcommand in DRIVING else 0)
        except OSError as error:
            todo = LACKING.get(error.errno or 0)
            if error.filename is None and todo is None:
                raise
            _leave(
                f"{error.strerror}: {error.filename or 'this machine'};"
                f" {todo or 'check that this path can be written'}, and run the same command again:"
                " nothing was lost",
                3 if todo else 2,
            )


def printable(text: str) -> str:
    """Return text that a session or Kaggle sent, without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _leave(message: str, code: int) -> None:
    with contextlib.suppress(OSError):  # the code tells it all the same
        click.echo(f"kchain: {printable(message)}", err=True)
    sys.exit(code)


def _leave_unheard(code: int) -> None:
    """Leave when nobody reads our output: Python would try to write what is left of it."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    sys.exit(code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  kchain run --sessions 3 --dry-run     rehearse everything, no account needed
  kchain init my-run && cd my-run       write a configuration
  kchain run --sessions 3               the real thing
  kchain tick                           from cron: go on, then exit

Exit codes: 0 done; 1 internal error; 2 usage or configuration; 3 not finished, try later;
4 the chain failed or halted; 130 interrupted.
""",
)
@click.version_option(package_name="kchain")
def cli() -> None:
    """Carry a long training across Kaggle's 12-hour sessions.

    kchain pushes the training kernel, waits until its session ends, downloads and verifies the
    newest checkpoint, publishes it as a dataset version, and pushes again.
    """
