"""What a kernel is given, how it is run, and what is kept of it."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.emulator import environment, runner
from orchestrator.emulator.spec import Spec

LOOK_AROUND = """
import json, os, sys
from pathlib import Path
inputs = Path(os.environ["KCHAIN_INPUT_DIR"])
found = {p.relative_to(inputs).as_posix(): p.read_text() for p in inputs.rglob("*") if p.is_file()}
opened = [os.readlink(p) for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]
Path("seen.json").write_text(json.dumps({
    "files": found,
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "arguments": sys.argv,
    "opened": opened,
    "parents": Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(),
    "python": sys.executable,
    "is_ipython": "IPython" in sys.modules,
    "file": globals().get("__file__"),
}))
Path("sub/deep").mkdir(parents=True)
Path("sub/deep/out.bin").write_bytes(b"out")
print("to stdout")
print("to stderr", file=sys.stderr)
"""
CANARIES = (
    "AWS_SECRET_ACCESS_KEY",
    "HF_TOKEN",
    "HTTPS_PROXY",
    "KAGGLE_API_TOKEN",
    "KAGGLE_DATA_PROXY_URL",
    "KAGGLE_KEY",
    "KAGGLE_USERNAME",
    "KCHAIN_PARAMETERS",
    "LD_PRELOAD",
    "PYTHONSTARTUP",
    "PYTHONPATH",
    "SSH_AUTH_SOCK",
    "WANDB_API_KEY",
)
SET_BY_JUPYTER = {  # by papermill and ipykernel, in a notebook's interpreter
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "GIT_PAGER",
    "JPY_PARENT_PID",
    "JPY_SESSION_NAME",
    "PAGER",
    "PYDEVD_USE_FRAME_EVAL",
    "TERM",
}
KAGGLES_VARIABLES = {  # all that are known
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_URL_BASE",
    "KAGGLE_CONTAINER_NAME",
    "KAGGLE_DOCKER_IMAGE",
    "KAGGLE_USER_SECRETS_TOKEN",
    "KAGGLE_DATA_PROXY_TOKEN",
    "KAGGLE_DATA_PROXY_URL",
    "KAGGLE_DATA_PROXY_PROJECT",
    "KAGGLE_GRPC_DATA_PROXY_URL",
    "KAGGLE_KERNEL_INTEGRATIONS",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_IS_COMPETITION_RERUN",
    "BUILD_DATE",
    "GIT_COMMIT",
}
PAGE = Path(__file__).parents[2] / "docs" / "local-kaggle.md"


def given(**fields):
    spec = Spec(1, "script.py", "script", "python", 60.0, 0.0, **fields)
    return environment.kernel_environment(Path("/session"), spec)


@pytest.mark.parametrize(
    ("layout", "dataset", "kernel"),
    [
        ("old", "my-data/", "producer/"),
        ("new", "datasets/local/my-data/", "notebooks/local/producer/"),
    ],
)
def test_a_script_runs_with_its_inputs_mounted(start, layout, dataset, kernel):
    _, call = start(layout=layout)
    call.create_dataset({"a.txt": b"data"})
    call.push("print('<hello>'); open('out.txt', 'w').write('made')", slug="producer")
    call.ended("producer")

    call.push(
        LOOK_AROUND, datasetDataSources=["local/my-data"], kernelDataSources=["local/producer"]
    )
    assert call.ended() == {"status": "COMPLETE"}

    outputs = call.outputs()
    files = json.loads(outputs["seen.json"])["files"]
    assert files[f"{dataset}a.txt"] == "data"
    assert files[f"{kernel}out.txt"] == "made"
    assert outputs["sub/deep/out.bin"] == b"out"
    assert "to stdout\n" in call.log()
    assert "to stderr\n" in call.log()


def test_a_session_is_told_where_kaggle_is_and_not_of_its_proxy(call):
    call.push("import json, os; json.dump(dict(os.environ), open('env.json', 'w'))")
    call.ended()

    seen = json.loads(call.outputs()["env.json"])
    assert seen["KAGGLE_URL_BASE"] == "https://www.kaggle.com"
    assert re.fullmatch(r"kaggle_\w+-\d+-webtier", seen["KAGGLE_CONTAINER_NAME"])
    assert "KAGGLE_DATA_PROXY_URL" not in seen  # with it the clients would leave the API


def test_a_script_is_run_as_python_runs_a_file(call):
    call.push(LOOK_AROUND)
    call.ended()

    seen = json.loads(call.outputs()["seen.json"])
    assert seen["python"] == sys.executable
    assert Path(seen["cwd"]).name == "working"
    assert Path(seen["file"]).name == "script.py"
    assert Path(seen["file"]).parent.name == "src"
    assert seen["arguments"] == [seen["file"]]
    assert not seen["is_ipython"]


def test_a_mounted_script_output_holds_kaggles_own_files_and_its_listing_does_not(start):
    _, call = start(layout="old")
    source = "print('<hello>'); open('custom.css', 'w').write('mine')"
    call.push(source, slug="producer")
    call.ended("producer")
    assert list(call.outputs("producer")) == ["custom.css"]

    call.push(LOOK_AROUND, kernelDataSources=["local/producer"])
    call.ended()

    files = json.loads(call.outputs()["seen.json"])["files"]
    names = {"__output__.json", "__results__.html", "__script__.ipynb", "__script__.py"}
    assert {name.removeprefix("producer/") for name in files} == {*names, "custom.css"}
    assert files["producer/__script__.py"] == source
    assert files["producer/custom.css"] == "mine"
    assert json.loads(files["producer/__output__.json"])[0]["data"] == "<hello>\n"
    assert "&lt;hello&gt;" in files["producer/__results__.html"]
    assert json.loads(files["producer/__script__.ipynb"])["cells"][0]["source"] == source


def test_a_mounted_notebook_output_holds_the_executed_notebook(start, notebook):
    _, call = start(layout="old")
    call.push(notebook("print(6 * 7)"), slug="producer", kernelType="notebook")
    call.ended("producer")
    call.push(LOOK_AROUND, kernelDataSources=["local/producer"])
    call.ended()

    files = json.loads(call.outputs()["seen.json"])["files"]
    names = {"__notebook__.ipynb", "__output__.json", "__results__.html", "custom.css"}
    assert {name.removeprefix("producer/") for name in files} == names
    executed = json.loads(files["producer/__notebook__.ipynb"])
    assert executed["cells"][0]["outputs"][0]["text"] in ("42\n", ["42\n"])


def test_a_script_sees_exactly_the_variables_of_the_table(start, monkeypatch):
    for name in CANARIES:
        monkeypatch.setenv(name, "canary")
    server, call = start()
    before = time.time()

    call.push(LOOK_AROUND)
    call.ended()

    seen = json.loads(call.outputs()["seen.json"])
    variables = seen["environment"]
    assert set(variables) == set(given())
    assert "canary" not in variables.values()
    assert "canary" not in seen["parents"]  # a child may read it, too
    for secret in (server.token, server.key):
        assert secret not in str(seen)
    assert variables["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert "200000001" in variables["KAGGLE_CONTAINER_NAME"]
    assert before <= float(variables["KCHAIN_SESSION_STARTED_AT"]) <= time.time()
    assert variables["HOME"] != os.environ.get("HOME")


def test_a_notebook_sees_the_same_variables_and_jupyters(start, notebook, monkeypatch):
    for name in CANARIES:
        monkeypatch.setenv(name, "canary")
    _, call = start()

    call.push(notebook(LOOK_AROUND), kernelType="notebook")
    call.ended()

    variables = json.loads(call.outputs()["seen.json"])["environment"]
    assert set(given()) <= set(variables) <= set(given()) | SET_BY_JUPYTER
    assert "canary" not in variables.values()


def test_a_kernel_inherits_no_open_file_of_the_server(call, tmp_path):
    call.push(LOOK_AROUND)
    call.ended()

    opened = json.loads(call.outputs()["seen.json"])["opened"]
    assert opened
    assert not [name for name in opened if str(tmp_path / "state") in name]


def test_every_variable_of_kaggle_is_set_or_said_not_to_be():
    variables = set(given(has_internet=True)) | set(given())

    assert variables.isdisjoint(environment.NOT_IMITATED)
    assert variables | set(environment.NOT_IMITATED) >= KAGGLES_VARIABLES
    assert set(environment.NOT_IMITATED) <= KAGGLES_VARIABLES


def test_the_page_names_every_variable():
    page = PAGE.read_text(encoding="utf-8")

    names = {*given(), *environment.NOT_IMITATED}
    assert {name for name in names if f"`{name}" not in page} == set()


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


def test_other_languages_cannot_run_here(call):
    call.push("cat(1)", language="r")

    assert call.ended()["status"] == "ERROR"
    assert "runs Python only" in call.log()


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


def test_a_session_that_cannot_be_launched_is_an_error_that_says_why(call, tmp_path):
    call.create_dataset({"a.txt": b"data"})
    for blob in (tmp_path / "state" / "blobs").iterdir():
        blob.unlink()

    call.push("pass", datasetDataSources=["local/my-data"])

    assert call.ended() == {"status": "ERROR"}
    assert "Local Kaggle could not start it" in call.log()
