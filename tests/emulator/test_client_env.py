import subprocess
import sys
import time

import pytest

from orchestrator.emulator.client_env import REDIRECT, client_environment

CONNECT = "import socket; socket.create_connection(({host!r}, 443), timeout=5)"
SENDTO = (
    "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ({host!r}, 53))"
)


@pytest.mark.parametrize(
    ("code", "host"), [(CONNECT, "api.kaggle.com"), (CONNECT, "192.0.2.1"), (SENDTO, "192.0.2.1")]
)
def test_a_client_cannot_leave_the_machine(standing, in_client, code, host):
    result = in_client(standing, "-c", code.format(host=host))

    assert result.returncode != 0
    assert "refused: this process may only talk to local Kaggle" in result.stderr


@pytest.mark.parametrize("environment", ["PROD", "LOCAL", "TEST", "STAGING"])
def test_every_environment_of_the_sdk_leads_to_the_local_server(standing, in_client, environment):
    code = (
        "from kagglesdk.kaggle_env import KaggleEnv, get_endpoint\n"
        f"print(get_endpoint(KaggleEnv.{environment}))"
    )

    assert in_client(standing, "-c", code).stdout.strip() == standing.url


def test_kagglesdk_alone_talks_to_the_local_server(standing, in_client):
    code = (
        "from kagglesdk import KaggleClient\n"
        "from kagglesdk.kernels.types.kernels_api_service import "
        "ApiGetAcceleratorQuotaStatisticsRequest as Request\n"
        "api = KaggleClient().kernels.kernels_api_client\n"
        "print(api.get_accelerator_quota_statistics(Request()).gpu_quota.total_time_allowed)"
    )

    assert in_client(standing, "-c", code).stdout.strip() == "1 day, 6:00:00"


def test_importing_kaggle_authenticates_against_the_local_server(standing, in_client):
    code = "import kaggle; print(kaggle.api.config_values['username'])"

    assert in_client(standing, "-c", code).stdout.strip() == "local"


def test_python_starts_without_kagglesdk_and_without_importing_anything_of_it(tmp_path):
    environment = client_environment("http://127.0.0.1:9", "t", tmp_path)
    code = "import sys; print(sorted(m for m in sys.modules if m.startswith('kaggle')))"

    result = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(REDIRECT)!r})\n"
         f"import sitecustomize\n{code}"],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    assert result.stdout.strip() == "[]"


def test_an_unknown_kagglesdk_is_refused_rather_than_used(tmp_path):
    (tmp_path / "kagglesdk").mkdir()
    (tmp_path / "kagglesdk" / "__init__.py").touch()
    (tmp_path / "kagglesdk" / "kaggle_env.py").write_text("ENDPOINT = 'https://api.kaggle.com'")

    result = subprocess.run(
        [sys.executable, "-c", "import kagglesdk.kaggle_env"],
        cwd=tmp_path,
        env=client_environment("http://127.0.0.1:9", "t", tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert "cannot be sent to local Kaggle" in result.stderr


def test_nothing_happens_where_no_endpoint_is_named(tmp_path):
    environment = client_environment("http://127.0.0.1:9", "t", tmp_path)
    del environment["KCHAIN_KAGGLE_ENDPOINT"]
    code = "from kagglesdk.kaggle_env import KaggleEnv, get_endpoint; print(get_endpoint(KaggleEnv.PROD))"

    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    assert result.stdout.strip() == "https://api.kaggle.com"


def test_importing_the_server_is_quick_and_brings_no_client_and_no_torch():
    code = (
        "import time; began = time.process_time()\n"  # the machine may be busy
        "import orchestrator.emulator.server\n"
        "import sys; took = time.process_time() - began\n"
        "print(took, [m for m in ('torch', 'kaggle', 'kagglesdk') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, _, modules = result.stdout.partition(" ")

    assert float(seconds) < 1.0
    assert modules.strip() == "[]"


def test_the_environment_brings_a_home_of_its_own(tmp_path):
    began = time.time()
    environment = client_environment("http://127.0.0.1:9", "t", tmp_path / "home")

    assert environment["HOME"] == str(tmp_path / "home")
    assert (tmp_path / "home" / "tmp").stat().st_mtime >= began - 1
