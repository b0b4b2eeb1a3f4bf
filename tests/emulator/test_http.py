import base64
import io
import json
import os
import socket
import stat
import zipfile
from urllib.parse import urlsplit

import pytest
import requests

from orchestrator.emulator.server import LocalKaggle, PortTaken, Settings, StateLocked

METHOD = "kernels.KernelsApiService/GetAcceleratorQuotaStatistics"


def basic(user, key):
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_both_prefixes_and_both_kinds_of_credentials_work(standing, prefix):
    for authorization in (f"Bearer {standing.token}", basic(standing.username, standing.key)):
        answer = requests.post(
            f"{standing.url}{prefix}/{METHOD}",
            json={},
            headers={"Authorization": authorization},
            timeout=30,
        )
        assert answer.json()["gpuQuota"]["totalTimeAllowed"] == "108000s"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer KGAT_other", "Basic !!", basic("local", "wrong"), "Digest x"]
)
@pytest.mark.parametrize("path", [f"/v1/{METHOD}", "/v1/whatever", "/_local/faults", "/v1/x.Y/Z"])
def test_other_credentials_are_refused(standing, path, authorization):
    answer = requests.post(
        standing.url + path, json={}, headers={"Authorization": authorization}, timeout=30
    )

    assert answer.status_code == 401
    assert answer.json() == {"code": 401, "message": "Unauthenticated"}


def test_a_token_is_introspected(standing, caller):
    call = caller(standing)
    answer = call.post("OAuthService/IntrospectToken", token=standing.token)
    unknown = call.post("OAuthService/IntrospectToken", token="KGAT_other")  # noqa: S106

    assert answer.json()["active"] is True
    assert answer.json()["username"] == "local"
    assert isinstance(answer.json()["userId"], int)
    assert not unknown.json().get("active")


@pytest.mark.parametrize(
    ("verb", "path", "name"),
    [
        (
            "POST",
            "/v1/kernels.KernelsApiService/TeleportKernel",
            "KernelsApiService/TeleportKernel",
        ),
        ("POST", "/api/v1/models.ModelApiService/ListModels", "ModelApiService/ListModels"),
        ("GET", "/api/v1/kernels/status", "kernels/status"),
    ],
)
def test_what_is_not_imitated_says_so(standing, caller, verb, path, name):
    answer = requests.request(
        verb, standing.url + path, headers=caller(standing).headers, timeout=30
    )

    assert answer.status_code == 501
    assert answer.json() == {"code": 501, "message": f"{name} is not imitated by local Kaggle"}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"slug": 5}', b'{"id": "a/b"}'])
def test_a_malformed_request_is_refused(standing, caller, body):
    url = f"{standing.url}/v1/kernels.KernelsApiService/SaveKernel"

    answer = requests.post(url, data=body, headers=caller(standing).headers, timeout=30)

    assert answer.status_code == 400
    assert answer.json()["code"] == 400


def test_oversized_source_is_400_and_a_full_house_is_200_with_an_error(call):
    assert call.post(
        "KernelsApiService/SaveKernel",
        slug="local/train-loop",
        newTitle="Train Loop",
        text="x" * 1_141_256,
        language="python",
        kernelType="script",
    ).status_code == 400  # fmt: skip

    refused = call.push("pass", machineShape="NvidiaAbacus")

    assert refused["versionNumber"] == 0
    assert "NvidiaAbacus" in refused["error"]


def test_a_missing_kernel_and_a_missing_version_differ(call):
    call.push("pass")

    def status(**fields):
        return call.post("KernelsApiService/GetKernelSessionStatus", userName="local", **fields)

    assert status(kernelSlug="nothing").json() == {
        "code": 403,
        "message": "Permission 'kernels.get' was denied",
    }
    assert status(kernelSlug="train-loop/1").status_code == 403
    assert status(kernelSlug="train-loop", versionLabel="1").status_code == 404
    assert status(kernelSlug="train-loop", versionLabel="v1").status_code == 200


@pytest.fixture
def output_url(call):
    call.push("open('model.bin', 'wb').write(bytes(range(256)) * 1000)")
    call.ended()
    [file] = call.listing()["files"]
    return file["url"]


