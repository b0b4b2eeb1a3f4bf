"""Facts about Kaggle that the other tests of the world's rules do not show."""

import pytest

from orchestrator.emulator import forms, wire
from orchestrator.emulator.kernels import MACHINE_SHAPES, slug_of_title
from orchestrator.emulator.links import Links
from orchestrator.emulator.records import Draft, File, NewFile, Refusal

HOUR = 3600.0
NAME = {"owner": "local", "slug": "train-loop"}
DATA = {"owner": "local", "slug": "my-data"}
DRAFT = Draft(owner="local", slug="my-data", title="My Data")


def refused(call, *args, **fields):
    with pytest.raises(Refusal) as caught:
        call(*args, **fields)
    return caught.value.status, caught.value.message


# Sources and mounts


def test_two_kernels_may_list_each_other(driver):
    driver = driver()
    driver.run(0, slug="kernel-a")

    [of_b] = driver.run(1000, slug="kernel-b", kernel_sources=("local/kernel-a",)).mounts
    [of_a] = driver.run(2000, slug="kernel-a", kernel_sources=("local/kernel-b",)).mounts

    assert (of_b.source, of_a.source) == ("local/kernel-a", "local/kernel-b")


def test_the_version_of_a_kernel_source_is_dropped_without_a_word(driver, push):
    driver = driver()
    driver.run(0, slug="producer")
    driver.run(1000, slug="producer")
    pushed = driver.world.save_kernel(2000, push=push(kernel_sources=("local/producer/1",)))
    [session] = driver.world.open_sessions(2000)

    assert pushed.invalid_kernel_sources == ()
    assert driver.world.kernel_version(2001, **NAME).kernel_sources == ("local/producer",)
    started = driver.world.start_session(2010, session_id=session.session_id)
    assert [mount.version for mount in started.mounts] == [2]


def test_a_source_that_was_deleted_is_invalid_at_a_push_and_absent_at_a_start(driver, push):
    driver = driver()
    world = driver.world
    driver.run(0, slug="producer")
    world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])
    consumer = push(dataset_sources=("local/my-data",), kernel_sources=("local/producer",))
    assert world.save_kernel(100, push=consumer).invalid_dataset_sources == ()
    [queued] = world.open_sessions(100)

    world.delete_dataset(101, **DATA)
    world.delete_kernel(101, owner="local", slug="producer")

    assert world.start_session(102, session_id=queued.session_id).mounts == ()
    again = world.save_kernel(103, push=consumer)
    assert again.invalid_dataset_sources == ("local/my-data",)
    assert again.invalid_kernel_sources == ("local/producer",)


def test_a_running_kernel_is_mounted_with_the_complete_version_before(driver):
    driver = driver()
    for at in (0, 1000):
        driver.run(at, slug="producer")
    driver.start(2000, slug="producer")

    [mount] = driver.start(3000, kernel_sources=("local/producer",)).mounts

    assert mount.version == 2


# Pushing


@pytest.mark.parametrize(
    ("size_bytes", "status"), [(933_761, 0), (1_141_256, 400), (3_112_456, 400)]
)
def test_a_source_is_accepted_or_refused_as_measured(driver, push, size_bytes, status):
    world = driver().world
    source = push(source="x" * size_bytes)

    if status:
        assert refused(world.save_kernel, 0, push=source)[0] == status
        assert not world.kernels(1)
    else:
        assert world.save_kernel(0, push=source).version == 1


@pytest.mark.parametrize(("length", "is_fine"), [(4, False), (5, True), (50, True), (51, False)])
def test_a_title_has_5_to_50_characters(driver, push, length, is_fine):
    title = "a" * length
    world = driver().world

    if is_fine:
        assert world.save_kernel(0, push=push(title, title=title)).slug == title
    else:
        assert refused(world.save_kernel, 0, push=push(title, title=title))[0] == 200


@pytest.mark.parametrize(
    ("title", "slug"),
    [("My  Train_Loop", "my-train-loop"), ("lr 3e5!", "lr-3e5"), ("--A & B--", "a-b")],
)
def test_a_slug_is_the_title_in_small_letters_and_hyphens(title, slug):
    assert slug_of_title(title) == slug


@pytest.mark.parametrize("shape", sorted(MACHINE_SHAPES))
def test_every_known_shape_is_accepted(driver, push, shape):
    assert driver().world.save_kernel(0, push=push(machine_shape=shape)).version == 1


def test_a_string_for_a_kernels_number_is_refused_in_kaggles_words():
    answer = refused(forms.parse_push, forms.Body({"id": "alice/train-loop"}))

    assert answer == (400, "Could not convert string to integer")


def test_fields_that_nobody_knows_are_ignored():
    push = forms.parse_push(forms.Body({"slug": "a/b", "priority": 3, "fromTheFuture": {"x": []}}))

    assert (push.owner, push.slug) == ("a", "b")


