"""The machine that a session gets: pure rules from what was pushed.

Only the two T4s were measured; the other shapes are not open to free accounts, and their
counts and names are those of the hardware.
"""

from collections.abc import Mapping

from orchestrator.emulator.records import Accelerator, Machine, Push
from orchestrator.emulator.settings import Settings

GPUS_OF_SHAPE: Mapping[str, tuple[str, ...]] = {
    "NvidiaTeslaP100": ("Tesla P100-PCIE-16GB",),
    "NvidiaTeslaT4": ("Tesla T4",) * 2,
    "NvidiaTeslaT4Highmem": ("Tesla T4",) * 2,
    "NvidiaTeslaA100": ("NVIDIA A100-SXM4-40GB",),
    "NvidiaL4": ("NVIDIA L4",) * 4,
    "NvidiaL4X1": ("NVIDIA L4",),
    "NvidiaH100": ("NVIDIA H100 80GB HBM3",),
    "NvidiaRtxPro6000": ("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
}


def machine_for(push: Push, accelerator: Accelerator, settings: Settings) -> Machine:
    """What a session of this accelerator gets, which is not always what its push asked for."""
    gpus = _gpus_asked_for(push) if accelerator is Accelerator.GPU else ()
    if gpus and settings.gpus_instead is not None:
        gpus = settings.gpus_instead
    return Machine(
        gpus=gpus,
        has_internet=push.enable_internet and settings.internet,
        memory_limit_bytes=settings.memory_limit_bytes,
        output_limit_bytes=settings.output_limit_bytes,
    )


def _gpus_asked_for(push: Push) -> tuple[str, ...]:
    if push.machine_shape and push.machine_shape != "None":
        return GPUS_OF_SHAPE.get(push.machine_shape, ())
    return GPUS_OF_SHAPE["NvidiaTeslaT4"] if push.enable_gpu else ()
