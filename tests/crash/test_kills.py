"""kill -9 of the real command in the real loop, and what is true of Kaggle afterwards."""

import contextlib
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.crash.place import kill_tree
from tests.running import LONGEST_SECONDS, wait_until

CONTROLLER = (sys.executable, "-m", "tests.crash.controller")
WAYS = ("everything", "the controller alone", "the worker alone")
TURNS = (*WAYS, *WAYS[:2], *WAYS[:2])  # without its worker, a controller goes on to the end


class Storm:
    """Kills controllers, one chain after the other, and checks each chain when it is done."""

    def __init__(self, new_place):
        self._new_place = new_place
        self.place = new_place()
        self.kills, self.chains = 0, 0

    def strike(self, way, instant):
        """Start a controller and kill it so, at this instant if it still runs."""
        process = self.place.start()
        try:
            process.communicate(timeout=instant)
        except subprocess.TimeoutExpired:
            self.kills += self._kill(process, way)
        self._look(process)

    def finish(self):
        """Let the chain that is under way reach its target."""
        code, output = self.place.finish()
        assert code == 0, output
        self._close_chain()

    def _kill(self, process, way):
        if way == "everything":
            kill_tree(process)
        elif way == "the controller alone":
            process.kill()
        else:
            killed = wait_until(lambda: kill_worker(process) or process.poll() is not None)
            process.communicate(timeout=LONGEST_SECONDS)
            return killed is process
        process.communicate(timeout=LONGEST_SECONDS)
        return 1

    def _look(self, process):
        self.place.check_nothing_is_left()
        self.place.check_always()
        # 3: a controller whose worker dies while it looks at the credential says: try later.
        assert process.returncode in (0, 3, -signal.SIGKILL), process.returncode
        if process.returncode == 0:
            self._close_chain()

    def _close_chain(self):
        self.place.check()
        self.place.close()
        self.chains += 1
        self.place = self._new_place()


def kill_worker(controller):
    """Kill one worker, if there is one; the controller goes on, and its call has no answer."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it is just ending, or its controller is
        for worker in controller.children()[:1]:
            worker.kill()
            return controller
    return None


def storm(new_place, kills, seed):
    """Kill so many controllers at instants drawn over the length of a session."""
    draw, weather = random.Random(seed), Storm(new_place)  # noqa: S311 - instants, not secrets
    began_at = time.monotonic()
    weather.finish()
    length = time.monotonic() - began_at
    by_way = dict.fromkeys(WAYS, 0)
    for turn in range(20 * kills):
        if weather.kills == kills:
            break
        way, before = TURNS[turn % len(TURNS)], weather.kills
        weather.strike(way, draw.uniform(0.05, 0.8) * length)
        by_way[way] += weather.kills - before
    assert weather.kills == kills
    weather.finish()
    return by_way, weather.chains


def sweep(new_place, wanted):
    """Kill a controller at each of these points (all that there are if None), once each."""
    chains, fired = 0, []
    while wanted is None or wanted:
        place = new_place()
        if wanted is None:
            (place.folder / "points").write_text("")
            assert place.finish("run", command=(*CONTROLLER, str(place.folder)))[0] == 0
            wanted = sorted(set((place.folder / "passed").read_text().splitlines()))
        else:
            before = len(fired)
            sweep_chain(place, wanted, fired)
            assert len(fired) > before, f"no chain passes {wanted}"
        place.check()
        place.close()
        chains += 1
    return fired, chains


def sweep_chain(place, wanted, fired):
    """Carry one chain to its target, dying at each wanted point that it passes."""
    while True:
        (place.folder / "points").write_text("\n".join(wanted))
        code, output = place.finish("run", command=(*CONTROLLER, str(place.folder)))
        place.check_nothing_is_left()
        place.check_always()
        if code == 0:
            return
        assert code == -signal.SIGKILL, output
        point = (place.folder / "passed").read_text().splitlines()[-1]
        wanted.remove(point)
        fired.append(point)


MOST_TELLING = [
    "after journal.append push_sent in session 1",
    "after kaggle.push in session 1",
    "after files.promote in session 1",
    "after journal.append publish_sent in session 1",
    "after kaggle.create_dataset in session 1",
    "after kaggle.push in session 2",
    "before journal.append head in session 2",
    "after kaggle.publish_version in session 2",
]


def test_a_controller_killed_at_any_instant_starts_nothing_twice(new_place):
    by_way, _ = storm(new_place, 9, 1)

    assert min(by_way.values()) >= 1, by_way


def test_a_controller_killed_where_it_hurts_most_starts_nothing_twice(new_place):
    fired, _ = sweep(new_place, list(MOST_TELLING))

    assert sorted(fired) == sorted(MOST_TELLING)


@pytest.mark.prove
@pytest.mark.timeout(5400)
def test_two_hundred_kills_at_random_instants_start_nothing_twice(new_place, proven):
    by_way, chains = storm(new_place, 200, 2)

    told = ", ".join(f"{count} of {way}" for way, count in by_way.items())
    proven(
        "200 kills -9 in the real loop over HTTP, at random instants",
        f"{told}; {chains} chains reached their target; sessions started twice, versions"
        f" published twice, checkpoints lost: 0 in {3 * chains} each",
    )


@pytest.mark.prove
@pytest.mark.timeout(5400)
def test_a_kill_at_every_named_point_starts_nothing_twice(new_place, proven):
    fired, chains = sweep(new_place, None)

    assert len(fired) == len(set(fired)) >= 150
    proven(
        "kill -9 in the real loop over HTTP, before and after every call across a seam",
        f"{len(fired)} points, each at least once, in {chains} chains; sessions started twice,"
        f" versions published twice, checkpoints lost: 0 in {3 * chains} each",
    )


def test_a_worker_ends_when_its_controller_is_gone(place):
    process = place.start()
    wait_until(place.workers, "a worker has started")
    (worker, *_) = place.workers()

    process.kill()
    process.wait()

    assert worker.wait(timeout=30) is None or not worker.is_running()
    place.check_nothing_is_left()
