from datetime import datetime, timedelta

import pytest
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetResponse,
    ApiDataset,
    ApiGetDatasetStatusResponse,
    ApiListDatasetFilesResponse,
)
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetAcceleratorQuotaStatisticsResponse,
    ApiGetKernelResponse,
    ApiGetKernelSessionStatusResponse,
    ApiSaveKernelRequest,
    ApiSaveKernelResponse,
)

from orchestrator.emulator import forms, wire
from orchestrator.emulator.records import Draft, Pushed, Quota, Refusal

DRAFT = Draft(owner="local", slug="my-data", title="My Data")


def test_a_push_is_read_as_the_official_client_sends_it():
    request = ApiSaveKernelRequest()
    request.slug = "alice/train-loop"
    request.new_title = "Train Loop"
    request.text = "print('hi')"
    request.language = "python"
    request.kernel_type = "script"
    request.enable_gpu = True
    request.enable_internet = False
    request.is_private = False
    request.dataset_data_sources = ["alice/ckpt"]
    request.session_timeout_seconds = 41400
    request.machine_shape = "NvidiaTeslaT4"

    push = forms.parse_push(forms.Body(request.to_dict()))

    assert (push.owner, push.slug, push.title) == ("alice", "train-loop", "Train Loop")
    assert (push.enable_gpu, push.enable_internet, push.is_private) == (True, False, False)
    assert push.dataset_sources == ("alice/ckpt",)
    assert (push.timeout_seconds, push.machine_shape) == (41400, "NvidiaTeslaT4")
    assert push.runs


def test_the_official_client_reads_a_push():
    answer = ApiSaveKernelResponse.from_dict(
        wire.pushed(Pushed("alice", "train-loop", 5, 7, invalid_dataset_sources=("alice/no",)))
    )

    assert (answer.ref, answer.version_number) == ("/code/alice/train-loop", 7)
    assert answer.url == "https://www.kaggle.com/code/alice/train-loop"
    assert (answer.error, answer.invalid_dataset_sources) == ("", ["alice/no"])


def test_the_official_client_reads_a_refused_push_with_all_its_helpers():
    fields = wire.push_refused("Maximum batch GPU session count of 2 reached.")
    answer = ApiSaveKernelResponse.from_dict(fields)

    assert answer.error == "Maximum batch GPU session count of 2 reached."
    assert (answer.version_number, answer.ref, answer.url) == (0, "", "")
    assert fields["hasError"] is True
    assert fields["errorNullable"] == fields["error"]
    assert fields["hasVersionNumber"] is False


def test_a_queued_status_is_an_empty_object(driver, push):
    world = driver().world
    world.save_kernel(0, push=push())

    fields = wire.session_status(world.session(0, owner="local", slug="train-loop"))

    assert fields == {}
    assert ApiGetKernelSessionStatusResponse.from_dict(fields).status.name == "QUEUED"


@pytest.mark.parametrize(
    ("ending", "status"),
    [("complete", "COMPLETE"), ("exception", "ERROR"), ("timeout", "CANCEL_ACKNOWLEDGED")],
)
def test_the_official_client_reads_a_status(driver, ending, status):
    session = driver().run(0, ending=ending)

    answer = ApiGetKernelSessionStatusResponse.from_dict(wire.session_status(session))

    assert answer.status.name == status
    assert (answer.failure_message or "") == session.failure_message


def test_the_official_client_reads_a_kernel_and_its_source(driver):
    driver = driver()
    driver.run(0, source="first")
    driver.run(100, source="second")
    kernel = driver.world.kernel(200, owner="local", slug="train-loop")
    first = driver.world.kernel_version(200, owner="local", slug="train-loop", label="v1")

    answer = ApiGetKernelResponse.from_dict(wire.kernel(kernel, first))

    assert answer.blob.source == "first"
    assert answer.metadata.current_version_number == 2
    assert (answer.metadata.ref, answer.metadata.is_private) == ("local/train-loop", True)


