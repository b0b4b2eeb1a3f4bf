"""Whatever happened to the bytes of a journal: the same state, or a refusal that keeps the file."""

import random
from collections import Counter

import pytest

from orchestrator.clock import SystemClock
from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.machine import Phase
from tests.simulation.chain import CHAIN, Plan, Simulation

SECTOR, PAGE = 512, 4096
DRAWN = 600


@pytest.fixture(scope="module")
def finished():
    """The bytes of the journal of a chain that reached its target."""
    with Simulation(Plan(), sessions=2) as run:
        assert run.run().phase is Phase.DONE
        return (run.folder / "state" / "journal.db").read_bytes()


@pytest.fixture
def judge(tmp_path, finished):
    """Open damaged bytes as a journal; tell whether it was refused, or read the same."""
    path = tmp_path / "journal.db"

    def read(content, read_only):
        path.write_bytes(content)
        with Journal(path, CHAIN, SystemClock(), read_only=read_only) as journal:
            return journal.state, journal.events

    told = read(finished, read_only=True)

    def judge(content, read_only=False):
        refusal = None
        try:
            assert read(content, read_only) == told
        except JournalError as error:
            refusal = str(error)
        for part in (str(path), "not touched", "kchain recover"):
            assert refusal is None or part in refusal
        assert path.read_bytes() == content
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        return "refused" if refusal else "same"

    return judge


@pytest.mark.parametrize("filling", [b"\x00", b"\xff", b"\x80", b"5"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_with_any_sector_overwritten_is_refused_or_reads_the_same(
    finished, judge, filling, read_only
):
    verdicts = Counter()
    for start in range(0, len(finished), SECTOR):
        content = finished[:start] + filling * SECTOR + finished[start + SECTOR :]
        verdicts[judge(content, read_only)] += 1

    assert verdicts["refused"] > verdicts["same"]


def test_a_journal_that_ends_too_early_is_refused(finished, judge):
    for size in (*range(SECTOR, len(finished), SECTOR), 2, 50, len(finished) - 1):
        assert judge(finished[:size]) == "refused"


def test_a_journal_with_any_bits_changed_is_refused_or_reads_the_same(finished, judge):
    draw, verdicts = random.Random(1), Counter()  # noqa: S311
    for number in range(DRAWN):
        content, at = bytearray(finished), draw.randrange(len(finished))
        length = draw.choice([16, 32, SECTOR])
        if number % 3 == 0:
            content[at] ^= 1 << draw.randrange(8)
        elif number % 3 == 1:
            content[at : at + length] = draw.randbytes(len(content[at : at + length]))
        else:
            content[at : at + length] = bytes(len(content[at : at + length]))
        verdicts[judge(bytes(content))] += 1

    assert min(verdicts["refused"], verdicts["same"]) > DRAWN / 4


def test_a_journal_with_any_bit_of_a_header_changed_is_refused_or_reads_the_same(finished, judge):
    """The file's header and each page's, which tells how many rows there are."""
    pages, verdicts = range(PAGE, len(finished), PAGE), Counter()
    for at in (*range(112), *(page + offset for page in pages for offset in range(12))):
        for bit in range(8):
            content = bytearray(finished)
            content[at] ^= 1 << bit
            verdicts[judge(bytes(content))] += 1

    assert verdicts["refused"] > 0


@pytest.mark.parametrize("filling", [b"\x00", b"\xc5", b" ", b"9"])
@pytest.mark.parametrize("length", [1, 2, 32])
def test_a_journal_whose_schema_was_changed_is_refused(finished, judge, filling, length):
    first, end = finished.index(b"CREATE TABLE"), finished.index(b"WITHOUT ROWID") + 13
    for start in range(first, end - length, 3):
        content = finished[:start] + filling * length + finished[start + length :]
        if content != finished:
            assert judge(content) == "refused"


def test_a_journal_with_any_bit_of_its_last_row_changed_is_refused_or_reads_the_same(
    finished, judge
):
    """There is no row after it that would miss it."""
    kind = finished.index(b'finished{"')
    first, verdicts = finished.rindex(CHAIN.encode(), 0, kind) - 8, Counter()
    for at in range(first, kind + 40):
        for bit in range(8):
            content = bytearray(finished)
            content[at] ^= 1 << bit
            verdicts[judge(bytes(content))] += 1

    assert verdicts["refused"] > 300
