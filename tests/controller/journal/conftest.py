"""Fixtures: a journal that can be opened, and one with a whole session in it."""

import shutil

import pytest

from orchestrator.journal import Journal
from orchestrator.machine import Kind


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def open_journal(path, clock):
    """Open the journal of chain `demo`; all are closed in the end."""
    opened = []

    def open_it(chain="demo", path=path, **options):
        journal = Journal(path, chain, clock, **options)
        opened.append(journal)
        return journal

    yield open_it
    for journal in opened:
        journal.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A journal that is written once: every event waits for the disk."""
    return tmp_path_factory.mktemp("whole") / "journal.db"


@pytest.fixture
def filled(path, whole, open_journal, binding, session_events):
    """A closed journal with one whole session in it."""
    if not whole.exists():
        journal = open_journal(path=whole)
        for kind, data in [("bound", binding), *session_events()]:
            journal.append(Kind(kind), **data)
        journal.close()
    shutil.copy(whole, path)
    return path
