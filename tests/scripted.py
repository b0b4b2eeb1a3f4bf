"""A server whose every answer is told beforehand, down to what becomes of the connection."""

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_SECONDS = 30  # the longest that a held request is held


class Reply:
    """One answer; `then` is what becomes of the connection: end, reset, hang or drip."""

    def __init__(self, status=200, body=b"", headers=None, then="end"):
        self.status, self.headers, self.then = status, dict(headers or {}), then
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if not isinstance(body, bytes):
            self.headers.setdefault("Content-Type", "application/json")


class Script:
    """What a server answers, by the last part of the path, and what it was asked."""

    def __init__(self):
        self.replies, self.requests = {}, []
        self.released = threading.Event()
        self.default = Reply(404, {"code": 404, "message": "not scripted"})

    def on(self, name, *replies):
        """Answer so, one after the other; the last one stays."""
        self.replies[name] = list(replies)

    def next_for(self, name):
        waiting = self.replies.get(name, [self.default])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def asked(self, name):
        return [request for request in self.requests if request["name"] == name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        script = self.server.script
        name = self.path.partition("?")[0].rpartition("/")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        script.requests.append({"name": name, "headers": dict(self.headers), "body": body})
        reply = script.next_for(name)
        self.close_connection = True
        if reply.then == "silent":
            script.released.wait(HANG_SECONDS)
            return
        with contextlib.suppress(ConnectionError):  # the client had enough of us
            self._send(reply, script)

    do_GET = do_PUT = do_POST

    def _send(self, reply, script):
        if reply.then != "reset_first":
            self.send_response(reply.status)
            headers = {"Content-Length": len(reply.body), "Connection": "close", **reply.headers}
            for header, value in headers.items():
                if value is not None:
                    self.send_header(header, str(value))
            self.end_headers()
            self.wfile.write(reply.body)
        if reply.then == "hang":
            script.released.wait(HANG_SECONDS)
        elif reply.then == "drip":
            while not script.released.wait(0.05):
                self.wfile.write(b".")
        elif reply.then.startswith("reset"):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, _request, _address):
        pass  # a connection that was cut on purpose


@contextlib.contextmanager
def serving():
    """Start servers that answer as their script says; `.script` and `.url` of each are given."""
    with contextlib.ExitStack() as stack:

        def start():
            server = Server(("127.0.0.1", 0), Handler)
            server.script = Script()
            server.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            for end in (server.server_close, thread.join, server.shutdown):
                stack.callback(end)
            stack.callback(server.script.released.set)
            return server

        yield start
