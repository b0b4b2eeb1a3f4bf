"""Canaries in every place where a secret can enter: none of them comes out anywhere.

The whole loop runs for real, through the official client, while local Kaggle echoes credentials
and signed addresses in its errors.
"""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.emulator.faults import Fault
from tests.canaries import Canaries
from tests.running import QUICK

ENVIRONMENT = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "GITHUB_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "KAGGLE_KEY"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK", "DATABASE_URL"),
)
HOME_FILES = (
    *(".kaggle/access_token", ".kaggle/kaggle.json", ".kaggle/credentials.json"),
    *(".netrc", ".ssh/id_ed25519", ".aws/credentials", ".cache/huggingface/token"),
)
TEMPLATE_FILES = (".env", "kaggle.json", "id_rsa", "secrets.py", ".git/config")
ECHOES = {  # method: status
    "SaveKernel": 503,
    "GetKernel": 500,
    "GetKernelSessionStatus": 500,
    "ListKernelSessionOutput": 403,
    "CreateDataset": 403,
    "CreateDatasetVersion": 500,
    "GetDataset": 502,
    "ListDatasetFiles": 500,
    "StartBlobUpload": 503,
    "GetAcceleratorQuotaStatistics": 500,
}


@pytest.fixture
def canaries():
    return Canaries()


