"""Every hostile output goes the whole way: listed, fetched, looked into, refused in clear words.

Nothing is executed, nothing is written outside the attempt's own folder, memory stays bounded.
"""

import re
import tracemalloc

import pytest

from orchestrator.machine import Phase
from tests.controller import corpora, corpora_tensors

MEMORY_LIMIT_BYTES = 160 << 20  # twice the largest pickle that is looked into, and a little


@pytest.fixture
def collect_and_watch(collect, tmp_path, monkeypatch):
    """Collect an output; fail if anything is made where nothing of the kind belongs."""
    monkeypatch.chdir(tmp_path)

    def run(left):
        left_behind = corpora.tree(left.folder)
        outside, beside = corpora.tree(tmp_path), set(tmp_path.parent.iterdir())
        tracemalloc.start()
        state = collect(left)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        ours = [
            str(tmp_path / "state"),
            str(tmp_path / "journal.db"),
            str(tmp_path / "kchain.toml"),
        ]
        new = set(corpora.tree(tmp_path)) - set(outside) - {f"{left.folder}/manifest.json"}
        assert [path for path in new if not path.startswith(tuple(ours))] == []
        assert set(tmp_path.parent.iterdir()) == beside
        assert left_behind.items() <= corpora.tree(left.folder).items() | {
            (str(left.folder / "manifest.json"), left_behind.get("manifest.json"))
        }
        assert peak < MEMORY_LIMIT_BYTES
        assert not (tmp_path / corpora.CANARY).exists()
        return state

    return run


@pytest.mark.parametrize("case", [*corpora.ALL, *corpora_tensors.ALL], ids=lambda case: case.name)
def test_it_is_refused_and_says_why(collect_and_watch, output, files, case):
    left = output()
    case.spoil(left)

    state = collect_and_watch(left)

    assert (state.phase, state.fruitless) == (Phase.IDLE, 1), state
    assert re.search(case.said, state.last_failure), state.last_failure
    assert len(state.last_failure) < 500
    for folder in ("store", "staging"):
        assert list((files.state_dir / folder).iterdir()) == []
    assert list(files.output_dir.iterdir()) == []


def test_a_finished_model_in_good_order_is_accepted(collect_and_watch, output):
    left = output()
    corpora.GOOD_MODEL(left)

    assert collect_and_watch(left).phase is Phase.VERIFIED


@pytest.mark.parametrize(("name", "content"), corpora.HANDED_OVER.items())
def test_a_text_or_a_tokenizer_beside_the_weights_is_accepted(
    collect_and_watch, output, name, content
):
    left = output()
    corpora.handing_over(name, content)(left)

    assert collect_and_watch(left).phase is Phase.VERIFIED


@pytest.mark.parametrize("case", corpora.JSONS, ids=lambda case: case.name)
def test_a_spoilt_verdict_says_nothing_and_costs_nothing(collect_and_watch, output, case):
    left = output()
    case.spoil(left)
    (left.folder / "session.json").write_bytes(left.override)
    left.override = None

    state = collect_and_watch(left)

    assert state.phase is Phase.VERIFIED
    assert state.pending.outcome == "unknown"


@pytest.mark.parametrize("name", corpora.NAMES, ids=ascii)
def test_an_output_that_no_manifest_lists_is_not_even_fetched(collect_and_watch, output, name):
    left = output()
    left.also = (
        [name, f"checkpoints/{name}"] if name not in ("manifest.json", "session.json") else []
    )

    state = collect_and_watch(left)

    assert state.phase is Phase.VERIFIED
    assert set(left.downloaded) == {
        f"checkpoints/{n}" for n in (*left.body["publish"], "manifest.json")
    }


def test_ten_thousand_other_outputs_change_nothing(collect_and_watch, output):
    left = output()
    left.also = [f"samples/{number}.txt" for number in range(10_000)]

    assert collect_and_watch(left).phase is Phase.VERIFIED


@pytest.mark.parametrize(
    "case",
    [
        *(*corpora.BYTES, *corpora.ARCHIVES[::4], *corpora.PICKLES[::8]),
        *(*corpora_tensors.NOT_FINITE, *corpora_tensors.SIZES[::4]),
    ],
    ids=lambda case: case.name,
)
def test_an_older_checkpoint_of_the_same_session_is_taken_instead(
    collect_and_watch, output, files, case
):
    left = output()
    older = left.add_older(step=8)
    left.body["training_complete"] = True
    case.spoil(left)

    state = collect_and_watch(left)

    assert state.phase is Phase.VERIFIED, state.last_failure
    assert (state.pending.file, state.pending.step) == (older, 8)
    assert state.pending.publish == [older]
    assert not state.pending.training_complete
    stored = files.stored(state.pending.manifest_sha256)
    assert sorted(path.name for path in stored.iterdir()) == [older, "manifest.json"]
