"""C35 to C47 are contained: downloads. kchain makes them itself; the client lists and redirects."""

import tracemalloc

import pytest

from orchestrator import transfer
from orchestrator.errors import CheckpointError
from orchestrator.files import Files
from orchestrator.kaggle.port import Gone, OutputFile, Trouble, Unreadable
from tests.scripted import Reply

DENIED = (403, b"<Error>AccessDenied</Error>", {"Content-Type": "application/xml"})
LARGE_BYTES = 24 << 20
DATASET = "kchain-demo-checkpoints"


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "state", tmp_path / "output")


@pytest.fixture
def fetch(kaggle, files, output):
    """Download an output into one attempt's folder; returns the answer and the bytes."""

    def get(name="model.pt", limit_bytes=LARGE_BYTES, attempt="kc1.attempt"):
        folder = files.incoming(attempt)
        with files.partial(folder, name) as sink:
            answer = kaggle.download(output(name), sink, limit_bytes)
        return answer, files.read(folder, name, LARGE_BYTES)

    return get


@pytest.mark.parametrize("name", ["../escaped.pt", "/tmp/escaped.pt", "a/../../escaped.pt"])  # noqa: S108
def test_c35_a_name_that_leads_outside_is_refused(kaggle, on, files, tmp_path, name):
    on("ListKernelSessionOutput", (200, {"files": [{"fileName": name, "url": "u"}]}))
    before = sorted(tmp_path.rglob("*"))

    (listed,) = kaggle.outputs("kchain-demo", 1)

    assert listed == OutputFile(name, "u")
    with pytest.raises(CheckpointError, match="refused file name"):
        files.partial(files.state_dir, listed.name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("reply", [DENIED, (500, b"<Error/>"), (302, b"")])
def test_c36_an_error_page_is_no_file(fetch, on, reply):
    on("model.pt", reply)

    answer, content = fetch()

    assert isinstance(answer, Gone | Unreadable)
    assert content == b""


def test_c37_a_file_is_not_held_in_memory(fetch, on):
    on("model.pt", (200, b"w" * LARGE_BYTES))
    tracemalloc.start()
    try:
        answer, _content = fetch(limit_bytes=LARGE_BYTES)
        peak_bytes = tracemalloc.get_traced_memory()[1] - LARGE_BYTES  # the test's own reading
    finally:
        tracemalloc.stop()

    assert answer == LARGE_BYTES
    assert peak_bytes < 8 << 20


def test_c38_a_link_is_not_followed_and_a_torn_file_gets_no_final_name(fetch, files, on, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (files.incoming("kc1.attempt") / "linked.pt").symlink_to(precious)
    on("torn.pt", Reply(200, b"half", {"Content-Length": 8}, then="reset"))

    with pytest.raises(CheckpointError, match="symbolic"):
        fetch("linked.pt")
    torn, _content = fetch("torn.pt", limit_bytes=8)

    assert precious.read_text() == "precious"
    assert isinstance(torn, Unreadable)
    assert not files.has_checkpoints()
    assert list(files.output_dir.iterdir()) == []


def test_c39_a_file_of_the_last_session_is_not_taken_for_this_ones(fetch, on, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = {"Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"}
    on("model.pt", (200, b"session 1", old), (200, b"session 2", old))

    assert fetch(attempt="kc1.one") == (9, b"session 1")
    assert fetch(attempt="kc1.two") == (9, b"session 2")


@pytest.mark.parametrize("then", ["silent", "hang", "drip"])
def test_c40_a_download_that_never_ends_is_given_up(fetch, on, monkeypatch, then):
    monkeypatch.setattr(transfer, "TIMEOUTS_SECONDS", (1, 0.15))
    monkeypatch.setattr(transfer, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "SLOWEST_BYTES", 1e9)
    on("model.pt", Reply(200, b"", {"Content-Length": 1000}, then=then))

    answer, _content = fetch(limit_bytes=1000)

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.NETWORK


def test_c41_a_list_that_breaks_off_is_no_shorter_list_and_an_aged_url_is_listed_anew(
    kaggle, on, fetch
):
    page = {"files": [{"fileName": "one.pt", "url": "u"}], "nextPageToken": "2"}
    on("ListKernelSessionOutput", (200, page), (500, {"code": 500, "message": "Internal"}))
    on("one.pt", DENIED)

    assert isinstance(kaggle.outputs("kchain-demo", 1), Unreadable)
    assert fetch("one.pt") == (Gone("HTTP 403 for an output file"), b"")


def test_c42_a_log_is_a_text_and_overwrites_nothing(kaggle, on, fetch, tmp_path):
    listing = {"files": [{"fileName": "kchain-demo.log", "url": "u"}], "log": "le journal, é"}
    on("ListKernelSessionOutput", (200, listing))
    on("kchain-demo.log", (200, b"an output"))
    assert fetch("kchain-demo.log")[0] == 9
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    assert kaggle.log("kchain-demo", 1) == "le journal, é"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_c43_an_error_while_going_on_is_not_written_over_what_arrived(fetch, on):
    cut = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    on("model.pt", Reply(200, b"5\r\nweigh\r\n", cut, then="reset"), Reply(500, b"<Error/>"))

    answer, content = fetch()

    assert isinstance(answer, Unreadable)
    assert content == b"weigh"


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("then", ["silent", "hang", "drip"])
def test_c44_a_file_of_a_dataset_that_never_ends_is_given_up(kaggle, server, on, then):
    on("DownloadDataset", (302, b"", {"Location": f"{server.url}/storage/raw"}))
    on("raw", Reply(200, b"", {"Content-Length": 1000}, then=then))

    answer = kaggle.dataset_file(DATASET, 1, "manifest.json", 1000)

    assert answer == Unreadable(Trouble.NETWORK, "Kaggle's client gave no answer in time")
    assert server.script.asked("raw")


class FullDisk:
    """A sink on a disk that is full."""

    size_bytes = 0

    def write(self, _chunk):
        raise OSError(28, "No space left on device")

    def restart(self):
        raise AssertionError("nothing arrived")


def test_c45_a_full_disk_means_one_download(kaggle, server, on, output):
    on("model.pt", (200, b"weights"))

    with pytest.raises(OSError, match="No space left"):
        kaggle.download(output("model.pt"), FullDisk(), 1000)

    assert len(server.script.asked("model.pt")) == 1


@pytest.mark.parametrize("reply", [DENIED, (500,), Reply(then="reset_first"), (302, b"")])
def test_c47_no_message_shows_a_signed_url(kaggle, server, on, fetch, reply):
    on("model.pt", reply)
    on("DownloadDataset", (302, b"", {"Location": f"{server.url}/raw?X-Goog-Signature=SECRET"}))
    on("raw", reply)

    told = [fetch()[0], kaggle.dataset_file(DATASET, 1, "manifest.json", 1000)]

    assert all(isinstance(answer, Gone | Unreadable) for answer in told)
    assert "SECRET" not in repr(told)
