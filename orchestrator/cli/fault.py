"""`kchain local fault`: let the local Kaggle that is running misbehave, by name."""

from __future__ import annotations

import difflib
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from orchestrator.cli.display import print_json
from orchestrator.cli.options import HELP
from orchestrator.cli.target import LOCAL_STATE, running_local
from orchestrator.emulator.catalogue import CATALOGUE, Entry
from orchestrator.errors import ConfigError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=LOCAL_STATE,
    show_default=True,
    help="The folder it keeps its state in.",
)


def _known(
    _context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a name that is not in the catalogue, and say which are like it."""
    for name in names:
        if name not in CATALOGUE:
            close = difflib.get_close_matches(name, CATALOGUE, 3)
            meant = f"; did you mean {' or '.join(close)}?" if close else "."
            raise click.BadParameter(
                f"there is no fault {name!r}{meant} See `kchain local fault list`."
            )
    return names


def _complete(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=entry.does)
        for name, entry in CATALOGUE.items()
        if name.startswith(incomplete)
    ]


@click.group(context_settings=HELP)
def fault() -> None:
    """Let the running local Kaggle misbehave in ways that the real one does.

    \b
    Example, with `kchain local serve` in another terminal:
      kchain local fault add lost-push-answer
      kchain run --local
      kchain local fault show
    """


@fault.command(
    name="list",
    epilog="""\b
Examples:
  kchain local fault list
  kchain local fault list upload
  kchain local fault list --json | jq -r '.[].name'
""",
    context_settings=HELP,
)
@click.argument("word", default="")
@json_option
def list_(*, word: str, as_json: bool) -> None:
    """List every fault there is, or those that WORD appears in."""
    entries = [
        entry
        for entry in CATALOGUE.values()
        if word.lower() in f"{entry.name} {entry.group} {entry.fault.match} {entry.does}".lower()
    ]
    if as_json:
        print_json([_row(entry) for entry in entries])
        return
    rows = [(entry.name, entry.fault.match.replace("|", ", "), entry.does) for entry in entries]
    _table(("FAULT", "STRIKES", "WHAT HAPPENS"), *rows)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "group": entry.group,
        "strikes": entry.fault.match.split("|"),
        "effect": entry.fault.effect,
        "does": entry.does,
        "chaos_rate": entry.rate,
    }


@fault.command(
    epilog="""\b
Examples:
  kchain local fault add lost-push-answer             the next push
  kchain local fault add unavailable --match GetKernelSessionStatus --times 5
  kchain local fault add cancelled --nth 2            the second session from now
  kchain local fault add file-flipped file-cut        one of each
""",
    context_settings=HELP,
)
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="NAME...",
    callback=_known,
    shell_complete=_complete,
)
@click.option("--match", help="What it strikes: a method, a path prefix, or * for any call.")
@click.option("--nth", type=click.IntRange(1), help="The first matching request it strikes.")
@click.option("--times", type=click.IntRange(1), help="How many it strikes.")
@click.option("--every", type=click.IntRange(1), help="Strike only every so many.")
@click.option("--status", type=click.IntRange(200, 599), help="The HTTP status it answers.")
@click.option("--seconds", type=click.FloatRange(0), help="How long a hang, drip or delay lasts.")
@state_option
def add(*, names: tuple[str, ...], state: Path, **changes: Any) -> None:
    """Plant faults; counting begins now."""
    given = {option: value for option, value in changes.items() if value is not None}
    _talk(state, "POST", "faults", [{"name": name, **given} for name in names])
    for name in names:
        click.echo(f"planted {name}: {CATALOGUE[name].does}")


@fault.command(
    epilog="""\b
Examples:
  kchain local fault show
  kchain local fault show --json | jq '.planted[] | select(.fired == 0)'
""",
    context_settings=HELP,
)
@json_option
@state_option
def show(*, state: Path, as_json: bool) -> None:
    """Show what is planted, how often it fired, and what was struck."""
    planted, strikes = _talk(state, "GET", "faults"), _talk(state, "GET", "strikes")
    if as_json:
        print_json({"planted": planted, "strikes": strikes})
        return
    rows = [
        (row["name"] or row["effect"], row["match"], str(row["seen"]), str(row["fired"]))
        for row in planted
    ]
    _table(("PLANTED", "STRIKES", "SEEN", "FIRED"), *rows)
    for strike in strikes:
        click.echo(_told(strike))


@fault.command(
    epilog="""\b
Example:
  kchain local fault clear
""",
    context_settings=HELP,
)
@state_option
def clear(*, state: Path) -> None:
    """Forget everything that is planted."""
    planted = _talk(state, "GET", "faults")
    _talk(state, "DELETE", "faults")
    click.echo(f"forgot {len(planted)} fault{'' if len(planted) == 1 else 's'}")


def tell_strikes(state: Path) -> None:
    """Say on stderr what was struck; the command's own output stays clean."""
    for strike in _talk(state, "GET", "strikes"):
        click.echo(_told(strike), err=True)


def _told(strike: dict[str, Any]) -> str:
    by = ", by chaos" if strike["chaos"] else ""
    return f"struck {strike['method']} call {strike['call']}: {strike['fault']}{by}"


def _talk(state: Path, method: str, page: str, body: object = None) -> Any:
    """Ask the local Kaggle that runs on a state folder."""
    nobody = ConfigError(f"no local Kaggle runs on {state}; start one with `kchain local serve`")
    if not (state / "server.json").exists():
        raise nobody
    url, token = running_local(state)
    request = urllib.request.Request(  # noqa: S310 - loopback, as it wrote itself
        f"{url}/_local/{page}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(json.load(error)["message"]) from None
    except urllib.error.URLError:
        raise nobody from None


def _table(*rows: tuple[str, ...]) -> None:
    """Print rows in columns, never wrapped, so that they can be piped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
