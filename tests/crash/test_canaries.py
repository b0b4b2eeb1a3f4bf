"""Canaries where a chain ends badly: errors of the storage, halts, crashes, kills, a lost folder.

Real controllers, the official client and a local Kaggle whose errors echo what was sent to them.
"""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from orchestrator.emulator.faults import Fault
from tests.canaries import Canaries, files_below
from tests.crash.host import QuickHost
from tests.crash.place import kill_tree
from tests.running import wait_until

CRASHING = """
import os, threading
from orchestrator import engine
from orchestrator.cli import cli
def fail(*args, **options):
    raise RuntimeError(os.environ["ECHO"])
def tick(*args, **options):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    fail()
engine.tick = tick
cli(prog_name="kchain")
"""


@pytest.fixture
def canaries(place, monkeypatch):
    """Canaries; the credential and every signature that local Kaggle makes are among them."""
    canaries = Canaries()
    canaries.know(place.local.token, "the credential in use")
    links = place.local.platform.links
    sign = links._sign

    def watched(what, expires_at):
        return canaries.know(sign(what, expires_at), f"the signature for {what}")

    monkeypatch.setattr(links, "_sign", watched)
    return canaries


def echo(canaries, place, where):
    """What a proxy says that repeats what was sent to it."""
    return (
        f"failed: Authorization: Bearer {place.local.token} for https://storage/x"
        f"?X-Goog-Signature={canaries.plant(f'signature, {where}')}"
        f"&upload_id={canaries.plant(f'upload, {where}')} and"
        f" https://output/kf/1/eyJhbGciOiJkaXIi{canaries.plant(f'path, {where}')}/model.pt"
    )


def echoing(canaries, place, method, status, nth=1):
    message = echo(canaries, place, method)
    body = json.dumps({"code": status, "message": message, "error": message})
    return Fault(method, "answer", nth=nth, status=status, body=body)


def journal_of(place):
    db = sqlite3.connect(place.state_dir / "journal.db")
    try:
        return "\n".join(body for (body,) in db.execute("SELECT body FROM events ORDER BY seq"))
    finally:
        db.close()


def assert_nothing_is_told(place, canaries, *printed, own_files=()):
    """No canary is in what was printed, written or sent, but for files that a session left so."""
    for upload in place.local.state()["uploads"]:
        canaries.know(upload["upload_id"], "the address of an upload")
    assert [canaries.sighted(text) for text in printed] == [[]] * len(printed), printed
    own = [place.state_dir, place.output, place.home, place.temporary]
    sighted = canaries.sighted_in_files(*own)
    assert {
        path: found for path, found in sighted.items() if Path(path).name not in own_files
    } == {}
    truth = place.local.state()
    sent = [version["push"] for kernel in truth["kernels"] for version in kernel["versions"]]
    for dataset in truth["datasets"]:
        sent += [dataset["draft"], *(version["notes"] for version in dataset["versions"])]
    assert canaries.sighted(json.dumps(sent)) == []


def test_errors_of_the_storage_that_echo_are_told_without_secrets(place, canaries):
    place.local.faults.add(
        echoing(canaries, place, "/upload", 500),
        echoing(canaries, place, "/upload", 403, nth=3),
        echoing(canaries, place, "/kf/", 500),
        echoing(canaries, place, "/kf/", 403, nth=3),
        echoing(canaries, place, "/kaggle-data-sets/", 403),
        echoing(canaries, place, "StartBlobUpload", 503),
        echoing(canaries, place, "DownloadDataset", 500, nth=2),
    )

    code, printed = place.finish("run", "--sessions", "2")

    assert code == 0, printed
    assert all(place.local.faults.fired), place.local.faults.fired
    signed = " ".join(canaries.planted.values())
    assert "signature for kf/" in signed
    assert "signature for kaggle-data-sets/" in signed
    assert place.local.state()["uploads"]
    assert "[redacted]" in journal_of(place)
    assert_nothing_is_told(place, canaries, printed)


