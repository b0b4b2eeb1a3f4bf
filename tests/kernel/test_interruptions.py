"""Sessions that do not end by themselves: killed, told to stop, out of time, broken."""

import json
import os
import shutil
import signal

import psutil
import pytest


def _wait_for(launcher, event, step):
    """Read a session's log until it reports this event at this step or later."""
    for line in launcher.stdout:
        if line.startswith("kchain: "):
            facts = json.loads(line.removeprefix("kchain: "))
            if facts["event"] == event and facts.get("step", 0) >= step:
                return
    raise AssertionError(f"the session ended without {event} at step {step}")


@pytest.fixture
def long(parameters):
    """Parameters of a session that would train far longer than any test waits."""
    never = {"checkpoint_steps": 100_000, "evaluation_steps": 100_000}
    overrides = {"max_steps": 100_000, "steps_per_session": None, "checkpoint_seconds": 0.3}
    return parameters(overrides={**overrides, **never})


def test_a_killed_session_goes_on_from_its_own_checkpoint_to_the_same_bits(
    new_place, parameters, uninterrupted, digest, check
):
    place = new_place()
    whole = parameters(overrides={"steps_per_session": None})
    launcher = place.start(whole)
    _wait_for(launcher, "checkpoint", 5)
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.communicate(timeout=30)
    left = place.entry(place.manifest["latest"])

    assert launcher.returncode == -signal.SIGKILL
    assert place.verdict["outcome"] == "running"
    check("verdict", place.verdict)
    assert place.parent()["bytes"] == (place.checkpoints / left["name"]).stat().st_size

    (place.checkpoints / "checkpoint_epoch1_step11.pt.tmp").write_bytes(b"half")
    (place.checkpoints / "final_model.tmp").mkdir()  # a kill during the export
    (place.checkpoints / "final_model.tmp" / "config.json").write_text("{}")
    output = place.run(whole)
    latest = place.manifest["latest"]

    assert f"resuming from {left['name']} (sha256 {left['sha256']})" in output
    assert place.verdict["outcome"] == "complete"
    assert place.verdict["first_step"] == 0
    assert digest(place.checkpoints / latest) == digest(uninterrupted.checkpoints / latest)
    assert place.history == uninterrupted.history
    assert not list(place.checkpoints.glob("*.tmp"))


def test_another_sessions_leftovers_in_the_working_folder_are_not_continued(
    load, first, new_place, parameters
):
    place = new_place()
    shutil.copytree(first.working, place.working, dirs_exist_ok=True)
    told = load("parameters").parse_parameters(parameters(2, first.parent()))

    with pytest.raises(load("session").Refusal) as refusal:
        load("search").find_start(load("session").Paths(place.input, place.working), told)

    assert refusal.value.reason == "parent_mismatch"


@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 1)]
)
def test_a_signal_stops_a_session_with_a_saved_checkpoint(
    new_place, long, check, number, processes
):
    place = new_place()
    launcher = place.start(long, KCHAIN_PROCESSES=str(processes))
    _wait_for(launcher, "checkpoint", 2)
    launcher.send_signal(number)
    launcher.communicate(timeout=30)
    verdict = place.verdict

    assert launcher.returncode == 0
    assert (verdict["outcome"], verdict["reason"]) == ("stopped", "signal")
    assert place.entry(place.manifest["latest"])["step"] == verdict["last_step"] >= 2
    check("verdict", verdict)
    check("manifest", place.manifest)


