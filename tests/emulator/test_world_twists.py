"""What the platform does wrong once, when an operation is told to go wrong."""

import pytest

from orchestrator.emulator.records import (
    END_TWISTS,
    PUBLISH_TWISTS,
    PUSH_TWISTS,
    START_TWISTS,
    Draft,
    File,
    Refusal,
    Twist,
)

HOUR = 3600.0
DRAFT = Draft(owner="local", slug="my-data", title="My Data")


@pytest.fixture
def chain(driver):
    """A world with one ready dataset of three versions, each with two files."""
    driver = driver(queue_seconds=0, dataset_visible_seconds=1, dataset_processing_seconds=5)
    driver.world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])
    for at in (100, 200):
        publish(driver, at)
    return driver


def publish(driver, at, twist=None):
    files = [driver.upload(at, name) for name in ("a.bin", "b.bin")]
    return driver.world.create_dataset_version(
        at, owner="local", slug="my-data", notes="n", files=files, twist=twist
    )


def current(driver, now):
    return driver.world.dataset(now, owner="local", slug="my-data").current


def status(driver, now):
    return driver.world.dataset_status(now, owner="local", slug="my-data")


def end(driver, at, twist, **fields):
    session = driver.start(at, **fields)
    driver.world.end_session(
        at + 60,
        session_id=session.session_id,
        ending="complete",
        files=[File("out.txt", "key", 3)],
        log_key="log",
        twist=twist,
    )
    return lambda now: driver.world.session(now, owner="local", slug=session.slug)


def test_sources_are_dropped_although_they_exist(chain, push):
    pushed = chain.world.save_kernel(
        1000, push=push(dataset_sources=("local/my-data",)), twist="drop_sources"
    )
    session = chain.world.session(1000, owner="local", slug="train-loop")

    assert pushed.invalid_dataset_sources == ("local/my-data",)
    assert chain.world.start_session(1000, session_id=session.session_id).mounts == ()


def test_a_push_lands_at_another_address(chain, push):
    pushed = chain.world.save_kernel(1000, push=push(), twist="land_elsewhere")

    assert (pushed.slug, pushed.version) == ("train-loop-2", 1)
    with pytest.raises(Refusal):
        chain.world.kernel(1001, owner="local", slug="train-loop")


def test_a_push_waits_for_a_machine_for_hours(chain, push):
    chain.world.save_kernel(1000, push=push(), twist="queue_long")

    assert chain.world.next_due_at(1000) == 1000 + 6 * HOUR


@pytest.mark.parametrize(
    ("twist", "names"),
    [("lose_file", ["a.bin"]), ("lose_all_files", []), (None, ["a.bin", "b.bin"])],
)
def test_a_version_is_made_without_some_of_its_files(chain, twist, names):
    number = publish(chain, 1000, twist).number

    version = chain.world.dataset_version(2000, owner="local", slug="my-data", number=number)
    assert [file.name for file in version.files] == names
    assert status(chain, 2000) == "READY"


@pytest.mark.parametrize(
    ("twist", "last"), [("stick_processing", "BLOBS_RECEIVED"), ("fail_processing", "FAILED")]
)
def test_a_version_appears_and_never_becomes_ready(chain, twist, last):
    number = publish(chain, 1000, twist).number

    assert current(chain, 1001).number == number
    assert status(chain, 10**6) == last
    with pytest.raises(Refusal) as refused:
        chain.world.dataset_version(10**6, owner="local", slug="my-data", number=number)
    assert refused.value.status == 404
    assert chain.start(10**6, dataset_sources=("local/my-data",)).mounts[0].version == number - 1


def test_a_version_that_was_accepted_never_appears_and_a_later_one_does(chain):
    hidden = publish(chain, 1000, "hide_version").number

    assert (current(chain, 10**6).number, status(chain, 10**6)) == (hidden - 1, "READY")
    assert publish(chain, 10**6).number == hidden + 1
    assert current(chain, 2 * 10**6).number == hidden + 1


def test_a_session_gets_a_cpu_in_place_of_its_gpu(chain, push):
    chain.world.save_kernel(1000, push=push(enable_gpu=True))
    session = chain.world.session(1000, owner="local", slug="train-loop")

    started = chain.world.start_session(1000, session_id=session.session_id, twist="no_accelerator")

    assert (session.accelerator, started.accelerator) == ("GPU", "CPU")
    assert chain.world.quotas(2000)[1].used_seconds == 0


def test_a_session_mounts_the_version_before_the_latest(chain, push):
    chain.world.save_kernel(1000, push=push(dataset_sources=("local/my-data",)))
    session = chain.world.session(1000, owner="local", slug="train-loop")

    started = chain.world.start_session(1000, session_id=session.session_id, twist="old_mounts")

    assert [mount.version for mount in started.mounts] == [2]


@pytest.mark.parametrize(
    ("twist", "status", "outputs", "log"),
    [
        (None, "COMPLETE", True, True),
        ("vanish", "ERROR", False, True),
        ("cancel", "CANCEL_ACKNOWLEDGED", False, False),
        ("out_of_memory", "ERROR", False, True),
        ("lose_outputs", "COMPLETE", False, True),
        ("lose_log", "COMPLETE", True, False),
        ("report_cancelled", "CANCEL_ACKNOWLEDGED", True, True),
    ],
)
def test_a_session_ends_otherwise_than_its_program(chain, twist, status, outputs, log):
    session = end(chain, 1000, twist)(1060)

    assert session.status == status
    assert (bool(session.outputs), bool(session.log_key)) == (outputs, log)


def test_a_wedged_session_is_called_running_for_hours_without_being_billed(chain):
    read = end(chain, 1000, "wedge", enable_gpu=True)

    assert (read(1060 + 2 * HOUR - 1).status, read(1060).outputs) == ("RUNNING", ())
    assert (read(1060 + 2 * HOUR).status, len(read(1060 + 2 * HOUR).outputs)) == ("COMPLETE", 1)
    assert chain.world.quotas(5000)[1].used_seconds == 60


def test_every_twist_belongs_to_one_operation(chain, push):
    groups = (PUSH_TWISTS, PUBLISH_TWISTS, START_TWISTS, END_TWISTS)

    assert sum(len(group) for group in groups) == len(Twist)
    assert frozenset.union(*groups) == frozenset(Twist)
    with pytest.raises(ValueError, match="wedge is none of"):
        chain.world.save_kernel(1000, push=push(), twist="wedge")
