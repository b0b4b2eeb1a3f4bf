"""From what a session left to a checkpoint that is accepted, or an attempt that is not."""

import pytest

from orchestrator.machine import Phase


def test_what_a_session_left_in_good_order_is_accepted(collect, output, files):
    left = output()

    state = collect(left)

    assert state.phase is Phase.VERIFIED
    assert state.pending.file == left.name
    stored = files.stored(state.pending.manifest_sha256)
    assert (stored / left.name).read_bytes() == (left.folder / left.name).read_bytes()


def test_nothing_large_is_fetched_before_there_is_room_for_it(collect, output, files, monkeypatch):
    left = output()
    size = sum((left.folder / name).stat().st_size for name in left.body["publish"])
    monkeypatch.setattr(type(files), "free_bytes", lambda _self: 3 * size - 1)

    state = collect(left)

    assert (state.phase, state.wait_reason) == (Phase.ENDED, "disk")
    assert state.wait_message == f"less than {3 * size:,} bytes are free for the next checkpoint"
    assert set(left.downloaded) == {"checkpoints/manifest.json"}


def test_what_there_is_just_room_for_is_fetched(collect, output, files, monkeypatch):
    left = output()
    size = sum((left.folder / name).stat().st_size for name in left.body["publish"])
    monkeypatch.setattr(type(files), "free_bytes", lambda _self: 3 * size)

    assert collect(left).phase is Phase.VERIFIED


def test_a_checkpoint_that_is_not_the_one_listed_makes_the_attempt_fruitless(collect, output):
    left = output()
    path = left.folder / left.name
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    state = collect(left)

    assert (state.phase, state.fruitless, state.attempt) == (Phase.IDLE, 1, 2)
    assert "does not match its SHA-256" in state.last_failure


def test_a_checkpoint_that_is_longer_than_listed_makes_the_attempt_fruitless(collect, output):
    left = output()
    with (left.folder / left.name).open("ab") as file:
        file.write(b"more")

    state = collect(left)

    assert (state.phase, state.fruitless) == (Phase.IDLE, 1)


@pytest.mark.parametrize("text", ["{}  ", "[]", "{"])
def test_a_history_that_a_kill_left_ahead_of_the_manifest_costs_no_checkpoint(
    collect, output, text
):
    left = output()
    (left.folder / "training_history.json").write_text(text)

    state = collect(left)

    assert state.phase is Phase.VERIFIED
    assert state.pending.file == left.name


@pytest.mark.parametrize("key", ["chain", "session", "attempt", "token"])
def test_what_another_attempt_left_makes_the_attempt_fruitless(collect, output, key):
    left = output()
    others = {"chain": "other", "token": "kc1." + "b" * 26}
    left.body[key] = others.get(key, 7)

    state = collect(left)

    assert (state.phase, state.fruitless) == (Phase.IDLE, 1)
    assert f"another {key}" in state.last_failure
