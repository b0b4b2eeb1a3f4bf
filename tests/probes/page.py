"""docs/client-hazards.md, written from what a run of the probes and of their tests showed."""

from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = (
    metadata.version("kaggle"),
    *sorted(path.stem.removeprefix("kaggle-") for path in (ROOT / "tests/clients").glob("*.txt")),
)
