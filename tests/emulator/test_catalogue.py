"""Every entry of the catalogue is planted as it stands, and seen from a client's side."""

import itertools
import json
import time

import pytest
import requests

from orchestrator.emulator.catalogue import CATALOGUE
from orchestrator.emulator.faults import Wire
from orchestrator.emulator.records import OUT_OF_MEMORY, Twist
from orchestrator.emulator.server import LocalKaggle, Settings

QUICK = Settings(queue_seconds=0.0, dataset_visible_seconds=0.0, dataset_processing_seconds=0.0)
SCRIPT = "open('a.txt', 'w').write('some output ' * 20)\nopen('b.txt', 'w').write('b')\n"
PUSH = {
    "newTitle": "Shelf Kernel",
    "text": "pass",
    "language": "python",
    "kernelType": "script",
}
KERNEL = {"userName": "local", "kernelSlug": "train-loop"}
DATASET = {"ownerSlug": "local", "datasetSlug": "my-data"}
READS = {
    "GetKernelSessionStatus": ("KernelsApiService", KERNEL),
    "GetKernel": ("KernelsApiService", KERNEL),
    "ListKernelSessionOutput": ("KernelsApiService", KERNEL),
    "GetAcceleratorQuotaStatistics": ("KernelsApiService", {}),
    "GetDataset": ("DatasetApiService", DATASET),
    "GetDatasetStatus": ("DatasetApiService", DATASET),
    "ListDatasetFiles": ("DatasetApiService", DATASET),
    "DownloadDataset": ("DatasetApiService", DATASET),
}
PREPARED = {
    "*": "push",
    "SaveKernel": "push",
    "CreateDataset": "create",
    "CreateDatasetVersion": "version",
    "StartBlobUpload": "start_upload",
    "IntrospectToken": "introspect",
    "/upload/": "put",
    "/kf/": "get",
    "/kaggle-data-sets/": "get_from_dataset",
}
WIRE = [name for name, entry in CATALOGUE.items() if entry.fault.effect in set(Wire)]
TWISTS = [name for name, entry in CATALOGUE.items() if entry.fault.effect in set(Twist)]
UNHANDLED = {Wire.RESET_BEFORE, Wire.HANG, Wire.STATUS, Wire.ANSWER, Wire.EXPIRE}
# Waits are as short as they can be seen; nothing else of an entry is changed.
SHORTER = {Wire.DELAY: {"seconds": 0.05}, Wire.DRIP: {"drop_seconds": 0.02}}
fresh = itertools.count(1)


