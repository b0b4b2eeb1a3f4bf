from datetime import UTC, datetime

import pytest

from orchestrator.emulator import quota
from orchestrator.emulator.records import Refusal

HOUR = 3600.0
SATURDAY = datetime(2026, 10, 3, tzinfo=UTC).timestamp()
WEEK = 7 * 86400


@pytest.mark.parametrize("day", ["2026-09-26", "2026-10-03", "2026-10-10"])
def test_quota_is_reset_on_saturday_at_midnight_utc(day):
    reset_at = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()

    assert quota.week_start(reset_at) == reset_at
    assert quota.week_start(reset_at - 1) == reset_at - WEEK
    assert quota.refresh_at(reset_at - 1) == reset_at


def test_use_accrues_while_a_session_runs_and_stops_with_it(driver):
    driver = driver(queue_seconds=0)
    session = driver.start(SATURDAY, enable_gpu=True)

    assert driver.world.quotas(SATURDAY + HOUR)[1].used_seconds == HOUR
    driver.world.end_session(SATURDAY + 2 * HOUR, session_id=session.session_id, ending="exception")
    assert driver.world.quotas(SATURDAY + 9 * HOUR)[1].used_seconds == 2 * HOUR


def test_waiting_in_the_queue_is_free(driver, push):
    world = driver(queue_seconds=0).world
    world.save_kernel(SATURDAY, push=push(enable_gpu=True))

    assert world.quotas(SATURDAY + HOUR)[1].used_seconds == 0


def test_a_running_session_reserves_what_it_may_still_use(driver):
    driver = driver(queue_seconds=0)
    driver.start(SATURDAY, enable_gpu=True, timeout_seconds=7200)

    _, gpu, tpu = driver.world.quotas(SATURDAY + HOUR)

    assert (gpu.reserved_seconds, gpu.remaining_seconds) == (HOUR, 28 * HOUR)
    assert gpu.has_ever_run
    assert not tpu.has_ever_run


def test_cpu_sessions_use_no_quota(driver):
    driver = driver()
    driver.run(SATURDAY, seconds=HOUR)

    _, gpu, tpu = driver.world.quotas(SATURDAY + HOUR)

    assert gpu.used_seconds == tpu.used_seconds == 0


def test_a_session_across_the_reset_counts_in_both_weeks(driver):
    driver = driver(queue_seconds=0)
    driver.run(SATURDAY - HOUR, seconds=3 * HOUR, enable_gpu=True)

    assert driver.world.quotas(SATURDAY + 3 * HOUR)[1].used_seconds == 2 * HOUR


def test_a_push_is_refused_once_the_quota_is_used_up(driver, push):
    driver = driver(queue_seconds=0)
    for index in range(3):
        driver.run(SATURDAY + index * 11 * HOUR, seconds=10 * HOUR, enable_gpu=True)
    now = SATURDAY + 40 * HOUR

    with pytest.raises(Refusal) as refused:
        driver.world.save_kernel(now, push=push(enable_gpu=True))

    text = "Maximum weekly GPU quota of 30.00 hours reached."
    assert (refused.value.status, refused.value.message) == (200, text)
    assert driver.world.save_kernel(now, push=push()).version == 4
    assert driver.world.save_kernel(SATURDAY + WEEK, push=push(enable_gpu=True)).version == 5


@pytest.mark.parametrize(
    ("fields", "limit_seconds"),
    [
        ({}, 12 * HOUR),
        ({"enable_gpu": True}, 12 * HOUR),
        ({"enable_tpu": True}, 9 * HOUR),
        ({"timeout_seconds": 60}, 60),
        ({"timeout_seconds": 10**6}, 12 * HOUR),
    ],
)
def test_a_session_may_run_as_long_as_asked_up_to_the_platforms_cap(driver, fields, limit_seconds):
    assert driver().start(SATURDAY, **fields).limit_seconds == limit_seconds


def test_a_session_may_not_run_longer_than_the_quota_lasts(driver):
    driver = driver(queue_seconds=0)
    for index in range(3):
        driver.run(SATURDAY + index * 11 * HOUR, seconds=9 * HOUR, enable_gpu=True)

    session = driver.start(SATURDAY + 40 * HOUR, enable_gpu=True)

    assert session.limit_seconds == 3 * HOUR
