"""Clock, verdict and progress lines; none of it needs torch."""

import ast
import json
import math
import subprocess
import sys
import time

import pytest


@pytest.fixture
def begin(load, new_place, parameters):
    """A session in a fresh place, that began so many seconds ago."""
    place = new_place()

    def make(budget=600, ago=0, since="startup"):
        session = load("session")
        told = parameters(time_budget_seconds=budget)
        paths = session.Paths(place.input, place.working)
        return session.Session(told, paths, time.time() - ago, since=since)

    make.place = place
    return make


def test_session_imports_nothing_but_the_standard_library(kernel):
    tree = ast.parse((kernel / "session.py").read_text())
    imported = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]

    assert imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_launcher_runs_without_torch_and_numpy(kernel):
    code = "import launch, sys; print(sorted({'torch', 'numpy', 'tokenizers'} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=kernel, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("budget", "longest_save", "reserve"), [(41_400, 1, 90), (41_400, 60, 180), (40, 1, 10)]
)
def test_the_reserve_is_ninety_seconds_or_three_saves_but_at_most_a_quarter(
    begin, budget, longest_save, reserve
):
    session = begin(budget, ago=10)
    session.longest_save_seconds = longest_save

    assert session.seconds_left() == pytest.approx(budget - 10 - reserve, abs=1)


def test_the_verdict_carries_the_clock_from_one_process_to_the_next(begin):
    launcher = begin(ago=5)
    launcher.write_verdict("running")
    trainer = begin(ago=5)
    trainer.spend("train")
    trainer.facts["last_step"] = 7
    trainer.write_verdict("running")
    after = begin(ago=5, since="idle")
    after.write_verdict("failed", "exception", "x" * 3000)
    verdict = begin.place.verdict

    assert verdict["seconds"]["startup"] == pytest.approx(5, abs=1)
    assert sum(verdict["seconds"].values()) == pytest.approx(5, abs=1)
    assert verdict["last_step"] == 7
    assert len(verdict["detail"]) == 2000


def test_another_sessions_verdict_is_not_carried_on(begin):
    path = begin.place.working / "session.json"
    begin().write_verdict("running")
    path.write_text(json.dumps({**begin.place.verdict, "token": "other", "last_step": 99}))

    assert begin().facts["last_step"] == 0


def test_progress_lines_are_json_even_where_a_loss_is_not_a_number(begin, capsys):
    begin().progress("step", step=1, loss=math.nan, lr=0.5)

    assert (
        capsys.readouterr().out == 'kchain: {"event": "step", "step": 1, "loss": null, "lr": 0.5}\n'
    )


def test_step_lines_are_few(begin):
    session = begin()

    assert [session.step_line_due(1000) for _ in range(3)] == [True, False, False]
    assert session.step_line_due(0)


def test_kaggles_clock_began_before_this_process(load, monkeypatch):
    session = load("session")
    kaggle = session.Paths(session.Path("/kaggle/input"), session.Path("/kaggle/working"))

    assert session.session_started_at(kaggle) <= time.time()
    monkeypatch.setenv("KCHAIN_SESSION_STARTED_AT", "1234.5")
    assert session.session_started_at(kaggle) == 1234.5


def test_without_a_controller_the_rehearsal_is_trained_whole(load, tmp_path):
    session, told = load("session"), load("parameters")

    raw = told.read_parameters(session.Paths(tmp_path, tmp_path))

    assert told.parse_parameters(raw).settings.steps_per_session is None