class Shelf:
    """A local Kaggle with a kernel that has run and a dataset, and ways to call it."""

    def __init__(self, server, call):
        self.server, self.call = server, call
        call.push(SCRIPT)
        call.ended()
        call.create_dataset({"a.txt": b"1" * 50, "b.txt": b"2"})

    def request(self, match):
        """Prepare what a match strikes; returns what sends it and leaves its answer unread."""
        if match in PREPARED:
            return getattr(self, PREPARED[match])()
        service, fields = READS[match]
        return self._poster(f"{service}/{match}", **fields)

    def push(self):
        quick = {**PUSH, "slug": "local/shelf-kernel", "kernelExecutionType": "QUICK_SAVE"}
        return self._poster("KernelsApiService/SaveKernel", **quick)

    def create(self):
        slug = f"data-number-{next(fresh)}"
        new = {"ownerSlug": "local", "slug": slug, "title": slug, "files": self._uploads()}
        return self._poster("DatasetApiService/CreateDataset", **new)

    def version(self):
        body = {"versionNotes": "", "files": self._uploads()}
        return self._poster("DatasetApiService/CreateDatasetVersion", **DATASET, body=body)

    def start_upload(self):
        new = {"type": "DATASET", "name": "a.txt", "contentLength": 3}
        return self._poster("BlobApiService/StartBlobUpload", **new)

    def introspect(self):
        return self._poster("OAuthService/IntrospectToken", token=self.server.token)

    def put(self):
        url = self.call.start_upload("a.txt", 10)["createUrl"]
        return lambda: requests.put(url, data=b"0123456789", timeout=1, stream=True)

    def get(self):
        url = self.call.listing()["files"][0]["url"]
        return lambda: requests.get(url, timeout=1, stream=True)

    def get_from_dataset(self):
        answer = requests.post(
            f"{self.server.url}/v1/datasets.DatasetApiService/DownloadDataset",
            json={**DATASET, "fileName": "a.txt"},
            headers=self.call.headers,
            timeout=10,
            allow_redirects=False,
        )
        return lambda: requests.get(answer.headers["Location"], timeout=1, stream=True)

    def _uploads(self):
        return [{"token": self.call.upload(name, b"some")} for name in ("a.txt", "b.txt")]

    def _poster(self, method, **fields):
        packages = {"K": "kernels", "D": "datasets", "B": "blobs", "O": "security"}
        url = f"{self.server.url}/v1/{packages[method[0]]}.{method}"
        headers = self.call.headers
        return lambda: requests.post(url, json=fields, headers=headers, timeout=1, stream=True)

    def settle(self):
        """Let sessions of other tests come to their end, so that only ours can be struck."""

        def is_quiet():
            state = self.server.state()
            return all(s["ending"] or s["due_at"] > state["now"] for s in state["sessions"])

        self.call.wait_until(is_quiet)

    def made(self):
        """How much there is that a client can make."""
        state = self.server.state()
        versions = [len(d["versions"]) for d in state["datasets"] + state["kernels"]]
        return sum(versions) + sum(1 + (u["files"] is not None) for u in state["uploads"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with LocalKaggle(tmp_path_factory.mktemp("shelf"), settings=QUICK) as server:
        yield server
        server.close(kill_sessions=True)


@pytest.fixture(scope="module")
def shelf(server, caller):
    return Shelf(server, caller(server))


@pytest.fixture
def plant(server, planter):
    plant = planter(server)
    yield plant
    plant.check()


def gone(send, _fault, _plain):
    with pytest.raises(requests.ConnectionError):
        send()


def silent(send, _fault, _plain):
    with pytest.raises(requests.ReadTimeout):
        send()


def answered(send, fault, _plain):
    if fault.status == 302:
        with pytest.raises(requests.TooManyRedirects):
            send()
        return
    usual = 200 if "answer" in fault.effect else 503
    answer = send()

    assert answer.status_code == (fault.status or usual)
    for name, value in fault.headers.items():
        assert answer.headers[name] == value
    assert answer.text == fault.body or (fault.body is None and answer.json()["code"])


def torn(send, _fault, _plain):
    answer = send()
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        assert answer.content


def dripping(send, fault, plain):
    began = time.monotonic()
    with send() as answer:
        start = b"".join(answer.raw.read(1) for _ in range(4))

    assert (plain or b'{"ref"').startswith(start)
    assert time.monotonic() - began >= 3 * fault.drop_seconds


def late(send, fault, _plain):
    began = time.monotonic()
    assert send().status_code == 200
    assert time.monotonic() - began >= fault.seconds


def as_usual(send, _fault, _plain):
    assert send().status_code == 200


def edited(send, fault, _plain):
    def holds(patch, content):
        for name, value in patch.items():
            if isinstance(value, dict):
                holds(value, content[name])
            elif value is None:
                assert name not in content
            else:
                assert content[name] == value

    holds(fault.patch, send().json())


def halved(send, _fault, plain):
    [(name, whole)] = [item for item in json.loads(plain).items() if isinstance(item[1], list)]

    assert len(whole) > 1
    assert len(send().json()[name]) == len(whole) // 2


def names(content):
    """The file names of a listing: a kernel's outputs, or a dataset's files."""
    files = content.get("files") or content["datasetFiles"]
    return [file.get("fileName") or file["name"] for file in files]


def renamed(send, fault, _plain):
    assert names(send().json())[0] == fault.file_name


def doubled(send, fault, plain):
    before = names(json.loads(plain))
    twin = before[0].upper() if fault.file_name else before[0]

    assert names(send().json()) == [*before, twin]


def with_headers(send, fault, _plain):
    answer = send()

    assert answer.status_code == 200
    for name, value in fault.headers.items():
        assert answer.headers[name] == value


def flipped(send, _fault, plain):
    wrong = [(a, b) for a, b in zip(send().content, plain, strict=True) if a != b]

    assert [a ^ b for a, b in wrong] == [0x80]


def swapped(send, _fault, plain):
    answer = send()

    assert answer.headers["ETag"] == '"another"'
    assert all(a == 255 - b for a, b in zip(answer.content, plain, strict=True))


def expired(send, _fault, _plain):
    for _ in range(3):  # this link, not this call
        answer = send()
        assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/xml")
        assert "ExpiredToken" in answer.text


SEEN = {
    Wire.RESET_BEFORE: gone,
    Wire.RESET_AFTER: gone,
    Wire.CUT_UPLOAD: gone,
    Wire.HANG: silent,
    Wire.HANG_AFTER: silent,
    Wire.STATUS: answered,
    Wire.STATUS_AFTER: answered,
    Wire.ANSWER: answered,
    Wire.ANSWER_AFTER: answered,
    Wire.EXPIRE: expired,
    Wire.TWICE: as_usual,
    Wire.DELAY: late,
    Wire.EDIT: edited,
    Wire.PART: halved,
    Wire.RENAME: renamed,
    Wire.DOUBLE: doubled,
    Wire.FREEZE: as_usual,
    Wire.HEADERS: with_headers,
    Wire.TRUNCATE: torn,
    Wire.DRIP: dripping,
    Wire.FLIP: flipped,
    Wire.SWAP: swapped,
}
MUTATIONS = {"*", "SaveKernel", "CreateDataset", "CreateDatasetVersion", "StartBlobUpload"}


@pytest.mark.parametrize(
    ("name", "match"),
    [(name, part) for name in WIRE for part in CATALOGUE[name].fault.match.split("|")],
)
def test_a_fault_of_the_wire_is_seen_by_a_client_and_takes_effect_or_not(shelf, plant, name, match):
    effect = Wire(CATALOGUE[name].fault.effect)
    plain = b"" if match in MUTATIONS else shelf.request(match)().content
    send = shelf.request(match)
    before = shelf.made()

    fault = plant(name, **SHORTER.get(effect, {}))
    SEEN[effect](send, fault, plain)

    count = 1 if match in MUTATIONS else int(match == "/upload/" and effect != Wire.CUT_UPLOAD)
    expected = 0 if effect in UNHANDLED else 2 * count if effect == Wire.TWICE else count
    assert shelf.made() - before == expected
    if effect != Wire.EXPIRE:
        assert send().status_code < 500  # it struck once and is over


@pytest.mark.parametrize("name", ["kernel-flickers", "dataset-flickers"])
def test_reads_answer_old_new_old_new(shelf, plant, name):
    is_kernel = name.startswith("kernel")
    field = "metadata" if is_kernel else "currentVersionNumber"
    read = shelf.request(CATALOGUE[name].fault.match)
    change = (lambda: shelf.call.push(SCRIPT)) if is_kernel else shelf.version()

    plant(name)
    old = read().json()[field]
    change()
    new, again, last = (read().json()[field] for _ in range(3))

    assert again == old
    assert last == new != old


def without_sources(call, slug):
    pushed = call.push("pass", slug, datasetDataSources=["local/my-data"])

    assert pushed["invalidDatasetSources"] == ["local/my-data"]


def elsewhere(call, slug):
    assert call.push("pass", slug)["ref"] != f"/code/local/{slug}"


def queued(call, slug):
    call.push("pass", slug)
    session = call.server.state()["sessions"][-1]

    assert call.status(slug) == {}
    assert session["due_at"] - session["queued_at"] > 3600


def published(call, slug):
    files = [{"token": call.upload(name, b"some")} for name in ("a.txt", "b.txt")]
    call.datasets("CreateDataset", ownerSlug="local", slug=slug, title=slug, files=files)
    return {"ownerSlug": "local", "datasetSlug": slug}


def without_file(call, slug):
    listed = call.datasets("ListDatasetFiles", **published(call, slug))

    assert [file["name"] for file in listed["datasetFiles"]] == ["a.txt"]


def without_files(call, slug):
    assert call.datasets("ListDatasetFiles", **published(call, slug)) == {}


def never_ready(call, slug):
    status = call.datasets("GetDatasetStatus", **published(call, slug))

    assert status.get("status") != "READY"


def failed(call, slug):
    assert call.datasets("GetDatasetStatus", **published(call, slug)) == {"status": "FAILED"}


def never_there(call, slug):
    answer = call.post("DatasetApiService/GetDatasetStatus", **published(call, slug))

    assert answer.status_code in (403, 404)


def session_of(call, slug):
    [session] = [s for s in call.server.state()["sessions"] if s["slug"] == slug]
    return session


def on_a_cpu(call, slug):
    call.push("pass", slug, enableGpu=True)
    call.ended(slug)

    assert session_of(call, slug)["accelerator"] == "CPU"


def with_old_mounts(call, slug):
    ref = {"ownerSlug": "local", "datasetSlug": "my-data"}
    call.create_version({"newest.txt": b"3"})
    newest = call.datasets("GetDataset", **ref)["currentVersionNumber"]
    call.push("pass", slug, datasetDataSources=["local/my-data"])
    call.ended(slug)

    [mount] = session_of(call, slug)["mounts"]
    assert mount["version"] == newest - 1


def ended(status, message="", *, outputs=True, log=True):
    """What a client is told of a session that printed and wrote, and came to its end."""

    def check(call, slug):
        call.push(SCRIPT + "print('hello')", slug)
        told = call.ended(slug)

        assert (told["status"], told.get("failureMessage", "")) == (status, message)
        listing = call.listing(slug)
        assert bool(listing.get("files")) is outputs
        assert ("hello" in listing.get("log", "")) is log

    return check


def still_running(call, slug):
    call.push("pass", slug)
    call.wait_until(lambda: session_of(call, slug)["ended_at"] is not None)

    assert call.status(slug) == {"status": "RUNNING"}


TWISTED = {
    Twist.DROP_SOURCES: without_sources,
    Twist.LAND_ELSEWHERE: elsewhere,
    Twist.QUEUE_LONG: queued,
    Twist.LOSE_FILE: without_file,
    Twist.LOSE_ALL_FILES: without_files,
    Twist.STICK_PROCESSING: never_ready,
    Twist.FAIL_PROCESSING: failed,
    Twist.HIDE_VERSION: never_there,
    Twist.NO_ACCELERATOR: on_a_cpu,
    Twist.OLD_MOUNTS: with_old_mounts,
    Twist.VANISH: ended("ERROR", outputs=False),
    Twist.CANCEL: ended("CANCEL_ACKNOWLEDGED", outputs=False, log=False),
    Twist.OUT_OF_MEMORY: ended("ERROR", OUT_OF_MEMORY, outputs=False),
    Twist.LOSE_OUTPUTS: ended("COMPLETE", outputs=False),
    Twist.LOSE_LOG: ended("COMPLETE", log=False),
    Twist.REPORT_CANCELLED: ended("CANCEL_ACKNOWLEDGED"),
    Twist.WEDGE: still_running,
}


@pytest.mark.parametrize("name", TWISTS)
def test_a_twist_of_the_platform_is_seen_by_a_client(shelf, plant, name):
    shelf.settle()
    plant(name)

    TWISTED[Twist(CATALOGUE[name].fault.effect)](shelf.call, f"twisted-{name}")


def test_the_catalogue_uses_every_effect_and_every_twist():
    assert {entry.fault.effect for entry in CATALOGUE.values()} == {*Wire, *Twist}
    assert len(WIRE) + len(TWISTS) == len(CATALOGUE)
