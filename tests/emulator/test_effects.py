"""What an effect does beyond what the catalogue's entries show."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from orchestrator.emulator.answers import merge_patch
from orchestrator.emulator.effects import EFFECTS
from orchestrator.emulator.faults import Fault, FaultPlan, Wire
from orchestrator.emulator.records import Twist
from orchestrator.emulator.server import LocalKaggle

QUOTA = "KernelsApiService/GetAcceleratorQuotaStatistics"
SAVE = "KernelsApiService/SaveKernel"


def test_every_effect_of_the_wire_is_made():
    assert set(EFFECTS) == set(Wire)


@pytest.mark.parametrize("effect", ["hang", "hang_after", "drip"])
def test_a_held_connection_does_not_keep_the_server_from_closing(tmp_path, quick, caller, effect):
    with (
        LocalKaggle(tmp_path / "state", settings=quick, faults=[Fault(QUOTA, effect)]) as server,
        ThreadPoolExecutor() as pool,
    ):
        answer = pool.submit(caller(server).post, QUOTA)
        while server.faults.fired == [0]:
            threading.Event().wait(0.01)
        began = time.monotonic()
        server.close()
        took_seconds = time.monotonic() - began

        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            answer.result(timeout=30)
    assert took_seconds < 1.5  # uvicorn's own patience is 2 seconds
    assert server.faults.fired == [1]


@pytest.mark.parametrize(("effect", "landed"), [("hang", 0), ("hang_after", 1)])
def test_a_hang_with_a_limit_ends_in_a_reset(local, call, plant, effect, landed):
    plant(Fault(SAVE, effect, seconds=0.05))

    with pytest.raises(requests.ConnectionError):
        call.push("pass")

    assert sum(len(kernel["versions"]) for kernel in local.state()["kernels"]) == landed


def test_a_drip_with_a_limit_sends_the_rest_at_once(call, plant):
    fault = plant(Fault(QUOTA, "drip", seconds=0.06, drop_seconds=0.02))

    began = time.monotonic()
    answer = call.post(QUOTA)

    assert "gpuQuota" in answer.json()
    assert time.monotonic() - began >= fault.seconds
    assert time.monotonic() - began < len(answer.content) * fault.drop_seconds / 2


def test_an_upload_that_is_cut_goes_on_where_it_was_cut(call, plant):
    plant("upload-cut")
    content = bytes(range(256)) * 4
    started = call.start_upload("a.bin", len(content))

    with pytest.raises(requests.ConnectionError):
        requests.put(started["createUrl"], data=content, timeout=30)
    asked = requests.put(
        started["createUrl"], headers={"Content-Range": f"bytes */{len(content)}"}, timeout=30
    )
    rest = requests.put(
        started["createUrl"],
        data=content[512:],
        headers={"Content-Range": f"bytes 512-{len(content) - 1}/{len(content)}"},
        timeout=30,
    )

    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-511")
    assert rest.status_code == 200


def test_a_link_that_expired_is_replaced_by_a_new_listing(call, plant):
    call.push("open('a.txt', 'w').write('a')")
    call.ended()
    old = call.listing()["files"][0]["url"]
    plant("link-expired")

    seen = [requests.get(old, timeout=30).status_code for _ in range(2)]
    new = call.listing()["files"][0]["url"]

    assert seen == [403, 403]
    assert requests.get(new, timeout=30).text == "a"


def test_a_datasets_link_that_expired_is_replaced_by_asking_again(call, plant):
    call.create_dataset({"a.txt": b"a"})

    def link():
        wanted = {"ownerSlug": "local", "datasetSlug": "my-data", "fileName": "a.txt"}
        answer = requests.post(
            f"{call.server.url}/v1/datasets.DatasetApiService/DownloadDataset",
            json=wanted,
            headers=call.headers,
            timeout=30,
            allow_redirects=False,
        )
        return answer.headers["Location"]

    old = link()
    plant("link-expired")

    assert [requests.get(old, timeout=30).status_code for _ in range(2)] == [403, 403]
    call.wait_until(lambda: link() != old)  # signed anew, to the millisecond
    assert requests.get(link(), timeout=30).text == "a"


def test_an_object_that_changes_during_a_resumed_download_has_another_etag(call, plant):
    call.push("open('a.txt', 'w').write('a' * 100)")
    call.ended()
    url = call.listing()["files"][0]["url"]
    plant("file-swapped", nth=2)

    first = requests.get(url, headers={"Range": "bytes=0-49"}, timeout=30)
    rest = requests.get(url, headers={"Range": "bytes=50-99"}, timeout=30)

    assert [first.status_code, rest.status_code] == [206, 206]
    assert first.content == b"a" * 50 != rest.content
    assert first.headers["ETag"] != rest.headers["ETag"]


def test_an_edit_leaves_an_answer_alone_that_is_no_json_object(call, plant):
    call.push("open('a.txt', 'w').write('[1, 2]')")
    call.ended()
    plant(Fault("/kf/", "edit", patch={"status": "X"}))

    answer = requests.get(call.listing()["files"][0]["url"], timeout=30)

    assert answer.text == "[1, 2]"


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7396_shows(target, patch, merged):
    assert merge_patch(target, patch) == merged


def test_a_fault_can_strike_every_second_request():
    plan = FaultPlan([Fault("SaveKernel", "hang", nth=2, times=3, every=2)])

    struck = [plan.strike(f"/v1/kernels.{SAVE}") is not None for _ in range(8)]

    assert struck == [False, True, False, True, False, True, False, False]
    assert plan.fired == [3]
    assert plan.to_json()[0]["seen"] == 8


@pytest.mark.parametrize(
    ("match", "effect"),
    [
        ("SaveKernel", Twist.LOSE_FILE),
        ("CreateDataset", Twist.DROP_SOURCES),
        ("CreateDataset|SaveKernel", Twist.LOSE_FILE),
        ("session/start", Twist.CANCEL),
        ("*", Twist.CANCEL),
        ("session/end", Wire.HANG),
    ],
)
def test_a_fault_is_refused_where_it_cannot_happen(match, effect):
    with pytest.raises(ValueError, match=r"can happen in|happens to requests"):
        Fault(match, effect)


@pytest.mark.parametrize("count", [{"nth": 0}, {"times": 0}, {"every": 0}])
def test_counts_begin_with_one(count):
    with pytest.raises(ValueError, match="count from 1"):
        Fault("SaveKernel", "hang", **count)


def test_the_planter_reports_a_fault_that_never_fired(local, planter):
    plant = planter(local)
    plant("lost-push-answer")

    with pytest.raises(AssertionError, match="never fired: \\['lost-push-answer'\\]"):
        plant.check()


def test_faults_are_planted_over_http_by_name(local, call):
    url = f"{local.url}/_local"
    named = [{"name": "unavailable", "match": QUOTA, "status": 500}]

    requests.post(f"{url}/faults", json=named, headers=call.headers, timeout=30).raise_for_status()
    assert call.post(QUOTA).status_code == 500
    [row] = requests.get(f"{url}/faults", headers=call.headers, timeout=30).json()
    [strike] = requests.get(f"{url}/strikes", headers=call.headers, timeout=30).json()
    wrong = [{"name": "no-such-thing"}]
    refused = requests.post(f"{url}/faults", json=wrong, headers=call.headers, timeout=30)

    assert (row["name"], row["seen"], row["fired"]) == ("unavailable", 1, 1)
    assert strike == {"method": QUOTA, "call": 1, "fault": "unavailable", "chaos": False}
    assert (refused.status_code, local.faults.fired) == (400, [1])
