"""State folders of older days, put back while the account is further along."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from orchestrator.machine import Phase
from tests.simulation.chain import DATASET, KERNEL, Simulation
from tests.simulation.crashes import Watched
from tests.simulation.faults import FaultyKaggle
from tests.simulation.invariants import require
from tests.simulation.kaggle import SimulatedKaggle


def keep_backup(run: Simulation, wanted: int, drive: Callable[[Simulation], None]) -> Path | None:
    """Drive a chain, and copy its state folder right after one of its events; None if it has fewer."""
    folder, events = run.folder / "backup", itertools.count()

    def kill(number: int, moment: str) -> bool:
        is_event = moment == "after" and run.effects.names[number].startswith("journal.append")
        if is_event and next(events) == wanted:
            shutil.copytree(run.folder / "state", folder)
        return kills(number, moment)

    kills, run.effects._kills = run.effects._kills, kill
    drive(run)
    run.effects._kills = kills
    return folder if folder.exists() else None


def check_line(run: Simulation, sessions: int, *, in_vain: int = 0) -> None:
    """By what really landed: so many sessions, one after the other, and as many versions, each
    whole and from the one before it; and the chain knows the last of them as its head.

    `in_vain` is the number of sessions that were started and brought nothing.
    """
    pushes = [push for push in run.host.pushes(KERNEL) if push.token]
    require(all(push.live_beside == 0 for push in pushes), "I1", "two sessions were live at once")
    require(len(pushes) == sessions + in_vain, "I6", f"{len(pushes)} sessions were started")
    versions, before = run.host.versions(DATASET), None
    require(len(versions) == sessions, "I2", f"there are {len(versions)} dataset versions")
    for number, version in enumerate(versions, start=1):
        content = version.files["manifest.json"]
        manifest = json.loads(content)
        parent = manifest["parent"] and manifest["parent"]["manifest_sha256"]
        require(manifest["session"] == number, "I2", f"version {number} is another session's")
        is_whole = set(version.files) == {*manifest["publish"], "manifest.json"}
        require(is_whole, "I5", f"version {number} is not whole")
        require(parent == before, "I3", f"version {number} does not continue the one before it")
        before = hashlib.sha256(content).hexdigest()
    state = run.state
    require((state.phase, state.heads) == (Phase.DONE, sessions), "I11", f"it ended as {state}")
    is_last = state.head and state.head.checkpoint.manifest_sha256 == before
    require(is_last, "I3", "the head is not the last version")


def drive_both(first: Simulation, second: Simulation) -> None:
    """Let two controllers with a journal each drive one chain until neither wants to go on."""
    wakes = {id(run): run.clock.now() for run in (first, second)}
    for _ in range(2_000):
        due = [run for run in (first, second) if id(run) in wakes]
        if not due:
            return
        run = min(due, key=lambda each: wakes[id(each)])
        run.clock.sleep(wakes[id(run)] - run.clock.now())
        wake = run.tick()
        if wake is None:
            del wakes[id(run)]
        else:
            wakes[id(run)] = wake
    raise AssertionError(f"they never end: {first.state}, {second.state}")


def put_beside(second: Simulation, first: Simulation, backup: Path) -> None:
    """Start a second controller of the same chain, from a copy of the first one's folder."""
    second.clock, second.host = first.clock, first.host
    second.kaggle = SimulatedKaggle(second.host)
    faulty = FaultyKaggle(second.kaggle, second.plan.strike)
    second._struck = Watched("kaggle", faulty, second.effects)
    first.host.on_landing = None  # which would ask the first one's journal only
    second.restore(backup)
