import pytest
import requests
from urllib3.exceptions import ProtocolError

from orchestrator.emulator.faults import Fault, FaultPlan, Wire
from orchestrator.emulator.server import LocalKaggle

SAVE = "KernelsApiService/SaveKernel"


def versions(server):
    return sum(len(kernel["versions"]) for kernel in server.state()["kernels"])


@pytest.mark.parametrize(("effect", "landed"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_leaves_no_answer_and_only_one_kind_takes_effect(local, call, effect, landed):
    local.faults.add(Fault(SAVE, effect))

    with pytest.raises(requests.ConnectionError):
        call.push("pass")

    assert local.faults.fired == [1]
    assert versions(local) == landed
    assert call.push("pass")["versionNumber"] == landed + 1


@pytest.mark.parametrize(("effect", "landed"), [("status", 0), ("status_after", 1)])
def test_a_status_comes_instead_of_or_after_the_effect(local, call, effect, landed):
    local.faults.add(Fault(SAVE, effect, status=502, body="<html>bad gateway</html>"))

    with pytest.raises(requests.HTTPError) as failed:
        call.push("pass")

    assert failed.value.response.status_code == 502
    assert failed.value.response.headers["Content-Type"] == "text/html"
    assert local.faults.fired == [1]
    assert versions(local) == landed


def test_an_answer_is_truncated(local, call):
    call.push("open('a.bin', 'wb').write(bytes(1_000_000))")
    call.ended()
    [file] = call.listing()["files"]
    local.faults.add(Fault("/kf/", "truncate"))

    with requests.get(file["url"], timeout=30, stream=True) as answer:
        assert answer.headers["Content-Length"] == "1000000"
        received = answer.raw.read(500_000)
        with pytest.raises(ProtocolError):
            answer.raw.read(1)

    assert len(received) == 500_000
    assert local.faults.fired == [1]
    assert len(requests.get(file["url"], timeout=30).content) == 1_000_000


def test_a_truncated_json_answer_is_cut_in_the_middle(local, call):
    local.faults.add(Fault("GetAcceleratorQuotaStatistics", "truncate"))

    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        call.kernels("GetAcceleratorQuotaStatistics")

    assert local.faults.fired == [1]


def test_a_rate_limit_comes_with_its_headers(local, call):
    body = '{"error":{"code":429,"message":"Too many requests","status":"RESOURCE_EXHAUSTED"}}'
    local.faults.add(Fault(SAVE, "status", status=429, body=body, headers={"Retry-After": "30"}))

    answer = call.post(SAVE)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30")
    assert answer.json()["error"]["code"] == 429
    assert local.faults.fired == [1]


def test_a_fault_strikes_from_the_nth_request_so_many_times():
    plan = FaultPlan([Fault("SaveKernel", "reset_before", nth=2, times=3)])
    path = f"/v1/kernels.{SAVE}"

    struck = [plan.strike(path) is not None for _ in range(6)]

    assert struck == [False, True, True, True, False, False]
    assert plan.fired == [3]


@pytest.mark.parametrize(
    ("match", "path", "hit"),
    [
        ("SaveKernel", f"/v1/kernels.{SAVE}", True),
        (SAVE, f"/api/v1/kernels.{SAVE}", True),
        (f"kernels.{SAVE}", f"/v1/kernels.{SAVE}", True),
        ("GetKernel", "/v1/kernels.KernelsApiService/GetKernelSessionStatus", False),
        ("Kernel", f"/v1/kernels.{SAVE}", False),
        ("/kf/", "/kf/1/x/a.bin", True),
        ("/kf/", "/v1/kf/", False),
    ],
)
def test_a_fault_matches_methods_and_path_prefixes(match, path, hit):
    assert Fault(match, "status").matches(path) is hit


def test_unknown_effects_are_refused():
    with pytest.raises(ValueError, match="unknown effect 'explode'"):
        Fault("SaveKernel", "explode")


def test_faults_are_planned_over_http(local, call):
    url = f"{local.url}/_local/faults"
    planned = [{"match": "SaveKernel", "effect": "status", "status": 500}]

    requests.post(url, json=planned, headers=call.headers, timeout=30).raise_for_status()
    assert call.post(SAVE).status_code == 500

    [shown] = requests.get(url, headers=call.headers, timeout=30).json()
    assert (shown["effect"], shown["fired"]) == ("status", 1)
    wrong = requests.post(url, json=[{"effect": "explode"}], headers=call.headers, timeout=30)
    assert wrong.status_code == 400
    assert requests.delete(url, headers=call.headers, timeout=30).json() == []


def test_faults_can_be_planned_at_the_start(tmp_path, quick, caller):
    faults = [Fault(SAVE, effect, seconds=1.0) for effect in sorted(Wire)]
    with LocalKaggle(tmp_path / "state", settings=quick, faults=faults) as server:
        answer = requests.post(f"{server.url}/v1/x.Y/Z", timeout=30)

        assert answer.status_code == 401
        assert server.faults.fired == [0] * len(faults)