@pytest.mark.parametrize(("kind", "runs"), [("SAVE_AND_RUN_ALL", True), ("QUICK_SAVE", False)])
def test_an_enum_is_read_by_its_bare_name(kind, runs):
    assert forms.parse_push(forms.Body({"kernelExecutionType": kind})).runs is runs


# Status and outputs


def test_what_is_foreign_and_what_is_missing_look_alike(driver, push):
    world = driver().world
    world.save_kernel(0, push=push())
    world.create_dataset(0, draft=DRAFT, files=[])
    calls = ((world.kernel, "kernels.get"), (world.dataset, "datasets.get"))

    for call, permission in calls:
        for owner, slug in (("bob", "train-loop"), ("bob", "my-data"), ("local", "nothing")):
            answer = refused(call, 10, owner=owner, slug=slug)
            assert answer == (403, f"Permission '{permission}' was denied")


def test_a_newer_session_hides_the_outputs_of_older_ones(driver):
    driver = driver()
    driver.run(0)
    driver.start(1000)

    assert driver.world.session(1100, **NAME).outputs == ()
    [file] = driver.world.session(1100, label="v1", **NAME).outputs
    assert file.name == "out.txt"


def test_a_time_limit_may_lose_the_outputs_and_keep_the_log(driver):
    ended = driver(outputs_survive=frozenset()).run(0, ending="timeout")

    assert (ended.outputs, bool(ended.log_key)) == ((), True)


def test_an_output_is_at_an_address_of_the_same_shape_as_kaggles():
    url = Links("secret", "http://127.0.0.1:1").output(200000001, "ckpt/model.bin", 1e9)

    _host, kf, number, token, *path = url.removeprefix("http://").split("/")
    assert (kf, number, path) == ("kf", "200000001", ["ckpt", "model.bin"])
    assert token.startswith("eyJhbGciOiJkaXIi")


# Quota


def test_a_session_on_two_gpus_is_billed_its_time_once(driver):
    driver = driver(queue_seconds=0)
    driver.run(0, seconds=37, machine_shape="NvidiaTeslaT4")

    assert driver.world.quotas(100)[1].used_seconds == 37


# Datasets


def test_a_request_may_hold_a_tree_of_folders():
    body = {
        "files": [{"token": "t1"}],
        "directories": [
            {
                "name": "sub",
                "files": [{"token": "t2"}],
                "directories": [{"name": "deep", "files": [{"token": "t3"}]}],
            }
        ],
    }

    files = forms.parse_new_files(forms.Body(body))

    assert files == [NewFile("", "t1"), NewFile("sub/", "t2"), NewFile("sub/deep/", "t3")]


def test_a_token_serves_for_a_later_version_too(driver):
    driver = driver()
    file = driver.upload(0)
    driver.world.create_dataset(0, draft=DRAFT, files=[file])

    version = driver.world.create_dataset_version(100, **DATA, notes="", files=[file])

    assert version.number == 2
    assert [file.name for file in driver.world.dataset_version(200, **DATA).files] == ["a.bin"]


def test_a_version_without_any_file_is_made(driver):
    driver = driver()
    driver.world.create_dataset(0, draft=DRAFT, files=[driver.upload(0)])
    driver.world.create_dataset_version(100, **DATA, notes="", files=[])

    version = driver.world.dataset_version(200, **DATA)
    assert (version.number, version.files) == (2, ())


@pytest.mark.parametrize("what", ["slug", "title"])
@pytest.mark.parametrize(("length", "is_fine"), [(5, False), (6, True), (50, True), (51, False)])
def test_a_datasets_slug_and_title_have_6_to_50_characters(driver, what, length, is_fine):
    texts = {"slug": "my-data", "title": "My Data", what: "a" * length}
    draft = Draft(owner="local", **texts)
    world = driver().world

    if is_fine:
        assert world.create_dataset(0, draft=draft, files=[]).number == 1
    else:
        status, message = refused(world.create_dataset, 0, draft=draft, files=[])
        assert (status, message) == (200, f"The dataset {what} must be between 6 and 50 characters")


def test_two_files_of_one_name_leave_the_later_one(driver):
    driver = driver()
    first, second = driver.upload(0), driver.upload(1)
    driver.world.create_dataset(1, draft=DRAFT, files=[first, second])

    [file] = driver.world.dataset_version(100, **DATA).files

    uploads = {upload["token"]: upload for upload in driver.world.dump(100)["uploads"]}
    assert file == File(*uploads[second.token]["files"][0])


def test_the_answer_to_a_new_version_names_no_number(driver):
    driver = driver()
    made = driver.world.create_dataset(0, draft=DRAFT, files=[])

    assert wire.dataset_made(made) == {
        "ref": "local/my-data",
        "url": "https://www.kaggle.com/datasets/local/my-data",
        "status": "Ok",
    }


def test_beside_an_error_come_its_helpers():
    for answer in (wire.push_refused("no"), wire.dataset_refused("no")):
        assert (answer["error"], answer["hasError"], answer["errorNullable"]) == ("no", True, "no")
