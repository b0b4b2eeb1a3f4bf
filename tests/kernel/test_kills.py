"""kill -9 at random instants, during saves too: what is left is always a checkpoint that is true.

Each kill is followed by a look at the folder and by the same session again, which goes on from what
it finds, until it has trained to its end; then the next one begins.
"""

import hashlib
import os
import random
import signal
import subprocess
import time

import psutil
import pytest

torch = pytest.importorskip("torch")

STEPS = 24
WHOLE = {"max_steps": STEPS, "steps_per_session": None}


@pytest.fixture(scope="module")
def truth(new_place, parameters, trainer, digest):
    """The digest of the uninterrupted run at each of its steps."""
    place = new_place()
    trainer.run(place, parameters(overrides={**WHOLE, "keep_checkpoints": STEPS + 1}))
    entries = [entry for entry in place.manifest["files"] if entry["kind"] == "checkpoint"]
    assert [entry["step"] for entry in entries] == list(range(1, STEPS + 1))
    place.truth = {entry["step"]: digest(place.checkpoints / entry["name"]) for entry in entries}
    began_at = time.monotonic()  # of a second session: the first one warms the file cache
    trainer.run(new_place(), parameters(overrides=WHOLE))
    place.length = time.monotonic() - began_at
    return place


def look(place, truth, digest):
    """Check everything that a kill left; returns the newest checkpoint's step, 0 without one."""
    if not (place.checkpoints / "manifest.json").exists():
        return 0
    entries = [entry for entry in place.manifest["files"] if entry["kind"] == "checkpoint"]
    for entry in entries:
        path = place.checkpoints / entry["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert digest(path) == truth.truth[entry["step"]]
    best = place.checkpoints / "best_model.pt"  # may be one save ahead of the manifest
    if best.exists():
        step = torch.load(best, weights_only=True)["step"]
        assert digest(best) == truth.truth[step]
    assert place.manifest["latest"] == max(entries, key=lambda entry: entry["step"])["name"]
    return max(entry["step"] for entry in entries)


def kill(place, told, trainer, instant):
    """Kill a session at a random instant after its first sign of life; tell what it was doing."""
    process = trainer.start(place, told)
    process.join(instant)
    if process.exitcode is not None:
        return "ended"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    if process.exitcode == 0:  # it was quicker than the kill
        return "ended"
    assert process.exitcode == -signal.SIGKILL
    folder = place.checkpoints
    saving = folder.is_dir() and any(path.suffix == ".tmp" for path in folder.iterdir())
    return "saving" if saving else "other"


def sweep(count, seed, *, new_place, parameters, trainer, truth, digest):
    """Kill `count` times; returns how often in a save, and how many sessions reached the end."""
    draw = random.Random(seed)  # noqa: S311 - instants, not secrets
    told = parameters(overrides=WHOLE)
    kills, saving, ends, place = 0, 0, 0, new_place()
    for _ in range(20 * count):
        if kills == count:
            break
        before = look(place, truth, digest)
        doing = kill(place, told, trainer, draw.uniform(0.1, 0.9) * truth.length)
        kills += doing != "ended"
        saving += doing == "saving"
        after = look(place, truth, digest)
        assert after >= before
        if after == STEPS:
            ends += 1
            place = new_place()
    assert kills == count
    trainer.run(place, told)
    assert look(place, truth, digest) == STEPS
    return saving, ends + 1


def test_a_session_killed_at_any_instant_leaves_true_checkpoints(
    new_place, parameters, trainer, truth, digest
):
    tools = {"new_place": new_place, "parameters": parameters, "trainer": trainer}

    saving, _ = sweep(12, 1, truth=truth, digest=digest, **tools)

    assert saving >= 1, "no kill fell into a save"


@pytest.mark.prove
def test_two_hundred_kills_leave_true_checkpoints(
    new_place, parameters, trainer, truth, digest, proven
):
    tools = {"new_place": new_place, "parameters": parameters, "trainer": trainer}

    saving, ends = sweep(200, 2, truth=truth, digest=digest, **tools)

    assert saving >= 20
    proven(
        "200 kills -9 of the trainer at random instants",
        f"{saving} in a save; every checkpoint left equals the uninterrupted run's at its step; "
        f"{ends} sessions went on to the end",
    )


@pytest.mark.prove
@pytest.mark.parametrize("processes", [1, 2])
def test_whole_sessions_killed_at_any_instant_leave_true_checkpoints(
    new_place, parameters, digest, proven, processes
):
    """Launcher, torchrun and all training processes at once."""
    told, alone = parameters(overrides=WHOLE), new_place()
    keep = parameters(overrides={**WHOLE, "keep_checkpoints": STEPS + 1})
    alone.run(keep, KCHAIN_PROCESSES=str(processes))
    entries = [entry for entry in alone.manifest["files"] if entry["kind"] == "checkpoint"]
    alone.truth = {entry["step"]: digest(alone.checkpoints / entry["name"]) for entry in entries}
    length = sum(alone.verdict["seconds"].values())
    draw, place, midway = random.Random(processes), new_place(), 0  # noqa: S311 - instants
    for _ in range(20):
        launcher = place.start(told, KCHAIN_PROCESSES=str(processes))
        try:
            launcher.communicate(timeout=draw.uniform(0.5, 1.0) * length)
        except subprocess.TimeoutExpired:
            for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
                process.kill()  # torchrun's processes are in groups of their own
            launcher.communicate()
        step = look(place, alone, digest)
        midway += 0 < step < STEPS
        if step == STEPS:
            place = new_place()
    assert midway >= 3
    proven(
        f"20 kills -9 of a whole session, {processes} training process(es)",
        f"{midway} left checkpoints midway; each equals the uninterrupted run's at its step",
    )
