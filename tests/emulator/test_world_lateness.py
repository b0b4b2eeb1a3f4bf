"""How late readers learn of what happened, and what an account may do."""

import pytest

from orchestrator.emulator.records import Draft, File, Refusal

DRAFT = Draft(owner="local", slug="my-data", title="My Data")
NAME = {"owner": "local", "slug": "train-loop"}
DATA = {"owner": "local", "slug": "my-data"}


def refusal(call, *args, **kwargs):
    with pytest.raises(Refusal) as refused:
        call(*args, **kwargs)
    return refused.value.status, refused.value.message


def test_a_status_without_label_is_the_previous_sessions_for_a_while(driver, push):
    driver = driver(status_stale_seconds=10, queue_seconds=0)
    driver.run(0)
    driver.world.save_kernel(1000, push=push())

    assert driver.world.session(1009, **NAME).status == "COMPLETE"
    assert driver.world.session(1009, label="v2", **NAME).status == "QUEUED"
    assert driver.world.session(1010, **NAME).status == "QUEUED"


def test_the_first_push_has_no_previous_session_to_be_taken_for(driver, push):
    world = driver(status_stale_seconds=10).world
    world.save_kernel(0, push=push())

    assert world.session(1, **NAME).status == "QUEUED"


def test_a_push_is_not_seen_for_a_while(driver, push):
    driver = driver(kernel_visible_seconds=10, queue_seconds=0)
    world = driver.world
    world.save_kernel(0, push=push(source="first"))
    assert refusal(world.kernel, 9, **NAME)[0] == 403
    assert not world.kernels(9)
    world.save_kernel(100, push=push(source="second"))

    assert world.kernel(109, **NAME).latest.number == 1
    assert world.kernel_version(109, **NAME).push.source == "first"
    assert refusal(world.kernel_version, 109, label="v2", **NAME)[0] == 404
    assert [kernel.latest.number for kernel in world.kernels(110)] == [2]
    assert world.kernel_version(110, label="v2", **NAME).push.source == "second"


def test_an_end_is_reported_late(driver):
    driver = driver(end_reported_seconds=30)
    ended = driver.run(0, seconds=60, ending="exception")

    at = ended.ended_at
    assert driver.world.session(at + 29, **NAME).status == "RUNNING"
    assert driver.world.session(at + 30, **NAME).status == "ERROR"
    assert driver.world.session_by_id(at, session_id=ended.session_id).status == "ERROR"


def test_outputs_are_listed_one_after_the_other_and_the_log_last(driver):
    driver = driver(outputs_listed_seconds=40, log_written_seconds=50)
    session = driver.start(0)
    files = [File(name, name, 1) for name in "abcd"]
    driver.world.end_session(
        100, session_id=session.session_id, ending="complete", files=files, log_key="log"
    )

    seen = {at: driver.world.session(at, **NAME) for at in (100, 110, 139, 140, 149, 150)}

    assert [len(session.outputs) for session in seen.values()] == [0, 1, 3, 4, 4, 4]
    assert [session.log_key for session in seen.values()] == ["", "", "", "", "", "log"]


def test_a_ready_version_cannot_be_read_or_mounted_at_once(driver):
    driver = driver(
        dataset_visible_seconds=0,
        dataset_processing_seconds=10,
        dataset_readable_seconds=20,
        dataset_mountable_seconds=30,
    )
    driver.world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])

    assert driver.world.dataset_status(10, **DATA) == "READY"
    assert refusal(driver.world.dataset_version, 29, **DATA)[0] == 404
    assert driver.world.dataset_version(30, **DATA).number == 1
    assert driver.start(38, slug="early-one", dataset_sources=("local/my-data",)).mounts == ()
    assert driver.start(40, slug="late-one", dataset_sources=("local/my-data",)).mounts


def test_more_than_the_account_may_store_is_accepted_and_never_appears(driver):
    driver = driver(storage_bytes=10)
    world = driver.world
    world.create_dataset(0, draft=DRAFT, files=[driver.upload(0, size_bytes=6)])
    too_much = {"notes": "", "files": [driver.upload(100, size_bytes=5)]}

    assert world.create_dataset_version(100, **DATA, **too_much).number == 2
    assert world.dataset(10**6, **DATA).current.number == 1


def test_deleting_makes_room_again(driver):
    driver = driver(storage_bytes=10)
    world = driver.world
    world.create_dataset(0, draft=DRAFT, files=[driver.upload(0, size_bytes=6)])
    world.delete_dataset(100, **DATA)
    other = Draft(owner="local", slug="other-data", title="Other Data")
    world.create_dataset(200, draft=other, files=[driver.upload(200, size_bytes=6)])
    for at in (300, 400):
        files = [driver.upload(at, size_bytes=4)]
        world.create_dataset_version(
            at, owner="local", slug="other-data", notes="", files=files, delete_old_versions=True
        )

    assert world.dataset(10**6, owner="local", slug="other-data").current.number == 3


