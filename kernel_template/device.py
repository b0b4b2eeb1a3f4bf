"""The machine under the training: processes, devices, precision, versions, random numbers."""

import os
import platform
import random
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

THREADS = 2  # on the CPU, all processes together; fixed: another number gives other last bits


def join_processes(*, cuda: bool) -> tuple[int, int]:
    """This process's rank and how many there are: torchrun says both, without it there is one."""
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        if cuda:
            torch.cuda.set_device(rank)  # one machine: the rank is the GPU's number
        backend = "nccl" if cuda else "gloo"
        torch.distributed.init_process_group(backend, timeout=timedelta(minutes=10))
    return rank, processes


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


def read_fingerprint(device: torch.device, **choices) -> dict:
    """What the last bits depend on: equal fingerprints compute equal bits from equal states."""
    cuda = device.type == "cuda"
    return {
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "device": device_names(cuda=cuda)[0],
        "vector": "cuda" if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **choices,
    }
