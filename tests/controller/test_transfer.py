"""Downloads from real servers that break off, lie, drip and point elsewhere."""

from pathlib import Path

import pytest

from orchestrator import transfer
from orchestrator.kaggle.port import Gone, Trouble, Unreadable

CONTENT = bytes(range(256)) * 400
LIMIT = len(CONTENT)


@pytest.fixture
def sink(files):
    """A file that is arriving."""
    with files.partial(files.incoming("kc1.download"), "file") as partial:
        yield partial


@pytest.fixture
def content_of(files, sink):
    """What has arrived."""

    def read():
        sink._file.flush()
        return files.read(files.state_dir / "incoming" / "kc1.download", "file", 10 * LIMIT)

    return read


@pytest.fixture
def fetch(server, sink):
    """Download `file` from the server into the sink."""
    return lambda limit=LIMIT, **options: transfer.download(
        f"{server.url}/kf/1/file?X-Goog-Signature=secret",
        sink,
        limit,
        endpoint=options.get("endpoint", server.url),
    )


def ranges(server):
    return [request["headers"].get("Range") for request in server.script.asked("file")]


def test_a_whole_file_arrives_in_one_request(server, reply, fetch, content_of):
    server.script.on("file", reply(200, CONTENT))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT
    assert ranges(server) == [None]


def test_an_empty_file_arrives(server, reply, fetch, content_of):
    server.script.on("file", reply(200, b""))

    assert fetch() == 0
    assert content_of() == b""


def test_a_file_without_an_announced_length_arrives_up_to_the_limit(
    server, reply, fetch, content_of
):
    server.script.on("file", reply(200, CONTENT, {"Content-Length": None}))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT


def test_a_chunked_file_arrives(server, reply, fetch, content_of):
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    server.script.on("file", reply(200, body, headers))

    assert fetch() == 5
    assert content_of() == b"abcde"


def test_bytes_are_taken_as_they_are_whatever_encoding_is_claimed(server, reply, fetch, content_of):
    server.script.on("file", reply(200, b"not gzip", {"Content-Encoding": "gzip"}))

    assert fetch() == 8
    assert content_of() == b"not gzip"
    (request,) = server.script.asked("file")
    assert request["headers"]["Accept-Encoding"] == "identity"


def test_no_credential_and_no_proxy_is_used(server, reply, fetch, monkeypatch):
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.script.on("file", reply(200, b"x"))

    assert fetch() == 1
    (request,) = server.script.asked("file")
    assert "Authorization" not in request["headers"]


# Going on


def test_a_download_goes_on_at_the_right_byte(server, reply, sink, fetch, content_of):
    sink.write(CONTENT[:1000])
    server.script.on("file", reply(206, CONTENT[1000:]))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT
    assert ranges(server) == ["bytes=1000-"]


def test_a_server_that_ignores_the_range_is_taken_from_the_start(
    server, reply, sink, fetch, content_of
):
    sink.write(b"a stale beginning")
    server.script.on("file", reply(200, CONTENT))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT


@pytest.mark.parametrize("then", ["end", "reset"])
def test_a_connection_that_breaks_is_taken_up_at_the_next_byte(
    server, reply, fetch, content_of, then
):
    half = len(CONTENT) // 2
    broken = reply(200, CONTENT[:half], {"Content-Length": len(CONTENT)}, then=then)
    server.script.on("file", broken, *rest_of_the_file(reply, server))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT
    first, second = ranges(server)
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= half


def rest_of_the_file(reply, server):
    """One answer that serves whatever range it is asked for."""

    class Rest(reply):
        @property
        def body(self):
            start = int(ranges(server)[-1].removeprefix("bytes=").removesuffix("-"))
            return CONTENT[start:]

        @body.setter
        def body(self, _):
            pass

    return [Rest(206)]


def test_a_connection_that_is_cut_before_the_answer_is_tried_again(
    server, reply, fetch, content_of
):
    server.script.on("file", reply(then="reset_first"), reply(200, CONTENT))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT


def test_a_file_that_became_shorter_is_fetched_anew(server, reply, sink, fetch, content_of):
    sink.write(b"x" * 5000)
    server.script.on("file", reply(416), reply(200, CONTENT))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT
    assert ranges(server) == ["bytes=5000-", None]


def test_tries_are_limited_and_what_arrived_is_kept(server, reply, fetch, sink):
    server.script.on("file", reply(200, b"ten bytes.", {"Content-Length": 100}))

    answer = fetch()

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.NETWORK
    assert len(server.script.asked("file")) == transfer.ATTEMPTS
    assert sink.size_bytes == 10


# Refusals and lies


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_url_that_expired_or_names_nothing_is_gone(server, reply, sink, fetch, status):
    server.script.on("file", reply(status, b"<Error>ExpiredToken</Error>"))

    assert fetch() == Gone(f"HTTP {status} for an output file")
    assert len(server.script.asked("file")) == 1
    assert sink.size_bytes == 0


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_an_error_is_unreadable_and_its_body_is_no_file(server, reply, sink, fetch, status):
    server.script.on("file", reply(status, b"<Error>busy</Error>"))

    answer = fetch()

    assert answer == Unreadable(Trouble.NETWORK, f"HTTP {status} for an output file")
    assert sink.size_bytes == 0


def test_a_web_page_is_no_file(server, reply, sink, fetch):
    server.script.on("file", reply(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}))

    answer = fetch()

    assert answer == Unreadable(Trouble.NETWORK, "a web page instead of an output file")
    assert sink.size_bytes == 0


