"""Every variable that a kernel's process is given: one table, and what is left out of it.

Nothing of the host's own environment is passed on. Standard library only.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.emulator.spec import Spec

_OFFLINE = Path(__file__).with_name("offline")

# Kaggle's variables that a kernel does not find here, and why.
NOT_IMITATED: Mapping[str, str] = {
    "KAGGLE_DATA_PROXY_URL": "with it kagglehub and kagglesdk take another route, to a proxy",
    "KAGGLE_GRPC_DATA_PROXY_URL": "there is no data proxy",
    "KAGGLE_DATA_PROXY_PROJECT": "there is no data proxy",
    "KAGGLE_DATA_PROXY_TOKEN": "a credential",
    "KAGGLE_USER_SECRETS_TOKEN": "a credential",
    "KAGGLE_API_V1_TOKEN": "a credential",
    "KAGGLE_KERNEL_INTEGRATIONS": "none can be attached by a push",
    "KAGGLE_IS_COMPETITION_RERUN": "there are no competitions",
    "KAGGLE_DOCKER_IMAGE": "no image runs here",
    "BUILD_DATE": "no image runs here",
    "GIT_COMMIT": "no image runs here",
}


def kernel_environment(folder: Path, spec: Spec) -> dict[str, str]:
    """Return everything that a kernel's process knows of its surroundings."""
    home = folder / "home"
    without_internet = {
        "KCHAIN_INTERNET": "off",
        "PYTHONPATH": str(_OFFLINE),  # its sitecustomize puts other hosts out of reach
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    return {
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "MPLBACKEND": "Agg",
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(home / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter-config"),
        "JUPYTER_DATA_DIR": str(home / "jupyter-data"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter-runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # this machine's GPUs, if it has any, are not Kaggle's
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_URL_BASE": "https://www.kaggle.com",
        "KAGGLE_CONTAINER_NAME": f"kaggle_local-{spec.session_id}-webtier",
        "KCHAIN_INPUT_DIR": str(folder / "input"),
        "KCHAIN_WORKING_DIR": str(folder / "working"),
        "KCHAIN_SESSION_STARTED_AT": str(spec.started_at),
        "KCHAIN_PRETEND_GPUS": pretended(spec.gpus),
        **({} if spec.has_internet else without_internet),
    }


def pretended(gpus: tuple[str, ...]) -> str:
    """How a session is told which GPUs it is to act as if it had: `2 x Tesla T4`, or `none`."""
    return f"{len(gpus)} x {gpus[0]}" if gpus else "none"
