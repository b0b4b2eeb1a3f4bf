import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from orchestrator.emulator import runner
from orchestrator.emulator.server import LocalKaggle, Settings

LOOK_AROUND = """
import json, os, sys
from pathlib import Path
inputs = Path(os.environ["KCHAIN_INPUT_DIR"])
found = {p.relative_to(inputs).as_posix(): p.read_text() for p in inputs.rglob("*") if p.is_file()}
Path("seen.json").write_text(json.dumps({
    "files": found,
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "python": sys.executable,
    "file": __file__,
}))
Path("sub/deep").mkdir(parents=True)
Path("sub/deep/out.bin").write_bytes(b"out")
print("to stdout")
print("to stderr", file=sys.stderr)
"""

KNOWN = {
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PYTHONUTF8",
    "HOME",
    "TMPDIR",
    "MPLBACKEND",
    "IPYTHONDIR",
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTER_PLATFORM_DIRS",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_URL_BASE",
    "KAGGLE_CONTAINER_NAME",
    "KCHAIN_INPUT_DIR",
    "KCHAIN_WORKING_DIR",
    "KCHAIN_SESSION_STARTED_AT",
}


@pytest.fixture
def start(tmp_path, quick, caller):
    """Start servers on one state folder, one after the other."""
    started = []

    def start_one(**settings):
        server = LocalKaggle(
            tmp_path / "state", settings=Settings(**{**quick.to_json(), **settings})
        )
        started.append(server)
        return server, caller(server)

    yield start_one
    for server in started:
        server.close(kill_sessions=True)


@pytest.mark.parametrize(
    ("layout", "dataset", "kernel"),
    [
        ("old", "my-data/a.txt", "producer/out.txt"),
        ("new", "datasets/local/my-data/a.txt", "notebooks/local/producer/out.txt"),
    ],
)
def test_a_script_runs_with_its_inputs_mounted(start, layout, dataset, kernel):
    _, call = start(layout=layout)
    call.create_dataset({"a.txt": b"data"})
    call.push("open('out.txt', 'w').write('made')", slug="producer")
    call.ended("producer")

    call.push(
        LOOK_AROUND, datasetDataSources=["local/my-data"], kernelDataSources=["local/producer"]
    )
    assert call.ended() == {"status": "COMPLETE"}

    outputs = call.outputs()
    seen = json.loads(outputs["seen.json"])
    assert seen["files"] == {dataset: "data", kernel: "made"}
    assert seen["python"] == sys.executable
    assert Path(seen["cwd"]).name == "working"
    assert Path(seen["file"]).name == "script.py"
    assert outputs["sub/deep/out.bin"] == b"out"
    assert "to stdout\n" in call.log()
    assert "to stderr\n" in call.log()


