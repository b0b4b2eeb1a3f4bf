"""`--set NAME=VALUE` and `kchain local settings`: what a local Kaggle's platform is like."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from orchestrator.cli.display import print_json
from orchestrator.cli.options import HELP
from orchestrator.emulator.settings import Settings

NAMES = tuple(field.name for field in fields(Settings))


def _parse(_context: click.Context, _option: click.Parameter, texts: Sequence[str]) -> Settings:
    """Make settings of NAME=VALUE; lists are separated by commas, `none` is no value."""
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in NAMES or not equals:
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.BadParameter(f"{text!r} is no NAME=VALUE of `kchain local settings`{hint}")
        given[name] = _value(name, value)
    try:
        return TypeAdapter(Settings).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise click.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error


def _value(name: str, text: str) -> Any:
    if text.lower() == "none":
        return None
    if name in ("outputs_survive", "gpus_instead"):
        return [part for part in text.split(",") if part]
    return text


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse,
    help="How the platform is, as long as it serves; repeatable. See `kchain local settings`.",
)


@click.command(
    epilog="""\b
Examples:
  kchain local settings
  kchain local serve --set phone_verified=false --set layout=old
  kchain local serve --set unpack_checkpoints=true --set outputs_survive=exception
""",
    context_settings=HELP,
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def settings(*, as_json: bool) -> None:
    """List what `--set` can change of a local Kaggle, with the values it has otherwise."""
    values = Settings().to_json()
    if as_json:
        print_json(values)
        return
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {json.dumps(value)}")
