"""The machine a session gets: GPUs to pretend, internet, and what the real template makes of it."""

import json
import os
import socket

import pytest

from orchestrator import kernel
from orchestrator.emulator import environment
from orchestrator.emulator.kernels import accelerator_of
from orchestrator.emulator.machines import GPUS_OF_SHAPE, machine_for
from orchestrator.emulator.records import Accelerator
from orchestrator.emulator.settings import Settings

T4 = "NvidiaTeslaT4"
TWO_T4 = {"kind": "gpu", "count": 2, "name": "T4"}
TINY = {"n_layer": 1, "n_head": 2, "d_model": 32, "vocab_size": 320, "batch_size": 40}
STEPS = {"max_steps": 2, "warmup_steps": 1, "evaluation_steps": 2, "evaluation_blocks": 2}


@pytest.fixture(scope="session")
def template():
    """The rendered kernel template of a tiny training that expects two T4s."""
    return kernel.render(
        {
            "contract": 1,
            "chain": "tiny",
            "session": 1,
            "attempt": 1,
            "token": "kc1." + "b" * 26,
            "parent": None,
            "time_budget_seconds": 600,
            "sessions_planned": 1,
            "training": {"preset": "rehearsal", "overrides": {**TINY, **STEPS}},
            "accelerator": TWO_T4,
        }
    )


def machine(push, **settings):
    return machine_for(push, accelerator_of(push), Settings(**settings))


def verdict(call):
    return json.loads(call.outputs()["session.json"])


def test_the_template_trains_on_two_pretended_t4s_and_gpu_quota_is_used(local, call, template):
    call.push(template, kernelType="notebook", machineShape=T4)

    assert call.ended() == {"status": "COMPLETE"}
    assert verdict(call)["outcome"] == "complete", call.log()
    assert "GPUs: Tesla T4, Tesla T4\n" in call.log()
    assert "2 process(es)" in call.log()
    assert verdict(call)["devices"]["kind"] == "cpu"  # that is what computed
    gpu = call.kernels("GetAcceleratorQuotaStatistics")["gpuQuota"]
    assert float(gpu["timeUsed"].removesuffix("s")) > 0


@pytest.mark.parametrize(
    ("settings", "here"),
    [
        ({"gpus_instead": ()}, "none; in the notebook's settings the accelerator may be off"),
        ({"gpus_instead": ("Tesla T4",)}, "Tesla T4"),
    ],
    ids=["silently a CPU", "one of two"],
)
def test_the_template_refuses_another_accelerator_at_once(start, template, settings, here):
    server, call = start(**settings)
    call.push(template, kernelType="notebook", machineShape=T4)

    assert call.ended() == {"status": "COMPLETE"}
    found = verdict(call)
    assert (found["outcome"], found["reason"]) == ("refused", "accelerator_mismatch")
    assert call.kernels("GetAcceleratorQuotaStatistics")["gpuQuota"]["timeUsed"]
    assert found["detail"].startswith(f"expected 2 x T4, here: {here}")
    [session] = server.state()["sessions"]
    assert session["ended_at"] - session["started_at"] < 60


@pytest.mark.parametrize("shape", [*GPUS_OF_SHAPE, "TpuV38", "None", ""])
def test_each_shape_has_its_gpus(push, shape):
    gpus = machine(push(machine_shape=shape)).gpus

    assert gpus == GPUS_OF_SHAPE.get(shape, ())
    assert environment.pretended(GPUS_OF_SHAPE[T4]) == "2 x Tesla T4"


def test_a_gpu_without_a_shape_is_the_two_t4s(push):
    assert machine(push(enable_gpu=True)).gpus == ("Tesla T4", "Tesla T4")


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ({"gpus_instead": ()}, ()),
        ({"gpus_instead": ("Tesla P100-PCIE-16GB",)}, ("Tesla P100-PCIE-16GB",)),
    ],
)
def test_a_gpu_session_may_get_something_else_and_a_cpu_session_never_does(push, settings, gpus):
    assert machine(push(machine_shape=T4), **settings).gpus == gpus
    assert machine(push(), **settings).gpus == ()


def test_a_session_that_was_given_a_cpu_has_no_gpu(push):
    assert machine_for(push(machine_shape=T4), Accelerator.CPU, Settings()).gpus == ()


def test_an_unverified_account_gets_neither_gpu_nor_internet(driver):
    settings = {"phone_verified": False, "internet": True}
    session = driver(**settings).start(0.0, machine_shape=T4, enable_internet=True)

    assert (session.machine.gpus, session.machine.has_internet) == ((), False)


@pytest.mark.parametrize(
    ("asked", "settings", "given"),
    [
        (True, {"internet": True}, True),
        (False, {"internet": True}, False),
        (True, {}, False),
    ],
)
def test_internet_is_given_only_to_who_asks_where_it_is_allowed(push, asked, settings, given):
    assert machine(push(enable_internet=asked), **settings).has_internet is given


REACH_OUT = """
import json, socket, subprocess, sys
def attempt(call):
    try:
        return str(call())
    except OSError as error:
        return f"{type(error).__name__}: {error}"
tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
tried = {
    "connect": attempt(lambda: tcp.connect(("192.0.2.1", 80))),
    "udp": attempt(lambda: udp.connect(("192.0.2.1", 9))),
    "send": attempt(lambda: udp.sendto(b"x", ("192.0.2.1", 9))),
    "name": attempt(lambda: socket.getaddrinfo("kaggle.invalid", 443)),
    "here": attempt(lambda: socket.create_connection(("localhost", PORT)).close()),
    "itself": attempt(lambda: bool(socket.getaddrinfo(socket.gethostname(), 80))),
}
if len(sys.argv) == 1:
    again = [sys.executable, __file__, "child"]
    tried["child"] = json.loads(subprocess.run(again, capture_output=True, check=True).stdout)
print(json.dumps(tried))
"""
UNREACHABLE = "OSError: [Errno 101] Network is unreachable"


def test_without_internet_python_reaches_this_machine_only(call):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        call.push(REACH_OUT.replace("PORT", str(listener.getsockname()[1])))
        assert call.ended() == {"status": "COMPLETE"}, call.log()

    tried = json.loads(call.log())
    child = tried.pop("child")
    assert tried == {
        "connect": UNREACHABLE,
        "udp": UNREACHABLE,
        "send": UNREACHABLE,
        "name": "gaierror: [Errno -3] Temporary failure in name resolution",
        "here": "None",
        "itself": "True",
    }
    assert child == tried


def test_with_internet_nothing_stands_in_the_way(start):
    _, call = start(internet=True)
    call.push("import os; print(sorted(os.environ))")
    call.ended()

    for name in ("KCHAIN_INTERNET", "PYTHONPATH", "HF_HUB_OFFLINE"):
        assert name not in call.log()
    assert "KAGGLE_KERNEL_RUN_TYPE" in call.log()
    assert "KCHAIN_INTERNET" not in os.environ
