import pytest

from orchestrator.emulator.records import Draft, File, NewFile, Refusal

DRAFT = Draft(owner="local", slug="my-data", title="My Data")
SLOW = {"dataset_visible_seconds": 10, "dataset_processing_seconds": 50}


def create(driver, at=0.0, names=("a.bin",), draft=DRAFT):
    files = [driver.upload(at, name) for name in names]
    return driver.world.create_dataset(at, draft=draft, files=files)


def publish(driver, at, names=("a.bin",), **fields):
    files = [driver.upload(at, name) for name in names]
    return driver.world.create_dataset_version(
        at, owner="local", slug="my-data", notes="n", files=files, **fields
    )


def status(driver, now):
    return driver.world.dataset_status(now, owner="local", slug="my-data")


def current(driver, now):
    return driver.world.dataset(now, owner="local", slug="my-data").current.number


def names(driver, now, number=0):
    version = driver.world.dataset_version(now, owner="local", slug="my-data", number=number)
    return [file.name for file in version.files]


def test_a_new_dataset_is_denied_then_processed_then_ready(driver):
    driver = driver(**SLOW)
    create(driver)

    with pytest.raises(Refusal) as refused:
        status(driver, 9)

    assert refused.value.status == 403
    assert [str(status(driver, now)) for now in (10, 20, 30, 40, 49)] == [
        "BLOBS_RECEIVED",
        "BLOBS_DECOMPRESSED",
        "BLOBS_COPIED_TO_SDS",
        "INDIVIDUAL_BLOBS_COMPRESSED",
        "INDIVIDUAL_BLOBS_COMPRESSED",
    ]
    assert status(driver, 50) == "READY"


def test_after_publishing_status_speaks_of_the_previous_version_for_a_while(driver):
    driver = driver(**SLOW)
    create(driver)
    publish(driver, 100)

    assert (status(driver, 109), current(driver, 109)) == ("READY", 1)
    assert (status(driver, 110), current(driver, 110)) == ("BLOBS_RECEIVED", 2)
    assert (status(driver, 150), current(driver, 150)) == ("READY", 2)


def test_no_version_while_the_first_is_processed(driver):
    driver = driver(**SLOW)
    create(driver)

    with pytest.raises(Refusal, match=r"datasets\.update"):
        publish(driver, 49)

    assert publish(driver, 51).number == 2


def test_later_versions_may_follow_each_other_at_once(driver):
    driver = driver(**SLOW)
    create(driver)
    publish(driver, 100)
    publish(driver, 101)

    assert (current(driver, 110.5), current(driver, 111)) == (2, 3)
    assert status(driver, 151) == "READY"


def test_each_version_is_a_full_snapshot(driver):
    driver = driver()
    create(driver, names=("a.bin", "b.bin"))
    publish(driver, 100, names=("c.bin",))

    assert names(driver, 200) == ["c.bin"]
    assert names(driver, 200, number=1) == ["a.bin", "b.bin"]


def test_files_are_read_from_the_latest_version_that_is_ready(driver):
    driver = driver(**SLOW)
    create(driver)
    publish(driver, 100, names=("b.bin",))

    assert names(driver, 120) == ["a.bin"]
    for number in (2, 3):
        with pytest.raises(Refusal) as refused:
            names(driver, 120, number=number)
        assert refused.value.status == 404
    assert names(driver, 150, number=2) == ["b.bin"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("torch-2.6.0+cu124.bin", "torch-2.6.0cu124.bin"),
        ("sub/deep/a.bin", "a.bin"),
        ("a.bin", "a.bin"),
    ],
)
def test_names_lose_their_folders_and_plus_signs(driver, given, stored):
    driver = driver()
    create(driver, names=(given,))

    assert names(driver, 100) == [stored]