def test_more_than_is_allowed_is_not_even_begun(server, reply, sink, fetch):
    server.script.on("file", reply(200, CONTENT))

    answer = fetch(limit=LIMIT - 1)

    assert answer == Unreadable(Trouble.ODD, f"{LIMIT} bytes announced, {LIMIT - 1} allowed")
    assert sink.size_bytes == 0


def test_a_rest_that_makes_the_whole_too_large_is_not_begun(server, reply, sink, fetch):
    sink.write(b"x" * 10)
    server.script.on("file", reply(206, CONTENT))

    answer = fetch()

    assert answer.message == f"{LIMIT + 10} bytes announced, {LIMIT} allowed"
    assert sink.size_bytes == 10


def test_an_unannounced_flood_ends_at_the_limit(server, reply, sink, fetch):
    server.script.on("file", reply(200, CONTENT, {"Content-Length": None}))

    answer = fetch(limit=100)

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.ODD
    assert sink.size_bytes <= 100 + transfer.CHUNK_BYTES


@pytest.mark.parametrize("length", ["many", "-5", "", "1e3", "٣"])
def test_a_length_that_is_no_number_is_no_length(server, reply, fetch, content_of, length):
    header = length.encode().decode("latin-1")
    server.script.on("file", reply(200, CONTENT, {"Content-Length": header}))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT


def test_a_server_that_announces_less_than_it_sends_is_not_read_further(
    server, reply, fetch, content_of
):
    server.script.on("file", reply(200, CONTENT, {"Content-Length": 100}))

    assert fetch() == 100
    assert content_of() == CONTENT[:100]


# Addresses

ELSEWHERE = [
    "http://192.0.2.1/file",
    "https://192.0.2.1/file",
    "http://example.invalid/file",
    "https://127.0.0.1.example.invalid/file",
    "https://localhost@example.invalid/file",
]
NONSENSE = ["", "file", "ftp://127.0.0.1/file", "file:///etc/passwd", "http://[", "http://", "//"]


@pytest.mark.parametrize("url", [*ELSEWHERE, *NONSENSE])
def test_with_a_local_endpoint_only_this_machine_is_asked(server, sink, url):
    answer = transfer.download(url, sink, LIMIT, endpoint=server.url)

    assert isinstance(answer, Unreadable)
    assert sink.size_bytes == 0


@pytest.mark.parametrize(
    "url", ["http://www.kaggleusercontent.com/kf/1", "http://127.0.0.1:1/x", *NONSENSE]
)
def test_with_a_remote_endpoint_nothing_is_asked_in_the_clear(sink, url):
    answer = transfer.download(url, sink, LIMIT, endpoint="https://api.kaggle.com")

    assert isinstance(answer, Unreadable)
    assert sink.size_bytes == 0


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_redirection_leads_no_further_than_the_address_itself_may(
    server, reply, sink, fetch, target
):
    server.script.on("file", reply(302, b"", {"Location": target}))

    answer = fetch()

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.ODD
    assert "the endpoint is local" in answer.message
    assert len(server.script.asked("file")) == transfer.ATTEMPTS


def test_a_redirection_on_this_machine_is_followed(serve, server, reply, fetch, content_of):
    other = serve()
    other.script.on("moved", reply(200, CONTENT))
    server.script.on("file", reply(302, b"", {"Location": f"{other.url}/moved"}))

    assert fetch() == len(CONTENT)
    assert content_of() == CONTENT


@pytest.mark.parametrize("location", ["http://[", "ftp://x", "\xff\xfe", "://"])
def test_a_redirection_to_nonsense_is_unreadable(server, reply, fetch, location):
    server.script.on("file", reply(302, b"", {"Location": location}))

    assert isinstance(fetch(), Unreadable | Gone)


def test_a_redirection_in_a_circle_ends(server, reply, fetch):
    server.script.on("file", reply(302, b"", {"Location": f"{server.url}/kf/1/file"}))

    assert isinstance(fetch(), Unreadable)


def test_a_signed_url_is_in_no_message(server, reply, sink, closed_port):
    server.script.on("file", reply(500))
    signed = "/file?X-Goog-Signature=secret"
    for url in (
        f"{server.url}{signed}",
        f"http://127.0.0.1:{closed_port}{signed}",
        f"http://192.0.2.1{signed}",
        f"http://[{signed}",
    ):
        answer = transfer.download(url, sink, LIMIT, endpoint=server.url)

        assert isinstance(answer, Unreadable)
        assert "secret" not in answer.message


# Time


@pytest.fixture
def hurry(monkeypatch):
    """Let a download's patience be tenths of a second."""
    monkeypatch.setattr(transfer, "TIMEOUTS_SECONDS", (1, 0.2))
    monkeypatch.setattr(transfer, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(transfer, "SLOWEST_BYTES", 1e9)


@pytest.mark.usefixtures("hurry")
def test_a_slow_drip_ends_although_every_byte_is_in_time(server, reply, fetch):
    server.script.on("file", reply(200, b"", {"Content-Length": LIMIT}, then="drip"))

    answer = fetch()

    assert answer == Unreadable(Trouble.NETWORK, "download too slow")


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("then", ["silent", "hang"])
def test_a_server_that_falls_silent_is_given_up(server, reply, fetch, then):
    server.script.on("file", reply(200, b"half", {"Content-Length": 8}, then=then))

    answer = fetch()

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.NETWORK


def test_nobody_listens(sink, closed_port):
    url = f"http://127.0.0.1:{closed_port}"

    answer = transfer.download(f"{url}/file", sink, LIMIT, endpoint=url)

    assert isinstance(answer, Unreadable)
    assert answer.trouble is Trouble.NETWORK