def test_a_stop_and_a_recovery_tell_no_secret(place, canaries):
    assert place.finish("run", "--sessions", "1")[0] == 0
    printed = [place.finish("stop", *more)[1] for more in ([], ["--json"], ["--undo"])]
    shutil.rmtree(place.state_dir)
    place.local.faults.add(
        echoing(canaries, place, "GetKernel", 503, nth=2),
        echoing(canaries, place, "GetKernelSessionStatus", 500),
        echoing(canaries, place, "/kf/", 500),
        echoing(canaries, place, "ListKernelSessionOutput", 500),
    )
    for _ in range(5):  # what cannot be read at the very beginning is told, and tried later
        code, said = place.finish("recover")
        printed.append(said)
        if code != 3:
            break

    assert code == 0, said
    assert all(place.local.faults.fired), place.local.faults.fired
    assert "[redacted]" in "".join(printed)
    assert_nothing_is_told(place, canaries, *printed)


def test_a_halt_tells_no_secret(place, canaries):
    place.local.faults.add(echoing(canaries, place, "SaveKernel", 400))

    told = [place.finish(*words) for words in (["run"], ["status"], ["status", "--json"], ["tick"])]

    assert [code for code, _ in told] == [4, 0, 0, 4], told
    assert place.local.faults.fired == [1]
    assert all("[redacted]" in printed for _, printed in told), told
    assert_nothing_is_told(place, canaries, *(printed for _, printed in told))


def test_a_crash_tells_no_secret(place, canaries):
    key = canaries.know(place.local.key, "a key of a shape that only its owner knows")
    message = f"{echo(canaries, place, 'a crash')} with {key}"
    login = {"KAGGLE_USERNAME": place.local.username, "KAGGLE_KEY": key, "ECHO": message}
    env = {**place.environment, **login, "KAGGLE_API_TOKEN": ""}

    code, printed = place.finish("run", command=(sys.executable, "-c", CRASHING), env=env)

    assert code == 1
    assert printed.count("Traceback") == printed.count("RuntimeError: failed: ") == 2, printed
    assert_nothing_is_told(place, canaries, printed)


def test_a_kill_in_the_middle_of_an_upload_leaves_nothing_after_the_next_start(place, canaries):
    place.local.faults.add(Fault("/upload", "hang"))
    process = place.start("run", "--sessions", "1")
    wait_until(lambda: place.local.faults.fired == [1], "the upload has begun")

    kill_tree(process)

    printed, _ = process.communicate()
    place.check_nothing_is_left()
    (upload,) = place.local.state()["uploads"]
    left = [path.read_text() for path in files_below([place.homes])]
    assert [text for text in left if upload["upload_id"] in text], "the client keeps no record"
    code, more = place.finish("run", "--sessions", "1")
    assert code == 0, more
    assert list(place.homes.iterdir()) == []
    assert_nothing_is_told(place, canaries, printed, more)


class TellingHost(QuickHost):
    """Sessions that tell secrets: the first in its verdict, the second in its manifest."""

    secrets = ""
    ended = 0

    def _leave(self, folder):
        super()._leave(folder)
        entry = {"stream_name": "stdout", "time": 0.0, "data": f"login: {self.secrets}\n"}
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        working = folder / "working"
        self.ended += 1
        if self.ended == 1:
            change(working / "session.json", outcome="refused", detail=f"no: {self.secrets}")
        elif self.ended == 2:
            change(working / "checkpoints" / "manifest.json", latest=self.secrets)


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_a_session_says_is_told_without_secrets(place, canaries):
    secrets = {
        "hf_" + "aB3" * 12: "a token of Hugging Face",
        "KGAT_" + "0a1b2c3d" * 4: "a token of Kaggle",
        "MIIEowIBAAKCAQEA": "a private key",
    }
    for secret, what in secrets.items():
        canaries.know(secret, what)
    token, other, key = secrets
    place.host.__class__ = TellingHost
    place.host.secrets = f"{token} {other} -----BEGIN RSA PRIVATE KEY----- {key} -----END"

    code, printed = place.finish("run", "--sessions", "1")
    logs = place.finish("logs", "--version", "1")[1]

    assert code == 0, printed
    assert len(place.local.state()["sessions"]) == 3
    assert printed.count("brought nothing") == 2, printed
    assert printed.count("[redacted]") >= 2, printed
    assert "login: [redacted]" in logs
    assert_nothing_is_told(
        place, canaries, printed, logs, own_files=("session.json", "manifest.json")
    )
