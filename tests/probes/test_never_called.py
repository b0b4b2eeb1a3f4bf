"""C27, C32, C46, C59 and C61 cannot strike: kchain calls nothing of the client that has them."""

import ast
import sys
from pathlib import Path

import pytest

from orchestrator.kaggle import credentials
from orchestrator.kaggle.api import KaggleApi
from orchestrator.kaggle.port import PublishRequest
from tests.probes.conftest import KEY, PUSH, QUOTA
from tests.scripted import Reply, Script

KAGGLE = Path(__file__).parents[2] / "orchestrator" / "kaggle"
DATASET = "kchain-demo-checkpoints"
# Runs the real worker, and notes every function of the client that is entered.
WATCHED = """
import runpy, sys
import requests, kagglesdk.kaggle_client  # before the watch, which slows everything down
def note(frame, event, _argument, seen=set()):
    code = frame.f_code
    if code.co_filename.endswith("kaggle_api_extended.py") and code not in seen:
        seen.add(code)
        with open({path!r}, "a") as file:
            file.write(code.co_qualname + "\\n")
sys.setprofile(note)
runpy.run_module("orchestrator.kaggle.worker", run_name="__main__")
"""
# All that kchain calls of the client, itself and by what it calls.
CALLED = {
    *{"authenticate", "build_kaggle_client", "build_kaggle_client_with_params"},
    *{"get_response_processor", "get_user_agent", "_check_response_version"},
    *{"_load_config", "read_config_file", "read_config_environment"},
    # On import, which finds nothing: what it would save or delete is not there.
    *{"_authenticate_with_access_token", "_authenticate_with_legacy_apikey", "_introspect_token"},
    *{"_authenticate_with_oauth_creds", "_authenticate_anonymously", "_invoked_as_cli"},
    *{"_upload_file", "_upload_blob", "upload_complete", "_is_upload_successful"},
}
ANSWERS = {
    "GetAcceleratorQuotaStatistics": QUOTA,
    "SaveKernel": {"ref": "/code/local/kchain-demo", "versionNumber": 1},
    "CreateDataset": {"status": "Ok"},
    "CreateDatasetVersion": {"status": "Ok"},
    "GetKernel": {"metadata": {"currentVersionNumber": 1}, "blob": {"source": "text"}},
    "GetKernelSessionStatus": {"status": "RUNNING"},
    "ListKernelSessionOutput": {"files": [{"fileName": "a", "url": "u"}], "log": "[]"},
    "GetKernelSessionLogsStream": [],
    "GetDataset": {"currentVersionNumber": 1, "isPrivate": True},
    "GetDatasetStatus": {"status": "READY"},
    "ListDatasetFiles": {"datasetFiles": [{"name": "a"}]},
}


@pytest.fixture(scope="module")
def chain_of_calls(module_server, command, tmp_path_factory):
    """Call every verb of the worker once; give the client's functions that ran, and the bodies."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "a.pt").write_bytes(b"a")
    module_server.script = Script()
    for name, body in ANSWERS.items():
        module_server.script.on(name, Reply(200, body))
    upload = {"token": "blob", "createUrl": f"{module_server.url}/upload"}
    signed = Reply(302, b"", {"Location": f"{module_server.url}/signed"})
    module_server.script.on("DownloadDataset", Reply(200, {"manifest": 1}), signed)
    module_server.script.on("signed", Reply(200))
    module_server.script.on("StartBlobUpload", Reply(200, upload))
    module_server.script.on("upload", Reply(200))
    watched = [sys.executable, "-c", WATCHED.format(path=str(folder / "seen"))]
    request = PublishRequest(DATASET, DATASET, folder, ("a.pt",), "kchain")
    credential = credentials.from_key("local", KEY, "the test")
    with KaggleApi(module_server.url, credential, command=[*command[:-3], *watched]) as kaggle:
        told = {
            "identity": kaggle.identity(),
            "quota": kaggle.quota(),
            "push": kaggle.push(PUSH),
            "create_dataset": kaggle.create_dataset(request),
            "publish_version": kaggle.publish_version(request),
            "kernel": kaggle.kernel("kchain-demo", 1),
            "session": kaggle.session("kchain-demo", 1),
            "outputs": kaggle.outputs("kchain-demo", 1),
            "log": kaggle.log("kchain-demo", 1),
            "dataset": kaggle.dataset(DATASET),
            "dataset_files": kaggle.dataset_files(DATASET, 1),
            "dataset_file": kaggle.dataset_file(DATASET, 1, "manifest.json", 100),
            "dataset_address": kaggle.dataset_address(DATASET, 1, "model.pt"),
            "follow": list(kaggle.follow("kchain-demo", 1)),
        }
    seen = (folder / "seen").read_text().splitlines()
    return told, {name.removeprefix("KaggleApi.") for name in seen if name.startswith("KaggleApi.")}


@pytest.fixture
def called(chain_of_calls):
    """The client's functions that ran while every verb was called and answered well."""
    told, names = chain_of_calls
    assert not [verb for verb, answer in told.items() if hasattr(answer, "message")], told
    assert set(told) == verbs_of_the_worker()
    assert {"authenticate", "_upload_file"} <= names, "the watch saw nothing"
    return names


def verbs_of_the_worker():
    tree = ast.parse((KAGGLE / "client.py").read_text())
    (client,) = (node for node in tree.body if getattr(node, "name", "") == "Client")
    functions = [node.name for node in client.body if isinstance(node, ast.FunctionDef)]
    return {name for name in functions if not name.startswith("_")}


def names_in_the_code():
    """Every attribute and every name that the client's side of kchain mentions."""
    for path in KAGGLE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            yield getattr(node, "attr", None) or getattr(node, "id", None)


def test_nothing_is_called_but_what_is_listed(called):
    inner = {name for name in called if "<" in name}  # functions within functions

    assert called - inner - CALLED == set()


def test_c27_nothing_is_pushed_from_a_folder(called):
    assert "kernels_push" not in {*called, *names_in_the_code()}


def test_c32_nothing_is_pulled(called):
    assert "kernels_pull" not in {*called, *names_in_the_code()}


def test_c46_nothing_is_downloaded_or_unzipped_by_the_client(called):
    names = {*called, *names_in_the_code()}

    assert names.isdisjoint({"dataset_download_files", "dataset_download_file", "kernels_output"})
    assert names.isdisjoint({"download_file", "extractall", "unzip"})


def test_c59_the_client_does_not_look_whether_a_dataset_exists(called):
    assert {*called, *names_in_the_code()}.isdisjoint({"dataset_create_new", "dataset_status"})


def test_c61_no_old_version_is_deleted(called, kaggle, uploads, on, asked, publication):
    uploads()
    on("CreateDatasetVersion", (200, {"status": "Ok"}))

    kaggle.publish_version(publication())

    (body,) = asked("CreateDatasetVersion")
    assert not body["body"].get("deleteOldVersions")
    assert "dataset_create_version" not in called
    assert not [name for name in called if "delete" in name]
