"""The client's own switch for a server on this machine: port 80, and nothing redirected."""

import os
import subprocess
import sys

import pytest
from filelock import FileLock

from orchestrator.emulator.server import LocalKaggle, PortTaken, Settings

NOWHERE = "http://127.0.0.1:9"  # should the client ignore its switch, it gets no further


@pytest.fixture
def on_port_80(tmp_path, tmp_path_factory):
    """A local Kaggle where the client's switch expects it."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "port-80.lock"):
        try:
            standing = LocalKaggle(tmp_path / "state", port=80, settings=Settings(queue_seconds=0))
        except PortTaken as error:
            pytest.skip(f"port 80: {os.strerror(error.errno)}")
        with standing:
            yield standing
            standing.close(kill_sessions=True)


@pytest.fixture
def plain_kaggle(on_port_80, version, client_versions, tmp_path):
    """The official command, in an environment that knows nothing of kchain."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_API_TOKEN": on_port_80.token,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "localhost,127.0.0.1",
        **client_versions[version],
    }

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "kaggle", *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_unpatched_client_pushes_polls_and_asks_for_quota(
    on_port_80, plain_kaggle, kernel_folder, slug, ref
):
    _, pushed = plain_kaggle("kernels", "push", "-p", kernel_folder())
    code, status = plain_kaggle("kernels", "status", ref)
    _, quota = plain_kaggle("quota", "--csv")
    refused, denied = plain_kaggle("kernels", "status", "local/no-such-kernel")

    assert "Kernel version 1 successfully pushed" in pushed
    assert [kernel["slug"] for kernel in on_port_80.state()["kernels"]] == [slug]
    assert (code, refused) == (0, 1)
    assert f'{ref} has status "KernelWorkerStatus.' in status
    assert "GPU,0.00h,30.00h,30.00h" in quota
    assert "Permission 'kernels.get' was denied" in denied
