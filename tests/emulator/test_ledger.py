import itertools
import json
from dataclasses import replace

import pytest

from orchestrator.emulator.ledger import Ledger, StateUnreadable
from orchestrator.emulator.records import Draft, Ending, File, NewFile, Refusal, Twist
from orchestrator.emulator.settings import Settings
from orchestrator.emulator.world import World

SETTINGS = Settings(seed=3)


@pytest.fixture
def open_ledger(tmp_path):
    clock = itertools.count(1000.0, 10.0)
    opened = []

    def open_it(settings=SETTINGS):
        ledger = Ledger(tmp_path / "world.jsonl", settings, clock=lambda: next(clock))
        opened.append(ledger)
        return ledger

    yield open_it
    for ledger in opened:
        ledger.close()


def fill(ledger, push):
    """One of every operation."""
    do, world = ledger.do, ledger.world
    upload = do(world.start_upload, name="a.bin", size_bytes=3)
    do(world.finish_upload, upload_id=upload.upload_id, files=[File("a.bin", "key", 3)])
    draft = Draft(owner="local", slug="my-data", title="My Data", keywords=("x",))
    files = [NewFile("", upload.token)]
    do(world.create_dataset, draft=draft, files=files)
    do(world.create_dataset_version, owner="local", slug="my-data", notes="n", files=files)
    do(world.save_kernel, push=push(dataset_sources=("local/my-data",)))
    session = ledger.ask(world.session, owner="local", slug="train-loop")
    do(world.start_session, session_id=session.session_id)
    do(
        world.end_session,
        session_id=session.session_id,
        ending=Ending.EXCEPTION,
        files=[File("out.txt", "out", 1)],
        log_key="log",
        twist=Twist.WEDGE,
    )
    do(world.save_kernel, push=push("other-loop"), twist=Twist.DROP_SOURCES)
    do(world.delete_kernel, owner="local", slug="other-loop")
    do(world.update_dataset, draft=replace(draft, title="Our Data"))
    do(world.create_dataset, draft=replace(draft, slug="old-data", title="Old Data"), files=files)
    do(world.delete_dataset, owner="local", slug="old-data")


def test_a_replayed_world_equals_the_original(open_ledger, push):
    first = open_ledger()
    fill(first, push)

    second = open_ledger()

    assert second.world.dump(5000) == first.world.dump(5000)
    assert second.world.dump(5000)["sessions"][0]["mounts"]


def test_every_operation_can_be_replayed(open_ledger, push, tmp_path):
    fill(open_ledger(), push)

    lines = (tmp_path / "world.jsonl").read_text().splitlines()

    assert {json.loads(line)["op"] for line in lines} == World.OPERATIONS


def test_randomness_goes_on_where_it_was(open_ledger, push):
    first = open_ledger()
    fill(first, push)
    second = open_ledger()

    tokens = {
        ledger.do(ledger.world.start_upload, name="b.bin", size_bytes=1).token
        for ledger in (first, second)
    }

    assert len(tokens) == 1


def test_a_torn_last_line_is_dropped(open_ledger, push, tmp_path):
    first = open_ledger()
    fill(first, push)
    path = tmp_path / "world.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:20])

    second = open_ledger()

    assert second.world.dump(5000) == first.world.dump(5000)
    assert path.read_bytes().startswith(whole)


def test_a_refused_operation_leaves_no_line(open_ledger, push, tmp_path):
    ledger = open_ledger()
    before = (tmp_path / "world.jsonl").read_bytes()

    with pytest.raises(Refusal):
        ledger.do(ledger.world.save_kernel, push=push(title="Something Else"))

    assert (tmp_path / "world.jsonl").read_bytes() == before


def test_what_cannot_be_written_has_not_happened(open_ledger, push, tmp_path, full_disk):
    ledger = open_ledger()
    fill(ledger, push)
    path = tmp_path / "world.jsonl"
    before, dump = path.read_bytes(), ledger.world.dump(5000)

    with full_disk(len(before) + 100), pytest.raises(OSError, match="File too large"):
        ledger.do(ledger.world.save_kernel, push=push(source="x" * 1000))

    assert path.read_bytes() == before
    assert ledger.world.dump(5000) == dump
    assert ledger.do(ledger.world.save_kernel, push=push(source="again")).version == 2
    assert open_ledger().world.dump(9000) == ledger.world.dump(9000)


def test_new_settings_do_not_change_the_past(open_ledger, push):
    first = open_ledger()
    fill(first, push)

    second = open_ledger(Settings(seed=3, dataset_processing_seconds=10**6, layout="new"))

    assert second.world.dump(5000)["datasets"] == first.world.dump(5000)["datasets"]
    assert second.world.settings.layout == "new"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "{}",
        '{"at": 1, "op": "dump", "args": {}}',
        '{"at": 1, "op": "start_upload", "args": {}}',
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_the_line_number(open_ledger, tmp_path, line):
    open_ledger().close()
    path = tmp_path / "world.jsonl"
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(StateUnreadable, match="line 2 of"):
        open_ledger()
