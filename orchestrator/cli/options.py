"""What commands have in common: options, help, and the configuration that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator import config
from orchestrator.config import Project

HELP = {"help_option_names": ["-h", "--help"]}

config_option = click.option(
    "--config", "given", metavar="FILE", help="The kchain.toml to use; default: ./kchain.toml."
)


def load(given: str | None, flags: dict[str, Any] | None = None) -> Project:
    """Read the configuration that a command is called with or beside."""
    return config.load(config.find_file(given, Path.cwd()), config.environment(), flags)
