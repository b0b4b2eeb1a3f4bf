"""C25 to C31 are contained: push and status."""

import pytest

from orchestrator.kaggle.port import Done, LandedBad, Pushed, Refused, Trouble, Unknown
from tests.probes.conftest import PUSH

REF = "/code/local/kchain-demo"


def test_c25_a_refusal_inside_an_answer_is_a_refusal(kaggle, on):
    full = "Maximum batch GPU session count of 2 reached."
    without = {"ref": REF, "versionNumber": 7, "invalidDatasetSources": ["local/gone"]}
    on("SaveKernel", (200, {"error": full}), (200, without), (200, {}))

    assert kaggle.push(PUSH) == Refused(Trouble.CAPACITY, full)
    assert kaggle.push(PUSH) == LandedBad(7, "the session runs without its input local/gone")
    assert isinstance(kaggle.push(PUSH), Unknown)


def test_c26_a_kernel_that_was_saved_elsewhere_landed_badly(kaggle, on):
    on("SaveKernel", (200, {"ref": "/code/local/other-title", "versionNumber": 1}))

    answer = kaggle.push(PUSH)

    assert isinstance(answer, LandedBad)
    assert "other-title" in answer.message


@pytest.fixture
def pushed(kaggle, on, asked):
    """What a push sends."""
    on("SaveKernel", (200, {"ref": REF, "versionNumber": 1}))
    assert kaggle.push(PUSH) == Done(Pushed(1, ""))
    (body,) = asked("SaveKernel")
    return body


def test_c28_the_text_that_is_sent_is_the_text_that_was_given(pushed):
    assert pushed["text"] == PUSH.source


def test_c29_privacy_internet_and_accelerator_are_said(pushed):
    said = {
        name: pushed[name] for name in ("isPrivate", "enableGpu", "enableTpu", "enableInternet")
    }

    assert said == {
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": False,
    }


@pytest.mark.parametrize(
    ("call", "read"),
    [
        ("GetKernelSessionStatus", lambda kaggle: kaggle.session("kchain-demo", 2)),
        ("ListKernelSessionOutput", lambda kaggle: kaggle.outputs("kchain-demo", 2)),
        ("ListKernelSessionOutput", lambda kaggle: kaggle.log("kchain-demo", 2)),
        ("GetKernel", lambda kaggle: kaggle.kernel("kchain-demo", 2)),
        ("GetKernelSessionLogsStream", lambda kaggle: list(kaggle.follow("kchain-demo", 2))),
    ],
)
def test_c31_every_read_names_its_version(kaggle, on, asked, call, read):
    on(call, (200, {}))

    read(kaggle)

    assert [body["versionLabel"] for body in asked(call)] == ["v2"]
