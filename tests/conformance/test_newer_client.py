"""The newer client in short: what it does otherwise. `make prove` runs every test with it."""

import json

import pytest

NEWER = "2.2.5"


@pytest.fixture(scope="module")
def version():
    return NEWER


def test_the_newer_client_works_and_asks_for_versions(
    kaggle, kernel_folder, ended, ref, slug, tmp_path
):
    kaggle("kernels", "push", "-p", kernel_folder("print('first')\nopen('a', 'w').write('1')"))
    ended(slug)
    folder = kernel_folder("print('second')\nraise SystemExit(1)")
    pushed, followed = kaggle.all(
        ["kernels", "push", "-p", folder], ["kernels", "logs", "-f", f"{ref}/1"]
    )
    ended(slug, 2)

    called, saved, status, logs, _, _, quota = kaggle.all(
        ["--version"],
        ["kernels", "push", "-p", folder, "--no-run"],
        ["kernels", "status", f"{ref}/2"],
        ["kernels", "logs", f"{ref}/1"],
        ["kernels", "output", f"{ref}/1", "-p", tmp_path / "out"],
        ["kernels", "pull", f"{ref}/1", "-p", tmp_path / "pulled"],
        ["quota", "--format", "json"],
    )

    assert called.strip() == f"Kaggle CLI {NEWER}"
    assert "Kernel version 2 successfully pushed" in pushed
    assert followed == "first\n"
    assert "Kernel version 3 successfully saved without running" in saved
    assert "KernelWorkerStatus.ERROR" in status
    assert json.loads(logs)[0]["data"] == "first\n"
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert "first" in (tmp_path / "pulled" / f"{slug}.py").read_text()
    assert json.loads(quota)[0]["refreshAt"].endswith("T00:00:00+00:00")