def test_a_signal_before_any_program_runs_is_told_too(new_place, parameters, kernel):
    place = new_place()
    code = place.root / "code"
    shutil.copytree(kernel, code, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = code / "launch.py"
    waiting = "print('waiting', flush=True); signal.pause()  #"
    text = launcher.read_text().replace("find_promised(paths, parameters)  #", waiting)
    launcher.write_text(text)
    process = place.start(parameters(), code)
    assert process.stdout.readline() == "waiting\n"

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 0
    assert (place.verdict["outcome"], place.verdict["reason"]) == ("stopped", "signal")


@pytest.mark.parametrize("program", ["corpus.py", "train.py"])
def test_a_program_that_hangs_is_ended_while_there_is_time_for_a_verdict(
    new_place, parameters, kernel, program
):
    place = new_place()
    code = place.root / "code"
    shutil.copytree(kernel, code, ignore=shutil.ignore_patterns("__pycache__"))
    text = (code / program).read_text()
    (code / program).write_text("import signal\nsignal.pause()\n" + text)

    place.run(parameters(time_budget_seconds=8), code)

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("out_of_time", None)
    assert place.verdict["detail"].startswith(f"{program} did not end by itself")
    assert sum(place.verdict["seconds"].values()) < 8


def test_a_training_process_that_is_killed_takes_the_others_with_it(new_place, long, check):
    place = new_place()
    launcher = place.start(long, KCHAIN_PROCESSES="2")
    _wait_for(launcher, "checkpoint", 2)
    second = next(
        process
        for process in psutil.Process(launcher.pid).children(recursive=True)
        if process.environ().get("RANK") == "1"
    )
    second.kill()
    launcher.communicate(timeout=60)
    verdict = place.verdict

    assert launcher.returncode == 0
    assert (verdict["outcome"], verdict["reason"]) == ("failed", "signal")
    assert verdict["detail"] == "the trainer was killed by SIGKILL"
    assert place.entry(place.manifest["latest"])["step"] >= 2
    check("verdict", verdict)
    check("manifest", place.manifest)


def test_a_session_ends_out_of_time_with_a_validated_checkpoint(first, new_place, long):
    place = new_place()
    spent = first.verdict["seconds"]
    budget = max(8.0, 2.5 * (spent["startup"] + spent["data"]))

    place.run({**long, "time_budget_seconds": budget})
    verdict = place.verdict

    assert (verdict["outcome"], verdict["reason"]) == ("out_of_time", None)
    entry = place.entry(place.manifest["latest"])
    assert entry["step"] == verdict["last_step"] > 0
    assert entry["val_loss"] is not None
    assert sum(verdict["seconds"].values()) < budget


@pytest.mark.parametrize("processes", [1, 2])
def test_a_trainer_that_raises_leaves_a_verdict(new_place, parameters, kernel, check, processes):
    place = new_place()
    code = place.root / "code"
    shutil.copytree(kernel, code, ignore=shutil.ignore_patterns("__pycache__"))
    with (code / "model.py").open("a") as file:
        file.write('raise RuntimeError("the planted fault")\n')

    output = place.run(parameters(), code, KCHAIN_PROCESSES=str(processes))
    verdict = place.verdict

    assert (verdict["outcome"], verdict["reason"]) == ("failed", "exception")
    assert verdict["detail"] == "RuntimeError: the planted fault"
    assert "Traceback" in output
    check("verdict", verdict)


def test_a_loss_that_is_not_finite_ends_the_session_before_the_step(new_place, parameters):
    place = new_place()
    broken = {"learning_rate": 1e30, "warmup_steps": 0, "gradient_clip": 1e30, "precision": "fp16"}

    place.run(parameters(overrides={**broken, "evaluation_steps": 100}))
    verdict = place.verdict

    assert (verdict["outcome"], verdict["reason"]) == ("failed", "nonfinite_loss")
    assert f"at step {verdict['last_step'] + 1}" in verdict["detail"]
    assert place.entry(place.manifest["latest"])["step"] == verdict["last_step"] == 1


def test_gradients_that_overflow_at_every_loss_scale_end_the_session(
    first, new_place, parameters, trainer, forge
):
    place = new_place()
    first.publish(place.input / "tiny-checkpoints")

    def edit(state):
        state["scaler"] = {
            **{"scale": 1e-5, "growth_factor": 2.0, "backoff_factor": 0.5},
            **{"growth_interval": 2000, "_growth_tracker": 0},
        }

    parent = forge(place.input / "tiny-checkpoints", edit)
    trainer.run(place, parameters(2, parent, {"precision": "fp16"}))

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("failed", "nonfinite_loss")
    assert "at every loss scale" in place.verdict["detail"]


def test_a_gradient_that_is_not_finite_ends_the_session_before_the_step(
    first, new_place, parameters, trainer, forge
):
    """The loss itself is a number, and a large one."""
    place = new_place()
    first.publish(place.input / "tiny-checkpoints")

    def edit(state):
        state["model"]["ln_f.weight"] *= 1e25

    trainer.run(place, parameters(2, forge(place.input / "tiny-checkpoints", edit)))

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("failed", "nonfinite_loss")
    assert "the gradient's norm is inf at step 5" in place.verdict["detail"]
    assert not (place.checkpoints / "manifest.json").exists()


# What torchrun prints when a process of its own dies, in the order in which it appears.
TORCHRUN = """\
W1124 17:28:30.000000 7 torch/distributed/run.py:874] Setting OMP_NUM_THREADS to be 1
kchain: {{"event": "step", "step": 3}}
failed (out_of_memory): set batch_size = 8 and accumulation = 8 in place of 16 and 4
W1124 17:28:36.515000 7 torch/distributed/elastic/multiprocessing/api.py:1028] Sending SIGTERM
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============
Failures:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 8)  (SIGTERM)
------------
Root Cause (first observed failure):
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 9)
============
"""


@pytest.mark.parametrize(
    ("status", "output", "told", "outcome", "reason"),
    [
        (1, "Traceback\ntorch.OutOfMemoryError: CUDA out of memory", [], "failed", "out_of_memory"),
        (1, "OSError: [Errno 28] No space left on device\n", [], "failed", "disk_full"),
        (1, "ValueError: no\n", [15], "failed", "exception"),
        (-9, "", [], "failed", "signal"),
        (-15, "", [15], "stopped", "signal"),
        (1, "torch...api.SignalException: Process 7 got signal: 15", [15], "stopped", "signal"),
        (0, "", [], "failed", "exception"),
        (1, TORCHRUN.format(code=1), [], "failed", "out_of_memory"),
        (1, TORCHRUN.format(code=-9), [], "failed", "signal"),
    ],
)
def test_a_trainers_death_is_explained(load, status, output, told, outcome, reason):
    ending = load("launch").explain_death(status, output, told)

    assert (ending.outcome, ending.reason) == (outcome, reason)
    assert ending.detail
