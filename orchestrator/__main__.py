"""python -m orchestrator: the command `kchain`."""

from orchestrator.cli import cli

if __name__ == "__main__":
    cli(prog_name="kchain")
