"""Fixture: places in which real controllers are killed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.place import Place


@pytest.fixture
def new_place(tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Make places: each has a chain and a local Kaggle of its own."""
    with ExitStack() as stack:
        made = iter(range(1000))
        yield lambda: stack.enter_context(Place(tmp_path / f"place{next(made)}"))


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()
