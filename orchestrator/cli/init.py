"""`kchain init`: write a commented kchain.toml and ask nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from orchestrator import config
from orchestrator.cli.options import HELP
from orchestrator.errors import ConfigError

_TEMPLATE = """\
# kchain: carries this training across Kaggle's sessions.
# Every key but overrides can also be set by a variable, e.g. KCHAIN_CHAIN_SESSIONS=5.

[chain]
name = "{name}"            # kernel kchain-{name}, dataset kchain-{name}-checkpoints
sessions = 3               # total of sessions; --sessions N replaces it for one command
# max_attempts = 3         # fruitless attempts in a row before the chain halts
# output = "output"        # where newest checkpoint, best model and history are put
# force_folder = false     # true: keep .kchain/ on a network or synchronised folder all the same

[training]
preset = "{preset}"    # "wikitext103": 10 M parameters; "wikitext103-19m"; "rehearsal": tiny
# overrides = {{ learning_rate = 5e-4, batch_size = 16 }}

[kernel]
# accelerator = "auto"     # "NvidiaTeslaT4" (two T4s; uses GPU quota) or "none"
# internet = true          # needed to fetch data and tokenizer, unless they are attached
# time_budget_seconds = 41400   # a session's limit; Kaggle's own is 43200

[kaggle]
# endpoint = "https://api.kaggle.com"
# kernel = "kchain-{name}"
# dataset = "kchain-{name}-checkpoints"
"""


@click.command(
    epilog="""\b
Examples:
  kchain init my-run                       then: cd my-run && kchain run --sessions 3
  kchain init --preset rehearsal try-out   a tiny training that uses no GPU quota
""",
    context_settings=HELP,
)
@click.argument("directory", default=".", metavar="[DIR]")
@click.option(
    "--preset",
    type=click.Choice(config.PRESETS),
    default="wikitext103",
    show_default=True,
    help="What is trained.",
)
def init(*, directory: str, preset: str) -> None:
    """Write a commented kchain.toml into DIR (default: here)."""
    folder = Path(directory)
    name = slugify(folder.resolve().name)
    path = folder / config.FILE_NAME
    if path.exists():
        raise ConfigError(f"{path} exists already and was left as it is")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_TEMPLATE.format(name=name, preset=preset), encoding="utf-8")
    config.load(path, {})
    go_there = "" if directory == "." else f"cd {shlex.quote(directory)} && "
    click.echo(f"wrote {path} for chain {name!r}")
    click.echo(f"next: {go_there}kchain doctor, then kchain run --sessions 3")


def slugify(text: str) -> str:
    """Return a chain name made of a folder's name: lower case, digits and single hyphens."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:31].strip("-")
    return slug or "my-run"
