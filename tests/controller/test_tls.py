"""A server that claims to be Kaggle and cannot prove it."""

import shutil
import ssl
import subprocess
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from orchestrator import transfer
from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.port import Done, PushRequest, Unreadable
from tests.scripted import Handler, Script
from tests.simulation.faults import Memory

KEY = "0123456789abcdef0123456789abcdef"
PUSH = PushRequest("kchain-demo", "kchain-demo", "{}", (), None, False, 60)
NEW_CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
)


class Server(ThreadingHTTPServer):
    """Counts who comes, whether or not they stay to ask for anything."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.url = Script(), f"https://127.0.0.1:{self.server_port}"
        self.callers = 0

    def process_request(self, request, client_address):
        self.callers += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """They left, as they should."""


@pytest.fixture
def certified(tmp_path):
    """Make a server's certificate that nobody but itself vouches for."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    subprocess.run(NEW_CERTIFICATE.split(), cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return context


@pytest.fixture(params=["nobody vouches for", "no TLS at all"])
def server(request):
    with Server() as server:
        if request.param == "nobody vouches for":
            context = request.getfixturevalue("certified")
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server_that_cannot_prove_who_it_is_gets_nothing(server):
    key = credentials.from_key("local", KEY, "the test")

    with KaggleApi(server.url, key) as kaggle:
        answers = [kaggle.quota(), kaggle.push(PUSH), kaggle.kernel("kchain-demo")]
    sink = Memory()
    file = transfer.download(f"{server.url}/file", sink, 100, endpoint=server.url)

    assert server.callers >= len(answers) + 1
    assert server.script.requests == []
    assert not any(isinstance(answer, Done) for answer in answers)
    assert isinstance(answers[0], Unreadable)
    assert isinstance(answers[2], Unreadable)
    assert isinstance(file, Unreadable)
    assert not sink.data