def test_the_official_client_reads_a_quota():
    fields = wire.quotas(
        1795824000.0,
        Quota(71094.4, 3600.0, 108000.0, has_ever_run=True),
        Quota(0.0, 0.0, 72000.0, has_ever_run=False),
        zero_omitted=True,
    )

    answer = ApiGetAcceleratorQuotaStatisticsResponse.from_dict(fields)

    assert answer.quota_refresh_time == datetime(2026, 11, 28)  # noqa: DTZ001
    assert answer.gpu_quota.time_used == timedelta(seconds=71094.4)
    assert answer.gpu_quota.time_reserved == timedelta(hours=1)
    assert answer.gpu_quota.total_time_allowed == timedelta(hours=30)
    assert answer.tpu_quota.time_used is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (108000, "108000s"), (71094.4, "71094.4s"), (0.0004, "0s"), (1.25, "1.25s")],
)
def test_durations_are_strings_of_seconds(seconds, text):
    assert wire.duration(seconds) == text


def test_dates_end_in_z():
    assert wire.date(0.0) == "1970-01-01T00:00:00Z"
    assert wire.date(1.25) == "1970-01-01T00:00:01.250Z"


def test_the_official_client_reads_a_dataset(driver):
    driver = driver()
    driver.world.create_dataset(0, draft=DRAFT, files=[driver.upload(0, "a.bin", 5)])
    driver.world.create_dataset_version(
        100, owner="local", slug="my-data", notes="kchain s=2", files=[driver.upload(100)]
    )
    dataset = driver.world.dataset(200, owner="local", slug="my-data")

    versions = driver.world.dataset_versions(200, owner="local", slug="my-data")

    answer = ApiDataset.from_dict(wire.dataset(dataset, versions))

    assert (answer.ref, answer.current_version_number, answer.is_private) == (
        "local/my-data",
        2,
        True,
    )
    assert [(v.version_number, v.version_notes, v.status) for v in answer.versions] == [
        (2, "kchain s=2", "ready"),
        (1, "Initial release", "ready"),
    ]


def test_a_public_dataset_leaves_is_private_out(driver):
    driver = driver()
    draft = Draft(owner="local", slug="my-data", title="My Data", is_private=False)
    driver.world.create_dataset(0, draft=draft, files=[])

    fields = wire.dataset(driver.world.dataset(100, owner="local", slug="my-data"))

    assert "isPrivate" not in fields


def test_the_official_client_reads_a_dataset_status_and_a_refusal(driver):
    driver = driver(dataset_visible_seconds=0, dataset_processing_seconds=10)
    driver.world.create_dataset(0, draft=DRAFT, files=[])

    status = driver.world.dataset_status(1, owner="local", slug="my-data")
    answer = ApiGetDatasetStatusResponse.from_dict(wire.dataset_status(status))
    refused = ApiCreateDatasetResponse.from_dict(wire.dataset_refused("no"))

    assert answer.status.name == "BLOBS_RECEIVED"
    assert (refused.status, refused.error) == ("error", "no")


def test_the_official_client_reads_pages_of_files(driver):
    driver = driver()
    files = [driver.upload(0, f"{index:02d}.bin") for index in range(45)]
    driver.world.create_dataset(0, draft=DRAFT, files=files)
    version = driver.world.dataset_version(100, owner="local", slug="my-data")

    names, token = [], ""
    for _ in range(5):
        page = wire.dataset_files("local/my-data", version, forms.Body({"pageToken": token}))
        answer = ApiListDatasetFilesResponse.from_dict(page)
        names += [file.name for file in answer.files]
        token = answer.next_page_token
        if not token:
            break

    assert names == [f"{index:02d}.bin" for index in range(45)]


@pytest.mark.parametrize(
    ("asked", "got"), [({}, 20), ({"pageSize": 7}, 7), ({"pageSize": 1000}, 200)]
)
def test_pages_have_twenty_items_unless_asked_and_two_hundred_at_most(asked, got):
    page, token = forms.page_of(range(500), forms.Body(asked))

    assert (len(page), token) == (got, str(got))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "alice/slug"},
        {"slug": 5},
        {"text": "\ud800"},
        {"datasetDataSources": "a/b"},
        {"datasetDataSources": [1]},
    ],
)
def test_a_field_of_the_wrong_type_is_refused(fields):
    with pytest.raises(Refusal) as refused:
        forms.parse_push(forms.Body(fields))

    assert refused.value.status == 400


def test_a_body_that_is_no_object_is_refused():
    with pytest.raises(Refusal):
        forms.Body([1])
