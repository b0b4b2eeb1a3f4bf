"""Writes the pages that are made from the code: `make docs`. A test fails when they are stale."""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from docs import facts  # noqa: E402 - found through the line above
from orchestrator.cli import COMMANDS, cli  # noqa: E402
from orchestrator.emulator.catalogue import CATALOGUE, Entry  # noqa: E402
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


FAULTS_HEAD = """\
# Faults

Made from `orchestrator/emulator/catalogue.py` by `make docs`.
Everything that Kaggle, its storage or the network is known to do wrong is a switch of local Kaggle, and every switch has a name.

## Plant them

```sh
kchain local serve                            # in another terminal
kchain local fault list upload                # which there are
kchain local fault add lost-push-answer       # strikes the next push
kchain local fault add unavailable --match GetKernelSessionStatus --nth 3 --times 5
kchain local fault show                       # seen, fired, and what was struck
kchain local fault clear
```

A fault strikes the `nth` request that it matches, counted from when it was planted, and `times` in all; with `every`, only every so many.
What it matches is a method, the beginning of a path, `*` for any call of the API, or the start or the end of a session; alternatives are separated by `|`.
If two are due at one request, the one that was planted first strikes, and the other has missed it.

In a test, `LocalKaggle(..., faults=[plant("lost-push-answer"), Fault("SaveKernel", "status", status=500)])`; over HTTP, `GET`, `POST` and `DELETE` of `/_local/faults` with the issued token, and `GET /_local/strikes`.
`seen` counts the requests that matched, `fired` those that were struck.

What lasts is no fault but a setting: delays until something is visible, limits, which outputs survive, mount layout, whether a token may write. They are in `orchestrator/emulator/settings.py`.
What a session writes is up to the script that is pushed: too many files, too large ones, damaged checkpoints and hostile archives need no switch.
Failures in front of the server are not its own: a name that does not resolve, and TLS, which plain HTTP on loopback does not have.

## Chaos

```sh
kchain local serve --chaos 7
kchain local exec --chaos 7 -- kaggle datasets list --mine
```

Chaos draws from every entry below, at the rate in its last column for each call that the entry matches; `Chaos(seed, scale)` multiplies all rates.
What strikes the k-th call of a method follows from seed, method and k alone: the same seed strikes the same calls, whatever threads do in between.
A hang, a drip, a delay and the wait that a rate limit asks for are cut to `longest_seconds`, 2 unless told otherwise.
Four entries outlast any patience, as on Kaggle: `push-queues-long`, `wedged`, `publish-sticks` and `publish-hidden`; `Chaos(seed, without=frozenset({...}))` leaves entries out and changes nothing else.

## Catalogue
"""
STAGES = {
    **dict.fromkeys(["reset_before", "hang", "status", "answer", "expire"], "no"),
    "twice": "twice",
    "cut_upload": "half",
}


def faults_page() -> str:
    """Return the catalogue of faults, with how to use it."""
    parts = [FAULTS_HEAD]
    groups = list(dict.fromkeys(entry.group for entry in CATALOGUE.values()))
    for group in groups:
        rows = [entry for entry in CATALOGUE.values() if entry.group == group]
        parts += [f"### {group}\n", "| fault | strikes | what happens | takes effect | chaos |"]
        parts += ["| --- | --- | --- | --- | --- |", *map(_fault_row, rows), ""]
    return "\n".join(parts)


def _fault_row(entry: Entry) -> str:
    strikes = ", ".join(f"`{match}`" for match in entry.fault.match.split("|"))
    effect = STAGES.get(entry.fault.effect, "yes")
    return f"| `{entry.name}` | {strikes} | {entry.does} | {effect} | {entry.rate:.1%} |"


PAGES = {
    "docs/cli.md": cli_page,
    "docs/machine.md": machine_page,
    "docs/faults.md": faults_page,
    "docs/local-kaggle.md": facts.render_page,
}


if __name__ == "__main__":
    for name, render in PAGES.items():
        (ROOT / name).write_text(render(), encoding="utf-8")
        print(f"wrote {name}")
