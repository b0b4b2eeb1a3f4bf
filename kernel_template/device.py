"""The machine under the training: devices, precision, versions, random number generators."""

import platform
import random
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch


def choose_precision(wanted: str, *, cuda: bool) -> str:
    """On "auto": fp32 on the CPU, bf16 where the GPU has it in hardware, else fp16 with a scaler.

    Asked by compute capability: torch.cuda.is_bf16_supported() says yes on a T4, which emulates it.
    """
    if wanted != "auto":
        return wanted
    if not cuda:
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"


def read_rng() -> dict:
    numpy_state = np.random.get_state(legacy=False)["state"]
    return {
        "python": list(random.getstate()[1]),
        "numpy": {"key": numpy_state["key"].tolist(), "pos": int(numpy_state["pos"])},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(rng: dict) -> None:
    random.setstate((3, tuple(rng["python"]), None))
    key, pos = np.array(rng["numpy"]["key"], dtype=np.uint32), rng["numpy"]["pos"]
    np.random.set_state(("MT19937", key, pos))
    torch.set_rng_state(rng["torch"])
    if len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(rng["cuda"])


def device_names(*, cuda: bool) -> list[str]:
    if cuda:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return [models[0] if models else platform.machine()]


def software_versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "numpy", "tokenizers", "datasets")}
    return {"python": platform.python_version(), **packages, "cuda": str(torch.version.cuda)}
