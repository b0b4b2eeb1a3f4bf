"""What a machine does to a running command besides killing it: signals, limits, closed streams."""

import resource
import shutil
import signal
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from orchestrator.machine import Kind
from tests.running import COMMAND, LONGEST_SECONDS, wait_until

INTERRUPTED = 130
MOMENTS = (4, 10, 15)  # events: while a session runs, is published, and again


def start_and_wait(place, events, **options):
    """Start a run and wait until the journal holds so many events."""
    process = place.start("run", **options)
    wait_until(lambda: place.count_events() >= events, f"event {events}")
    return process


def finish(place):
    code, output = place.finish()
    assert code == 0, output
    place.check()


def test_a_signal_ends_a_run_tidily_in_any_phase_and_it_goes_on(place):
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for turn, events in enumerate(MOMENTS):
        process = start_and_wait(place, events)
        process.send_signal(signals[turn % len(signals)])
        output, _ = process.communicate(timeout=LONGEST_SECONDS)

        assert process.returncode == INTERRUPTED, output
        assert "run the same command again" in output
        assert "Traceback" not in output
        place.check_nothing_is_left()

    finish(place)


def test_a_machine_that_sleeps_wakes_up_to_a_chain_that_goes_on(place):
    process = place.start("run")
    for events in (4, 12):
        wait_until(lambda events=events: place.count_events() >= events, f"event {events}")
        family = [process, *process.children(recursive=True)]
        for member in family:
            member.suspend()
        wait_until(lambda: not open_sessions(place), "the session has ended without us")
        for member in family:
            member.resume()
    output, _ = process.communicate(timeout=LONGEST_SECONDS)

    assert process.returncode == 0, output
    place.check()


def open_sessions(place):
    return [s for s in place.local.state()["sessions"] if s["ended_at"] is None]


# The zones furthest apart, as rules in which the sign is the other way round.
ZONES = {"EAST-14": 14, "WEST+12": -12}
MILESTONES = {Kind.PUSH_INTENT, Kind.PUSH_DONE, Kind.CHECKPOINT_VERIFIED, Kind.HEAD, Kind.FINISHED}


def test_in_every_zone_a_run_shows_its_time_and_writes_the_same(new_place):
    stories = []
    for zone, hours in ZONES.items():
        place = new_place()
        code, output = place.finish("run", env={**place.environment, "TZ": zone})

        assert code == 0, output
        place.check()
        events = place.read().events
        local = timezone(timedelta(hours=hours))
        shown = f"{datetime.fromtimestamp(events[0].at, local):%H:%M:%S}  "
        assert any(line.startswith(shown) for line in output.splitlines())
        steps = [event for event in events if event.kind in MILESTONES]
        stories.append([(e.kind, e.data.get("session"), e.data.get("version")) for e in steps])

    assert stories[0] == stories[1]


# Nobody listens


def test_a_run_whose_reader_goes_away_ends_as_not_finished(place):
    process = place.start("run", stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, complaint = process.communicate(timeout=LONGEST_SECONDS)

    assert (process.returncode, complaint) == (3, "")
    finish(place)


def test_a_run_without_any_output_stream_does_its_work(place):
    shell = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND)

    code, _ = place.finish("run", command=shell)

    assert code == 0
    place.check()


def test_a_run_whose_output_goes_to_a_full_disk_says_so(place):
    with open("/dev/full", "w") as full:
        process = place.start("run", stdout=full, stderr=subprocess.PIPE)
        _, complaint = process.communicate(timeout=LONGEST_SECONDS)

    assert process.returncode == 3
    assert "No space left on device" in complaint
    assert "Traceback" not in complaint
    finish(place)


# Others


def test_of_two_ticks_at_once_the_second_says_so_and_does_nothing(place):
    first = start_and_wait(place, 3)
    first.suspend()
    before = place.count_events()

    for command in ("tick", "run"):
        code, output = place.finish(command)
        assert code == 3, output
        assert "another kchain is working" in output

    assert place.count_events() == before
    first.resume()
    output, _ = first.communicate(timeout=LONGEST_SECONDS)
    assert first.returncode == 0, output
    place.check()


def test_a_lock_left_by_a_dead_controller_holds_nobody_up(place):
    first = start_and_wait(place, 3)
    first.kill()
    first.wait()

    finish(place)


# Limits


def limited(limit, value):
    """A preparation of a process: this limit is so low."""

    def prepare():
        resource.setrlimit(limit, (value, value))

    return prepare


@pytest.mark.parametrize("files", [6, 10, 16])
def test_with_too_few_open_files_a_tick_says_so(place, files):
    code, output = place.finish("tick", preexec_fn=limited(resource.RLIMIT_NOFILE, files))

    assert code == 3, output
    assert "Traceback" not in output
    assert "Too many open files" in output or files > 10
    place.check_always()


def test_a_limit_on_file_sizes_stops_a_run_and_it_goes_on_without_it(place):
    code, output = place.finish("run", preexec_fn=limited(resource.RLIMIT_FSIZE, 12_000))

    assert code == 3, output
    assert "Traceback" not in output
    finish(place)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, which lets forks fail")
@pytest.mark.parametrize("number", ["1+", "2", "3"])
def test_a_machine_that_starts_no_process_or_thread_costs_nothing_but_time(place, number):
    calls = "?fork,?vfork,clone,?clone3"
    inject = f"inject={calls}:error=EAGAIN:when={number}"
    trace = place.folder / "trace"
    options = ("-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", inject)

    code, output = place.finish("run", command=("strace", *options, *COMMAND))

    assert "(INJECTED)" in trace.read_text()
    assert code == (3 if number in ("1+", "2") else 0), output  # 3: only the log is not shown
    assert "Traceback" not in output
    place.check_nothing_is_left()
    finish(place)