def test_a_kernel_knows_nothing_of_its_host(start, monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    monkeypatch.setenv("SOMETHING_ELSE", "secret")
    server, call = start()
    before = time.time()

    call.push(LOOK_AROUND)
    call.ended()

    environment = json.loads(call.outputs()["seen.json"])["environment"]
    assert "secret" not in environment.values()
    assert server.token not in str(environment)
    assert environment["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "200000001" in environment["KAGGLE_CONTAINER_NAME"]
    assert before <= float(environment["KCHAIN_SESSION_STARTED_AT"]) <= time.time()
    assert environment["HOME"] != os.environ.get("HOME")
    assert set(environment) <= KNOWN


def test_a_notebook_runs_with_its_outputs_logged_and_kept(call, notebook):
    call.push(
        notebook(
            "import os, sys\nprint('from', sys.executable)",
            "open('model.bin', 'w').write('weights')\nprint('done', file=sys.stderr)",
        ),
        kernelType="notebook",
    )
    assert call.ended() == {"status": "COMPLETE"}

    outputs = call.outputs()
    assert outputs["model.bin"] == b"weights"
    executed = json.loads(outputs["__notebook__.ipynb"])
    assert executed["cells"][0]["outputs"][0]["text"]
    assert f"from {sys.executable}\n" in call.log()
    assert "done\n" in call.log()


def test_a_notebook_that_raises_is_an_error_that_keeps_its_outputs(call, notebook):
    call.push(
        notebook("open('half.bin', 'w').write('half')", "raise ValueError('boom')"),
        kernelType="notebook",
    )

    assert call.ended()["status"] == "ERROR"
    assert call.outputs()["half.bin"] == b"half"
    assert 'Exception encountered at "In [2]"' in call.log()
    assert "ValueError: boom" in call.log()


def test_a_notebook_without_a_kernel_name_cannot_start(call, notebook):
    call.push(notebook("pass", kernelspec=False), kernelType="notebook")

    assert call.ended()["status"] == "ERROR"
    assert "No kernel name found in notebook and no override provided" in call.log()


def test_a_script_that_fails_is_an_error_that_keeps_its_outputs(call):
    call.push("open('half.bin', 'w').write('half')\nraise SystemExit(3)")

    assert call.ended() == {"status": "ERROR"}
    assert call.outputs() == {"half.bin": b"half"}


def test_a_killed_process_is_out_of_memory_and_loses_its_outputs(call):
    call.push("import os\nopen('half.bin', 'w').write('half')\nos.kill(os.getpid(), 9)")

    ended = call.ended()
    assert ended["status"] == "ERROR"
    assert "more memory than is available" in ended["failureMessage"]
    assert call.outputs() == {}


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
escaped = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("escaped.pid", "w").write(str(escaped.pid))
print("started", flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_at_the_time_limit_everything_is_killed_and_outputs_are_kept(call):
    call.push(STUBBORN, sessionTimeoutSeconds=3)

    ended = call.ended()
    assert ended["status"] == "CANCEL_ACKNOWLEDGED"
    assert "exceeded the max allowed execution duration" in ended["failureMessage"]
    assert "started\n" in call.log()
    assert not is_running(int(call.outputs()["escaped.pid"]))


def test_a_notebooks_interpreter_dies_with_its_session(start, notebook, wait_until, tmp_path):
    server, call = start()
    source = "import os, time\nopen('own.pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    call.push(notebook(source), kernelType="notebook")
    own = tmp_path / "state" / "sessions" / "200000001" / "working" / "own.pid"
    pid = int(wait_until(lambda: own.exists() and own.read_text()))

    server.close(kill_sessions=True)

    assert not is_running(pid)


def test_a_missing_notebook_runner_is_named():
    script = Path(runner.__file__).with_name("notebook.py")

    result = subprocess.run(
        [sys.executable, "-S", str(script), "a.ipynb", "b.ipynb"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert result.returncode == 1
    assert 'pip install "kchain[train]"' in result.stderr


def test_a_session_that_cannot_be_launched_is_an_error_that_says_why(call, tmp_path):
    call.create_dataset({"a.txt": b"data"})
    for blob in (tmp_path / "state" / "blobs").iterdir():
        blob.unlink()

    call.push("pass", datasetDataSources=["local/my-data"])

    assert call.ended() == {"status": "ERROR"}
    assert "Local Kaggle could not start it" in call.log()


def test_while_running_outputs_and_log_are_empty_and_the_stream_is_live(local, call, wait_until):
    call.push("import time\nprint('one', flush=True)\nopen('a', 'w')\ntime.sleep(600)")
    url = f"{local.url}/api/v1/kernels/logs/stream/local/train-loop?versionLabel=v1"

    for _ in range(2):  # every connection starts from the beginning
        with requests.get(url, headers=call.headers, stream=True, timeout=30) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            line = next(stream.iter_lines())
        entry = json.loads(line.removeprefix(b"data: "))
        assert (entry["stream_name"], entry["data"]) == ("stdout", "one\n")
    assert call.status() == {"status": "RUNNING"}
    assert call.listing() == {}


def test_a_stream_ends_with_the_session_and_is_json_afterwards(local, call, wait_until):
    call.push("import time\nprint('one', flush=True)\ntime.sleep(0.5)\nprint('two')")
    wait_until(lambda: call.status() == {"status": "RUNNING"})

    live = call.post(
        "KernelsApiService/GetKernelSessionLogsStream", userName="local", kernelSlug="train-loop"
    )
    call.ended()
    after = requests.get(
        f"{local.url}/v1/kernels/logs/stream/local/train-loop", headers=call.headers, timeout=30
    )

    lines = [line for line in live.text.splitlines() if line]
    assert [json.loads(line[6:])["data"] for line in lines[:-1]] == ["one\n", "two\n"]
    assert lines[-1] == "data: END_OF_LOG"
    assert after.headers["Content-Type"] == "application/json"
    assert [entry["data"] for entry in after.json()] == ["one\n", "two\n"]


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


def test_a_session_whose_supervisor_vanished_is_an_error(local, call, wait_until, tmp_path):
    call.push("import time; open('a', 'w'); time.sleep(600)")
    folder = tmp_path / "state" / "sessions" / "200000001"
    wait_until((folder / "working" / "a").exists)

    os.kill(int((folder / "supervisor.pid").read_text()), signal.SIGKILL)

    assert call.ended() == {"status": "ERROR"}
    assert call.outputs() == {}


def test_closing_can_cancel_what_runs(start, wait_until, tmp_path):
    server, call = start()
    call.push(STUBBORN)
    escaped = tmp_path / "state" / "sessions" / "200000001" / "working" / "escaped.pid"
    pid = int(wait_until(lambda: escaped.exists() and escaped.read_text()))

    server.close(kill_sessions=True)

    server, call = start()
    assert call.status() == {"status": "CANCEL_ACKNOWLEDGED"}
    assert not is_running(pid)


def test_a_server_killed_outright_loses_nothing(tmp_path, caller, wait_until):
    """Kill a whole server process while a session runs, and go on with another."""
    code = (
        "import sys; from pathlib import Path\n"
        "from orchestrator.emulator.server import LocalKaggle, Settings\n"
        "LocalKaggle(Path(sys.argv[1]), settings=Settings(queue_seconds=0))\n"
    )
    state = tmp_path / "state"
    gate = tmp_path / "gate"
    process = subprocess.Popen([sys.executable, "-c", code, str(state)])
    try:
        wait_until((state / "server.json").exists)
        found = wait_until(lambda: json.loads((state / "server.json").read_text() or "null"))
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
        wait_until((state / "sessions" / "200000001" / "supervisor.pid").exists)
    finally:
        process.kill()
        process.wait()

    with LocalKaggle(state) as server:
        call = caller(server)
        assert call.status() == {"status": "RUNNING"}
        gate.touch()
        assert call.ended() == {"status": "COMPLETE"}


def test_other_languages_cannot_run_here(call):
    call.push("cat(1)", language="r")

    assert call.ended()["status"] == "ERROR"
    assert "runs Python only" in call.log()


def test_output_without_a_newline_is_logged_all_the_same(call):
    call.push("import sys; sys.stdout.write('no newline'); sys.stdout.buffer.write(b'\\xff')")
    call.ended()

    assert call.log() == "no newline\ufffd"


def test_inputs_are_mounted_read_only(call):
    call.create_dataset({"a.txt": b"data"})
    call.push(
        "import os, stat\nfrom pathlib import Path\n"
        "[a] = Path(os.environ['KCHAIN_INPUT_DIR']).rglob('a.txt')\n"
        "print([stat.S_IMODE(p.stat().st_mode) & 0o222 for p in (a, a.parent)])",
        datasetDataSources=["local/my-data"],
    )
    call.ended()

    assert call.log() == "[0, 0]\n"
