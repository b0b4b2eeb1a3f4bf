"""C15 to C24: requests and answers."""

import inspect
import socket
import threading

from requests import HTTPError
from requests.exceptions import ConnectionError as Broken

from tests.probes.bare.bench import HTML, KERNEL, Reply, caught

QUOTA = "GetAcceleratorQuotaStatistics"
STATUS = "GetKernelSessionStatus"


def c15(bench):
    bench.on(STATUS, Reply(then="silent"))
    client = bench.client()
    socket.setdefaulttimeout(0.2)
    try:
        call = threading.Thread(target=caught, args=(client.kernels_status, KERNEL), daemon=True)
        call.start()
        call.join(0.8)
        return call.is_alive() and bench.timeouts == [None]
    finally:
        socket.setdefaulttimeout(None)


def c16(bench):
    client = bench.client()
    bench.on(STATUS, Reply(200, {"code": 404}), Reply(200, []), Reply(200, {"code": "404"}))
    taken = [client.kernels_status(KERNEL).status.name for _ in range(2)]
    return taken == ["QUEUED"] * 2 and isinstance(caught(client.kernels_status, KERNEL), TypeError)


def c17(bench):
    bench.on(STATUS, HTML)
    return type(caught(bench.client().kernels_status, KERNEL)).__name__ == "JSONDecodeError"


def c18(bench):
    bench.on(STATUS, Reply(200, {}, {"X-Kaggle-APIVersion": "not a version"}))
    return type(caught(bench.client().kernels_status, KERNEL)).__name__ == "InvalidVersion"


def c19(bench):
    bench.uploads()
    bench.on("CreateDatasetVersion", Reply(then="reset_first"))
    error = caught(bench.client().dataset_create_version, str(bench.files(a=b"1")), "n", quiet=True)
    assert isinstance(error, Broken)
    return len(bench.asked("CreateDatasetVersion")) > 1


def c20(bench):
    waits = []
    for header in ("86400", "inf"):
        bench.on(QUOTA, Reply(429, {}, {"Retry-After": header}), Reply(200, {}))
        _retried(bench)
        waits.append(bench.waits[-1])
    return waits == [86400.0, float("inf")]


def c21(bench):
    client = bench.client()
    waits = {client._calculate_backoff_delay(3, 500, 1.7, 0.5) for _ in range(50)}
    bench.on(QUOTA, Reply(503))
    error = caught(_retried, bench)
    return len(waits) == 1 and isinstance(error, HTTPError) and len(bench.asked(QUOTA)) == 1


def _retried(bench):
    client = bench.client()
    with client.build_kaggle_client() as kaggle:
        client.with_retry(kaggle.kernels.kernels_api_client.get_accelerator_quota_statistics)()


def c22(bench):
    client = bench.client()
    bodies = [{}, {"status": "E"}, {"status": "MELTED"}, {"status": None}]
    bench.on(STATUS, *(Reply(200, body) for body in bodies))
    missing = client.kernels_status(KERNEL).status.name
    odd = client.kernels_status(KERNEL).status
    errors = [type(caught(client.kernels_status, KERNEL)) for _ in range(2)]
    return missing == "QUEUED" and inspect.isroutine(odd) and errors == [KeyError, AttributeError]


def c23(bench):
    client = bench.client()
    zones = []
    for moment in ("2030-01-01T00:00:00Z", "2030-01-01T02:00:00+02:00"):
        bench.on(QUOTA, Reply(200, {"quotaRefreshTime": moment}))
        with client.build_kaggle_client() as kaggle:
            quota = kaggle.kernels.kernels_api_client.get_accelerator_quota_statistics()
        zones.append(quota.quota_refresh_time.tzinfo is None)
    return zones == [True, False]


def c24(bench):
    bench.on(STATUS, Reply(401, {"code": 401, "message": "Unauthenticated"}))
    error = caught(bench.client().kernels_status, KERNEL)
    return isinstance(error, ValueError) and getattr(error, "response", None) is None