def test_a_tree_comes_from_the_folders_of_the_request(driver):
    driver = driver()
    token = driver.upload(0, "a.bin").token
    driver.world.create_dataset(0, draft=DRAFT, files=[NewFile("sub/deep/", token)])

    assert names(driver, 100) == ["sub/deep/a.bin"]


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (DRAFT, "already in use"),
        (Draft(owner="local", slug="my-other", title="My Data"), "already in use"),
        (Draft(owner="local", slug="my-data", title="My Other"), "already in use"),
        (Draft(owner="local", slug="short", title="Long Enough"), "slug must be"),
        (Draft(owner="local", slug="long-enough", title="Short"), "title must be"),
    ],
)
def test_creating_is_refused_inside_the_answer(driver, draft, message):
    driver = driver()
    create(driver)

    with pytest.raises(Refusal, match=message) as refused:
        create(driver, 100, draft=draft)

    assert refused.value.status == 200


def test_a_version_of_nothing_is_refused_inside_the_answer(driver):
    with pytest.raises(Refusal, match="Failed to resolve") as refused:
        publish(driver(), 0)

    assert refused.value.status == 200


def test_tokens_of_unfinished_and_unknown_uploads_are_refused(driver):
    driver = driver()
    unfinished = driver.world.start_upload(0, name="a.bin", size_bytes=1)

    for token in (unfinished.token, "nonsense"):
        with pytest.raises(Refusal, match="Path must be non-null"):
            driver.world.create_dataset(1, draft=DRAFT, files=[NewFile("", token)])


def test_an_upload_expires(driver):
    driver = driver(upload_seconds=60)
    upload = driver.world.start_upload(0, name="a.bin", size_bytes=1)

    assert driver.world.upload(59, upload_id=upload.upload_id) == upload
    with pytest.raises(Refusal) as refused:
        driver.world.upload(60, upload_id=upload.upload_id)
    assert refused.value.status == 404


def test_old_versions_are_deleted_only_once_the_new_one_is_ready(driver):
    driver = driver(**SLOW)
    create(driver)
    publish(driver, 100, names=("b.bin",), delete_old_versions=True)

    assert names(driver, 149) == ["a.bin"]
    assert names(driver, 150) == ["b.bin"]
    with pytest.raises(Refusal):
        names(driver, 150, number=1)


@pytest.mark.parametrize(("limit", "folder"), [(1000, "sub/"), (50, "")])
def test_a_version_has_a_limit_of_files_and_a_lower_one_at_its_top(driver, limit, folder):
    driver = driver()
    token = driver.upload(0).token
    files = [NewFile(folder, token)] * (limit + 1)

    with pytest.raises(Refusal, match=f"exceeds the maximum of {limit}") as refused:
        driver.world.create_dataset(1, draft=DRAFT, files=files)

    assert refused.value.status == 200
    assert driver.world.create_dataset(1, draft=DRAFT, files=files[1:]).number == 1


def test_what_an_archive_holds_does_not_count(driver):
    driver = driver()
    upload = driver.world.start_upload(0, name="tree.zip", size_bytes=1)
    members = [File(f"tree/{index:04d}", "key", 1) for index in range(1001)]
    driver.world.finish_upload(0, upload_id=upload.upload_id, files=members)
    driver.world.create_dataset(1, draft=DRAFT, files=[NewFile("", upload.token)])

    assert len(names(driver, 100)) == 1001


def test_foreign_datasets_do_not_exist_and_cannot_be_made(driver):
    with pytest.raises(Refusal) as refused:
        create(driver(), draft=Draft(owner="bob", slug="my-data", title="My Data"))

    assert refused.value.status == 403


@pytest.mark.parametrize("name", ["", ".", "..", "a/..", "a\\..", "a\0b", "x" * 256])
def test_a_file_needs_a_name(driver, name):
    with pytest.raises(Refusal, match="needs a name"):
        driver().world.start_upload(0, name=name, size_bytes=1)


def test_a_file_has_no_negative_size(driver):
    with pytest.raises(Refusal, match="a size"):
        driver().world.start_upload(0, name="a.bin", size_bytes=-5)


@pytest.mark.parametrize("folder", ["../", "a/../../", "./", "a//"])
def test_a_folder_of_a_dataset_leads_nowhere_else(driver, folder):
    driver = driver()
    token = driver.upload(0).token

    with pytest.raises(Refusal, match="Invalid folder name"):
        driver.world.create_dataset(0, draft=DRAFT, files=[NewFile(folder, token)])
