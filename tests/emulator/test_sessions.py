"""Sessions, and the servers that come and go around them."""

import json
import subprocess
import sys

import requests

from orchestrator.emulator.server import LocalKaggle


def test_two_versions_run_side_by_side_and_labels_tell_them_apart(call):
    call.push("import time; print('first'); time.sleep(600)")
    call.push("print('second'); open('second.txt', 'w')")

    assert call.ended() == {"status": "COMPLETE"}
    assert call.status(versionLabel="v1")["status"] == "RUNNING"
    assert call.listing(versionLabel="v1") == {}
    assert list(call.outputs(versionLabel="v2")) == ["second.txt"]
    source = call.kernels("GetKernel", userName="local", kernelSlug="train-loop", versionLabel="v1")
    assert "first" in source["blob"]["source"]
    assert source["metadata"]["currentVersionNumber"] == 2


def test_a_session_outlives_its_server_and_the_next_one_collects_it(start, wait_until, tmp_path):
    server, call = start()
    gate = tmp_path / "gate"
    call.push(
        "import os, time\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "open('late.txt', 'w').write('late'); print('late')"
    )
    wait_until(lambda: call.status() == {"status": "RUNNING"})
    server.close()

    server, call = start()
    assert call.status() == {"status": "RUNNING"}
    gate.touch()

    assert call.ended() == {"status": "COMPLETE"}
    assert call.outputs() == {"late.txt": b"late"}
    assert call.log() == "late\n"


def test_a_session_that_ended_without_a_server_is_collected_at_the_next_start(
    start, wait_until, tmp_path
):
    server, call = start()
    call.push("open('done.txt', 'w').write('done')", enableGpu=True)
    session = wait_until(lambda: [s for s in server.state()["sessions"] if s["started_at"]])[0]
    server.close()
    result = tmp_path / "state" / "sessions" / str(session["session_id"]) / "result.json"
    wait_until(lambda: result.exists() or server.state()["sessions"][0]["ending"])

    server, call = start()

    assert call.ended() == {"status": "COMPLETE"}
    assert call.outputs() == {"done.txt": b"done"}


def test_everything_is_there_after_a_restart(start):
    server, call = start()
    call.create_dataset({"a.txt": b"data"})
    call.push("open('out.txt', 'w').write('made'); print('hello')")
    call.ended()
    before = {key: server.state()[key] for key in ("kernels", "sessions", "datasets")}
    server.close()

    server, call = start()

    assert {key: server.state()[key] for key in before} == before
    assert call.outputs() == {"out.txt": b"made"}
    assert call.log() == "hello\n"
    assert call.push("pass")["versionNumber"] == 2


def test_a_server_killed_outright_loses_nothing(tmp_path, caller, wait_until):
    """Kill a whole server process while a session runs, and go on with another."""
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from orchestrator.emulator.server import LocalKaggle, Settings\n"
        "with LocalKaggle(Path(sys.argv[1]), settings=Settings(queue_seconds=0)):\n"
        "    threading.Event().wait()\n"
    )
    state = tmp_path / "state"
    gate = tmp_path / "gate"
    process = subprocess.Popen([sys.executable, "-c", code, str(state)])
    try:
        wait_until((state / "server.json").exists)
        found = json.loads((state / "server.json").read_text())
        account = json.loads((state / "account.json").read_text())
        headers = {"Authorization": f"Bearer {account['token']}"}
        push = {
            "slug": "local/train-loop",
            "newTitle": "Train Loop",
            "text": f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n",
            "language": "python",
            "kernelType": "script",
        }
        url = f"{found['url']}/v1/kernels.KernelsApiService/SaveKernel"
        requests.post(url, json=push, headers=headers, timeout=30).raise_for_status()
        alive = state / "sessions" / "200000001.alive"
        wait_until(lambda: alive.exists() and alive.read_text())  # what keeps it has started
    finally:
        process.kill()
        process.wait()

    with LocalKaggle(state) as server:
        call = caller(server)
        assert call.status() == {"status": "RUNNING"}
        gate.touch()
        assert call.ended() == {"status": "COMPLETE"}


def test_a_full_disk_delays_the_end_of_a_session_and_loses_nothing(
    call, wait_until, full_disk, capfd, tmp_path
):
    runs, go_on = tmp_path / "runs", tmp_path / "go-on"
    call.push(
        f"import pathlib, time\npathlib.Path({str(runs)!r}).touch()\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('x' * 20_000)"
    )
    wait_until(runs.exists)
    told = []

    def has_complained():
        told.append(capfd.readouterr().err)
        return "cannot go on with its sessions" in "".join(told)

    with full_disk(5_000):
        go_on.touch()
        wait_until(has_complained)
    assert call.ended() == {"status": "COMPLETE"}
    assert call.log() == "x" * 20_000 + "\n"


def test_a_session_that_removes_its_own_folder_is_lost_and_not_started_again(call, tmp_path):
    starts = tmp_path / "starts"
    call.push(
        f"import os, shutil\nopen({str(starts)!r}, 'a').write('x')\n"
        "shutil.rmtree(os.path.dirname(os.getcwd()), ignore_errors=True)"
    )

    assert call.ended()["status"] == "ERROR"
    assert starts.read_text() == "x"


def test_strange_folders_beside_the_sessions_disturb_nobody(local, call, tmp_path):
    (tmp_path / "state" / "sessions" / "not-a-number").mkdir()
    call.push("print('hello')")

    assert call.ended() == {"status": "COMPLETE"}