@pytest.fixture
def environment(canaries, local_kaggle, point_at, tmp_path, monkeypatch):
    """An environment and a home full of secrets, with one credential that works."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir()
    for name in HOME_FILES:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canaries.plant(f"~/{name}"))
        path.chmod(0o600)
    proxy = f"http://me:{canaries.plant('proxy')}@127.0.0.1:9"
    canaries.planted[local_kaggle.token] = "the credential in use"
    secrets = {name: canaries.plant(name) for name in ENVIRONMENT}
    for name, canary in secrets.items():  # local Kaggle itself runs in this process
        monkeypatch.setenv(name, canary)
    return {
        **secrets,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        "KAGGLE_USERNAME": "somebody",
        "HOME": str(home),
        "TMPDIR": str(scratch),
        **point_at,
    }


@pytest.fixture
def project(canaries, project_folder, line_template, tmp_path):
    template = tmp_path / "template"
    shutil.copytree(line_template, template, ignore=shutil.ignore_patterns("__pycache__"))
    for name in TEMPLATE_FILES:
        (template / name).parent.mkdir(exist_ok=True)
        (template / name).write_text(canaries.plant(f"template/{name}"))
    project_folder(template=template, extra=QUICK)
    return template


def echoing(canaries, token):
    """Faults that answer with what was sent to them, as proxies and frameworks do."""
    for method, status in ECHOES.items():
        signature, upload = canaries.plant(f"URL in {method}"), canaries.plant(f"upload {method}")
        message = (
            f"failed: Authorization: Bearer {token} for"
            f" https://storage/x?X-Goog-Signature={signature}&upload_id={upload}"
        )
        body = json.dumps({"code": status, "message": message})
        yield Fault(method, "answer", nth=2 if method == "GetKernelSessionStatus" else 1,
                    status=status, body=body)  # fmt: skip


def test_no_secret_comes_out_of_a_whole_chain(kchain, project, local_kaggle, environment, canaries):
    faults = list(echoing(canaries, local_kaggle.token))
    local_kaggle.faults.add(*faults)

    done = [
        kchain("doctor", env=environment),
        kchain("run", "--sessions", 2, env=environment),
        kchain("run", "--sessions", 3, "--json", env=environment),
        *(kchain(name, env=environment) for name in ("tick", "status", "logs")),
        kchain("status", "--json", env=environment),
    ]

    assert [each.returncode for each in done[1:]] == [0] * 6, done[1].stderr
    assert all(local_kaggle.faults.fired), local_kaggle.faults.fired
    for each in done:
        assert canaries.sighted(each.stdout + each.stderr) == [], each.args
    folder = project.parent
    seen = 0
    for place in (folder / ".kchain", folder / "output", folder / "scratch"):
        for path in place.rglob("*"):
            if path.is_file():
                assert canaries.sighted(path.read_bytes()) == [], path
                seen += 1
    assert seen > 10
    assert list((folder / "scratch").iterdir()) == []  # the client's private home is gone


def test_kaggle_receives_no_secret_and_its_sessions_find_none(
    kchain, project, local_kaggle, environment, canaries
):
    parameters = "print(dict(__import__('os').environ))\n"
    line = project / "line.py"
    line.write_text(line.read_text().replace("STEPS = 10\n", f"STEPS = 10\n{parameters}"))

    done = kchain("run", "--sessions", 2, env=environment)

    assert done.returncode == 0, done.stderr
    truth = local_kaggle.state()
    sources = [version["push"]["source"] for version in truth["kernels"][0]["versions"]]
    assert len(sources) == 2
    assert canaries.sighted(json.dumps(truth)) == []
    printed = b""
    for path in (project.parent / "kaggle").rglob("*"):
        if path.is_file() and path.name != "account.json":  # where local Kaggle keeps its own
            printed += path.read_bytes()
            assert canaries.sighted(path.read_bytes()) == [], path
    assert b"JUPYTER_PLATFORM_DIRS" in printed  # the sessions did print what they know


def test_a_refused_credential_is_not_repeated(kchain, project, environment, canaries):
    wrong = f"KGAT_{canaries.plant('a wrong token')}"

    done = kchain("run", env={**environment, "KAGGLE_API_TOKEN": wrong})

    assert done.returncode == 2
    assert "KAGGLE_API_TOKEN" in done.stderr
    assert canaries.sighted(done.stdout + done.stderr) == []


@pytest.mark.parametrize("as_what", ["token", "own token", "own key", "key file"])
def test_a_secret_in_the_template_stops_the_run_before_anything_is_sent(
    kchain, project, local_kaggle, environment, as_what
):
    tmp_path = project.parent
    held = {
        "token": "KGAT_" + "0a1b2c3d" * 4,
        "own token": local_kaggle.token,
        "own key": local_kaggle.key,
        "key file": json.dumps({"username": "a", "key": "0a1b2c3d" * 4}),
    }[as_what]
    with (project / "line.py").open("a") as file:
        file.write(f"\nLOGIN = '{held}'\n")

    if as_what == "own key":  # of a shape that only its owner knows
        (tmp_path / "home" / ".kaggle" / "access_token").unlink()
        login = {"KAGGLE_USERNAME": local_kaggle.username, "KAGGLE_KEY": local_kaggle.key}
        environment = {**environment, "KAGGLE_API_TOKEN": "", **login}

    done = kchain("run", env=environment)

    assert done.returncode == 2, done.stderr
    assert "nothing was sent" in done.stderr
    assert held not in done.stdout + done.stderr
    assert local_kaggle.state()["kernels"] == []
    assert local_kaggle.state()["sessions"] == []


@pytest.mark.parametrize(
    "line", ['[kaggle]\ntoken = "{}"', '[chain]\nsessions = "{}"', '[training]\nlr = "{}"', '"{}"']
)
def test_a_secret_in_a_wrong_setting_is_not_repeated(kchain, tmp_path, canaries, line):
    canary = canaries.plant("kchain.toml")
    (tmp_path / "kchain.toml").write_text(line.format(canary) + "\n")

    done = kchain("run")

    assert done.returncode == 2
    assert canaries.sighted(done.stdout + done.stderr) == []


def test_a_dry_run_in_the_midst_of_secrets_shows_none(kchain, environment, canaries, tmp_path):
    pytest.importorskip("torch")
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    del environment["KCHAIN_KAGGLE_ENDPOINT"]

    done = kchain("run", "--dry-run", "--sessions", 2, cwd=empty, env=environment, timeout=300)

    assert done.returncode == 0, done.stderr
    assert canaries.sighted(done.stdout + done.stderr) == []
    assert list(empty.rglob("*")) == []
    leftovers = [path for path in Path(environment["TMPDIR"]).rglob("*") if path.is_file()]
    assert [path for path in leftovers if canaries.sighted(path.read_bytes())] == []
