"""From what a session left to a checkpoint that is accepted, or an attempt that is not."""

import random
from pathlib import Path

import pytest

from orchestrator import config, engine
from orchestrator.journal import Journal
from orchestrator.kaggle.port import OutputFile, Trouble, Unreadable
from orchestrator.machine import Kind, Phase

ENDPOINT = "http://127.0.0.1:1"


class LeftBehind:
    """A Kaggle that only has one session's output, and cuts downloads at their limit."""

    def __init__(self, folder):
        self.folder = folder

    def identity(self):
        return "local"

    def outputs(self, _kernel, _version):
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return tuple(OutputFile(f"checkpoints/{path.name}", str(path)) for path in paths)

    def download(self, file, sink, limit_bytes):
        content = Path(file.url).read_bytes()
        if len(content) > limit_bytes:
            return Unreadable(Trouble.ODD, f"{len(content)} bytes announced")
        sink.write(content[sink.size_bytes :])
        return sink.size_bytes

    def dataset(self, _dataset):
        return Unreadable(Trouble.NETWORK, "collecting ends here")

    def kernel(self, _kernel):
        return Unreadable(Trouble.NETWORK, "collecting ends here")


@pytest.fixture
def collect(tmp_path, clock, files, session_events, binding):
    """Let the engine collect what a session left, an hour long; return the journal's state."""
    path = tmp_path / "kchain.toml"
    path.write_text('[chain]\nname = "demo"\n[training]\npreset = "rehearsal"\n')
    settings = config.load(path, {"KCHAIN_KAGGLE_ENDPOINT": ENDPOINT}).settings

    def run(left):
        (left.folder / "manifest.json").write_bytes(left.content)
        with Journal(tmp_path / "journal.db", "demo", clock) as journal:
            for kind, data in [("bound", binding), *session_events()[:5]]:
                journal.append(Kind(kind), **data)
            for _ in range(60):
                rng = random.Random(1)  # noqa: S311 - the same on every run
                kaggle = LeftBehind(left.folder)
                engine.tick(settings, journal, kaggle, files, clock, rng, endpoint=ENDPOINT)
                if journal.state.phase is not Phase.ENDED:
                    break
                clock.sleep(60.0)
            return journal.state

    return run


def test_what_a_session_left_in_good_order_is_accepted(collect, output, files):
    left = output()

    state = collect(left)

    assert state.phase is Phase.VERIFIED
    assert state.pending.file == left.name
    stored = files.stored(state.pending.manifest_sha256)
    assert (stored / left.name).read_bytes() == (left.folder / left.name).read_bytes()


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