def test_a_deleted_dataset_is_gone_and_its_names_stay_taken(driver):
    driver = driver()
    world = driver.world
    world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])

    world.delete_dataset(100, **DATA)

    assert refusal(world.dataset, 101, **DATA)[0] == 403
    assert refusal(world.delete_dataset, 101, **DATA)[0] == 403
    assert not world.datasets(101)
    for slug, title in (("my-data", "New Title"), ("new-data", "My Data")):
        draft = Draft(owner="local", slug=slug, title=title)
        answer = refusal(world.create_dataset, 102, draft=draft, files=[driver.upload(102)])
        assert (answer[0], "already in use" in answer[1]) == (200, True)


def test_what_is_said_about_a_dataset_can_be_changed(driver):
    driver = driver()
    world = driver.world
    world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])
    other = Draft(owner="local", slug="other-data", title="Other Data")
    world.create_dataset(0, draft=other, files=[driver.upload(0)])
    changed = Draft(owner="local", slug="my-data", title="Our Data", is_private=False)

    world.update_dataset(100, draft=changed)

    assert world.dataset(101, **DATA).draft == changed
    assert world.dataset(101, **DATA).current.number == 1
    for title in ("Other Data", "Short"):
        draft = Draft(owner="local", slug="my-data", title=title)
        assert refusal(world.update_dataset, 102, draft=draft)[0] == 200


def test_deleting_a_kernel_ends_its_session_and_its_bill_at_once(driver, push):
    driver = driver(queue_seconds=0)
    session = driver.start(0, enable_gpu=True)
    driver.start(0, slug="other-loop", enable_gpu=True)

    driver.world.delete_kernel(62, **NAME)

    assert refusal(driver.world.session, 63, **NAME)[0] == 403
    ended = driver.world.session_by_id(63, session_id=session.session_id)
    assert (ended.status, ended.ended_at, ended.outputs) == ("CANCEL_ACKNOWLEDGED", 62, ())
    assert [left.slug for left in driver.world.open_sessions(63)] == ["other-loop"]
    assert driver.world.quotas(1000)[1].used_seconds == 62 + 1000
    again = driver.world.save_kernel(1001, push=push())
    assert (again.version, again.kernel_id > 0) == (1, True)


def test_a_session_whose_kernel_was_deleted_stays_as_it_ended(driver):
    driver = driver(queue_seconds=0)
    session = driver.start(0)
    driver.world.delete_kernel(62, **NAME)

    files = [File("late.txt", "late", 1)]
    driver.world.end_session(
        70, session_id=session.session_id, ending="complete", files=files, log_key="late"
    )

    ended = driver.world.session_by_id(71, session_id=session.session_id)
    assert (ended.status, ended.ended_at, ended.outputs) == ("CANCEL_ACKNOWLEDGED", 62, ())


def test_a_session_whose_kernel_was_deleted_is_neither_started_nor_run(driver, push):
    world = driver(queue_seconds=0).world
    world.save_kernel(0, push=push())
    [session] = world.due_sessions(0)
    world.delete_kernel(1, **NAME)

    for call in (world.start_session, world.version_of_session):
        assert refusal(call, 2, session_id=session.session_id)[0] == 404


def test_a_new_kernel_never_gets_the_number_of_a_deleted_one(driver, push):
    world = driver().world
    first = world.save_kernel(0, push=push()).kernel_id
    world.delete_kernel(1, **NAME)

    assert world.save_kernel(2, push=push()).kernel_id != first


def test_nobody_can_cancel_a_session(driver):
    driver = driver()
    session = driver.start(0)

    answer = refusal(driver.world.cancel_session, 10, session_id=session.session_id)

    assert answer == (403, "Permission 'kernelSessions.cancel' was denied")
    assert driver.world.session(11, **NAME).status == "RUNNING"


def test_a_token_for_reading_changes_nothing(driver, push):
    driver = driver(token_can_write=False)
    world = driver.world
    calls = (
        (world.save_kernel, {"push": push()}),
        (world.delete_kernel, NAME),
        (world.start_upload, {"name": "a.bin", "size_bytes": 1}),
        (world.create_dataset, {"draft": DRAFT, "files": []}),
        (world.create_dataset_version, {**DATA, "notes": "", "files": []}),
        (world.update_dataset, {"draft": DRAFT}),
        (world.delete_dataset, DATA),
    )

    for call, fields in calls:
        status, message = refusal(call, 1, **fields)
        assert (status, message.endswith("was denied")) == (403, True)
    assert world.quotas(2)[1].total_seconds == 108000


def test_an_unverified_account_gets_no_accelerator_and_no_internet(driver, push):
    driver = driver(phone_verified=False)
    session = driver.start(0, enable_gpu=True, machine_shape="NvidiaTeslaT4", enable_internet=True)

    version = driver.world.kernel_version(1, **NAME)
    assert session.accelerator == "CPU"
    assert (version.push.enable_gpu, version.push.enable_internet) == (False, False)
