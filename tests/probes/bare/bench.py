"""What a probe of the bare client works with: a home, a server that misbehaves, a watch on it."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time

from requests.adapters import HTTPAdapter

from tests.scripted import Reply, Script

USER = {"KAGGLE_USERNAME": "local", "KAGGLE_KEY": "c0ffee" * 6}
TOKEN = "KGAT_" + "canary" * 5
KERNEL, DATASET = "local/train-loop", "local/my-data"
HTML = Reply(200, b"<!DOCTYPE html><html>Sign in</html>", {"Content-Type": "text/html"})
NO = Reply(401, {"code": 401, "message": "Unauthenticated"})


class Bench:
    """One probe's surroundings; whatever the client would sleep is noted instead."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.home, self.target = folder / "home", folder / "target"
        for each in (self.home / ".kaggle", folder / "tmp", self.target):
            each.mkdir(parents=True)
        server.script = Script()
        self.waits, self.timeouts = [], []

    @contextlib.contextmanager
    def laid_out(self):
        """Give the process this bench's home, and a clock that does not hold anything up."""
        before, send, sleep = dict(os.environ), HTTPAdapter.send, time.sleep

        def noted_send(adapter, request, **options):
            self.timeouts.append(options.get("timeout"))
            return send(adapter, request, **options)

        os.environ.update(HOME=str(self.home), TMPDIR=str(self.folder / "tmp"))
        tempfile.tempdir = None
        HTTPAdapter.send, time.sleep = noted_send, self.waits.append
        try:
            yield self
        finally:
            HTTPAdapter.send, time.sleep = send, sleep
            os.environ.clear()
            os.environ.update(before)
            self.server.script.released.set()

    def on(self, name, *replies):
        self.server.script.on(name, *replies)

    def asked(self, name):
        return self.server.script.asked(name)

    def bodies(self, name):
        return [json.loads(request["body"]) for request in self.asked(name)]

    def client(self, **environ):
        """Return a client of its own, authenticated with what the environment then holds."""
        from kaggle.api.kaggle_api_extended import KaggleApi  # noqa: PLC0415 - the probed one

        os.environ.update(environ or USER)
        client = KaggleApi()
        client.authenticate()
        return client

    def python(self, code, timeout=20, **environ):
        """Run a program of its own, as a client of the server."""
        keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "KCHAIN_KAGGLE_ENDPOINT")}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**keep, "HOME": str(self.home), **environ},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def files(self, **contents):
        """Put files, and the metadata of a dataset, into a folder."""
        folder = self.folder / "dataset"
        folder.mkdir(exist_ok=True)
        metadata = {"id": DATASET, "title": "My Data", "licenses": [{"name": "CC0-1.0"}]}
        (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return folder

    def uploads(self, *replies):
        """Let uploads begin, and answer their bytes so."""
        url = f"{self.server.url}/upload?upload_id=SECRETUPLOAD"
        self.on("StartBlobUpload", Reply(200, {"token": "blob", "createUrl": url}))
        self.on("upload", *replies or [Reply(200)])

    def lists(self, *names, log="", **more):
        """Let a session have left these files, at /<name> of the server."""
        files = [
            {"fileName": name, "url": f"{self.server.url}/{name}?sig=SECRET"} for name in names
        ]
        self.on("ListKernelSessionOutput", Reply(200, {"files": files, "log": log, **more}))


def caught(function, *args, **options):
    """Return what a call raised; None if it returned."""
    try:
        function(*args, **options)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the client raises is the finding
        return error
    return None


@contextlib.contextmanager
def stdout():
    """Catch what is printed."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        yield text