def test_outputs_need_no_credentials_and_can_be_read_in_ranges(output_url):
    content = bytes(range(256)) * 1000

    whole = requests.get(output_url, timeout=30)
    part = requests.get(output_url, headers={"Range": "bytes=1000-1999"}, timeout=30)
    rest = requests.get(
        output_url,
        headers={"Range": "bytes=255000-", "If-Range": whole.headers["ETag"]},
        timeout=30,
    )
    changed = requests.get(
        output_url, headers={"Range": "bytes=5-", "If-Range": '"other"'}, timeout=30
    )
    beyond = requests.get(output_url, headers={"Range": "bytes=256000-"}, timeout=30)

    assert whole.content == content
    assert whole.headers["Content-Length"] == "256000"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Last-Modified"].endswith("GMT")
    assert (part.status_code, part.content) == (206, content[1000:2000])
    assert part.headers["Content-Range"] == "bytes 1000-1999/256000"
    assert (rest.status_code, rest.content) == (206, content[255000:])
    assert (changed.status_code, changed.content) == (200, content)
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url.replace("eyJ", "eyK"),
        lambda url: url[: url.rindex("/")] + "x/model.bin",
        lambda url: url.replace("/kf/200000001", "/kf/200000002"),
    ],
)
def test_a_forged_output_url_is_refused(output_url, spoil):
    assert requests.get(spoil(output_url), timeout=30).status_code in (403, 404)


def test_output_urls_expire(tmp_path, quick, caller):
    settings = Settings(queue_seconds=0, output_url_seconds=0.0)
    with LocalKaggle(tmp_path / "state", settings=settings) as server:
        call = caller(server)
        call.push("open('a.txt', 'w').write('a')")
        call.ended()

        answer = requests.get(call.listing()["files"][0]["url"], timeout=30)

    assert answer.status_code == 403
    assert "ExpiredToken" in answer.text


def test_outputs_come_in_pages(call):
    call.push("for i in range(45): open(f'{i:02d}.txt', 'w')")
    call.ended()

    names, token = [], ""
    for _ in range(5):
        page = call.kernels(
            "ListKernelSessionOutput",
            userName="local",
            kernelSlug="train-loop",
            pageToken=token,
        )
        names += [file["fileName"] for file in page["files"]]
        token = page.get("nextPageToken", "")
        if not token:
            break

    assert names == [f"{index:02d}.txt" for index in range(45)]


def test_one_output_is_downloaded_by_redirect(local, call):
    call.push("import os; os.mkdir('a b'); open('a b/ü.txt', 'w').write('x')")
    call.ended()
    fields = {"ownerSlug": "local", "kernelSlug": "train-loop"}

    found = call.post("KernelsApiService/DownloadKernelOutput", filePath="a b/ü.txt", **fields)
    missing = call.post("KernelsApiService/DownloadKernelOutput", filePath="no.txt", **fields)

    assert found.content == b"x"
    assert found.history[0].status_code == 302
    assert missing.status_code == 404


def test_an_upload_resumes_where_it_was_cut(call):
    content = os.urandom(100_000)
    started = call.start_upload("a.bin", len(content))
    url = started["createUrl"]

    def put(data, content_range):
        headers = {"Content-Range": content_range}
        return requests.put(url, data=data, headers=headers, timeout=30)

    nothing = put(b"", "bytes */100000")
    half = put(content[:50_000], "bytes 0-49999/100000")
    asked = put(b"", "bytes */100000")
    rest = put(content[50_000:], "bytes 50000-99999/100000")
    again = put(b"", "bytes */100000")

    assert (nothing.status_code, "Range" in nothing.headers) == (308, False)
    assert (half.status_code, half.headers["Range"]) == (308, "bytes=0-49999")
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-49999")
    assert (rest.status_code, again.status_code) == (200, 200)
    call.datasets(
        "CreateDataset",
        ownerSlug="local",
        slug="my-data",
        title="My Data",
        files=[{"token": started["token"]}],
    )
    call.ready(1)
    downloaded = call.post(
        "DatasetApiService/DownloadDataset",
        ownerSlug="local",
        datasetSlug="my-data",
        fileName="a.bin",
    )
    assert downloaded.content == content


def test_what_came_before_the_connection_broke_is_kept(call, wait_until):
    url = call.start_upload("a.bin", 100_000)["createUrl"]
    parts = urlsplit(url)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + bytes(70_000))

    def received():
        asked = requests.put(url, headers={"Content-Range": "bytes */100000"}, timeout=30)
        return asked.headers.get("Range")

    assert wait_until(received) == "bytes=0-69999"


def test_unfitting_uploads_are_refused(local, call):
    started = call.start_upload("a.bin", 10)
    url = started["createUrl"]

    unknown = requests.put(f"{local.url}/upload/storage/v1/b/kaggle-data-sets/o", timeout=30)
    gap = requests.put(url, data=b"x", headers={"Content-Range": "bytes 5-5/10"}, timeout=30)
    other = requests.put(url, data=b"", headers={"Content-Range": "bytes */11"}, timeout=30)
    too_long = requests.put(url, data=b"x" * 11, timeout=30)

    assert unknown.status_code == 404
    assert [gap.status_code, other.status_code, too_long.status_code] == [400, 400, 400]


