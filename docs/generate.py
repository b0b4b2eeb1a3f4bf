"""Writes the pages that are made from the code: `make docs`. A test fails when they are stale."""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.cli import COMMANDS, cli  # noqa: E402 - found through the line above
from orchestrator.machine import TERMINAL, TRANSITIONS  # noqa: E402


def cli_page() -> str:
    """Return every command's help as one page."""
    parts = ["# Commands\n\nMade from `--help` by `make docs`.\n", _help(cli, "kchain")]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts += _helps(command, f"kchain {name}")
    return "\n".join(parts)


def _helps(command: click.Command, path: str) -> list[str]:
    """Return the help of a command and of those below it."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [_help(command, path), *(h for name, c in below for h in _helps(c, f"{path} {name}"))]


def _help(command: click.Command, path: str) -> str:
    settings = {**command.context_settings, "terminal_width": 96, "max_content_width": 96}
    context = click.Context(command, info_name=path, **settings)
    return f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def machine_page() -> str:
    """Return the transition table, drawn and written out."""
    lines = [
        "# The state machine\n",
        "Made from `orchestrator/machine.py` by `make docs`.",
        "Every phase follows from one row; an event that has no row is refused and changes nothing.\n",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> unbound",
    ]
    for phase, row in TRANSITIONS.items():
        for kind, follows in row.items():
            if follows not in (phase, None) and kind.value != "halted":
                lines.append(f"    {phase.value} --> {follows.value}: {kind.value}")
    lines += [f"    {phase.value} --> [*]" for phase in sorted(TERMINAL)]
    lines += [
        "```\n",
        "From every phase between `idle` and `published`, `halted` leads to `halted`;",
    ]
    lines += ["`retried` leads back to the phase in which the chain halted.\n"]
    lines += ["| phase | events that keep it | events that end it |", "| --- | --- | --- |"]
    for phase, row in TRANSITIONS.items():
        stays = ", ".join(kind.value for kind, follows in row.items() if follows is phase)
        moves = ", ".join(kind.value for kind, follows in row.items() if follows is not phase)
        lines.append(f"| `{phase.value}` | {stays} | {moves} |")
    return "\n".join(lines) + "\n"


PAGES = {"docs/cli.md": cli_page, "docs/machine.md": machine_page}


if __name__ == "__main__":
    for name, render in PAGES.items():
        (ROOT / name).write_text(render(), encoding="utf-8")
        print(f"wrote {name}")