def test_a_dataset_is_downloaded_by_file_and_as_a_zip(call):
    call.create_dataset({"a.bin": b"aaa", "b.json": b'{"code": 500}'})

    def download(**fields):
        return call.post(
            "DatasetApiService/DownloadDataset", ownerSlug="local", datasetSlug="my-data", **fields
        )

    one = download(fileName="b.json")
    bundle = download()

    assert one.content == b'{"code": 500}'
    assert one.headers["Content-Type"] == "application/octet-stream"
    assert one.url.split("?")[0].endswith("/b.json")
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a.bin": b"aaa",
            "b.json": b'{"code": 500}',
        }
    assert download(fileName="c.bin").status_code == 404
    assert download(datasetVersionNumber=2).status_code == 404


def test_each_version_keeps_its_own_files(call):
    call.create_dataset({"a.bin": b"one"})
    call.create_version({"a.bin": b"two", "b.bin": b"b"}, notes="second")
    call.ready(2)
    names = {"ownerSlug": "local", "datasetSlug": "my-data"}

    def bundle(number):
        content = call.post(
            "DatasetApiService/DownloadDataset", datasetVersionNumber=number, **names
        ).content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert bundle(1) == {"a.bin": b"one"}
    assert bundle(2) == {"a.bin": b"two", "b.bin": b"b"}
    dataset = call.datasets("GetDataset", **names)
    assert (dataset["currentVersionNumber"], dataset["versions"][0]["versionNotes"]) == (
        2,
        "second",
    )


def test_a_refused_dataset_says_so_inside_the_answer(call):
    call.create_dataset({"a.bin": b"a"})

    again = call.datasets("CreateDataset", ownerSlug="local", slug="my-data", title="My Data")
    nothing = call.create_version({"a.bin": b"a"}, slug="no-such-data")

    assert "already in use" in again["error"]
    assert "Failed to resolve" in nothing["error"]


def test_lists_show_what_there_is(call):
    call.push("pass")
    call.push("pass", slug="other-loop")
    call.create_dataset({"a.bin": b"a"})

    kernels = call.kernels("ListKernels", user="local")["kernels"]
    found = call.kernels("ListKernels", search="other")["kernels"]
    datasets = call.datasets("ListDatasets", group="DATASET_SELECTION_GROUP_MY")["datasets"]

    assert [kernel["ref"] for kernel in kernels] == ["local/other-loop", "local/train-loop"]
    assert [kernel["ref"] for kernel in found] == ["local/other-loop"]
    assert [dataset["ref"] for dataset in datasets] == ["local/my-data"]
    assert call.kernels("ListKernels", user="bob") == {}


def test_the_state_is_shown_to_tests(local, call):
    call.push("pass")

    shown = requests.get(f"{local.url}/_local/state", headers=call.headers, timeout=30).json()

    assert shown["kernels"][0]["versions"][0]["push"]["source"] == "pass"
    assert shown["sessions"][0]["session_id"] == 200000001


def test_a_taken_port_is_told_clearly(local, tmp_path):
    port = int(local.url.rpartition(":")[2])

    with pytest.raises(PortTaken, match=f"port {port} .* is taken"):
        LocalKaggle(tmp_path / "other", port=port)
    LocalKaggle(tmp_path / "other").close()


def test_a_state_folder_has_one_server(local, tmp_path):
    with pytest.raises(StateLocked, match="another local Kaggle"):
        LocalKaggle(tmp_path / "state")


def test_others_can_find_a_running_server(tmp_path, quick):
    with LocalKaggle(tmp_path / "state", settings=quick) as server:
        found = json.loads((tmp_path / "state" / "server.json").read_text())
        assert found == {"url": server.url, "pid": os.getpid()}

    assert not (tmp_path / "state" / "server.json").exists()


def test_whoever_looks_for_a_server_never_finds_half_of_its_address(tmp_path, quick):
    file = tmp_path / "state" / "server.json"
    file.parent.mkdir()
    file.write_text("left by a server that was killed")
    with file.open() as looking, LocalKaggle(tmp_path / "state", settings=quick):
        assert looking.read() == "left by a server that was killed"


def test_credentials_last_and_are_private(tmp_path, quick):
    with LocalKaggle(tmp_path / "state", settings=quick) as server:
        first = (server.token, server.key)
    with LocalKaggle(tmp_path / "state", settings=quick) as server:
        assert (server.token, server.key) == first

    mode = (tmp_path / "state" / "account.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert first[0].startswith("KGAT_")
