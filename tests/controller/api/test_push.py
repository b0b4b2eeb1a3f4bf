"""What a push sends, and where it landed."""

import pytest

from orchestrator.kaggle.port import Done, LandedBad, Pushed, PushRequest
from tests.controller.api.calls import PUSH


def test_a_push_that_landed_is_done(kaggle, answers, asked):
    url = "https://www.kaggle.com/code/local/kchain-demo"
    answers(
        "SaveKernel",
        200,
        {
            "ref": "/code/local/kchain-demo",
            "url": url,
            "versionNumber": 7,
            "hasVersionNumber": True,
        },
    )

    assert kaggle.push(PUSH) == Done(Pushed(7, url))
    (body,) = asked("SaveKernel")
    assert body == {
        "slug": "local/kchain-demo",
        "newTitle": "kchain-demo",
        "text": "{}",
        "language": "python",
        "kernelType": "notebook",
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": True,
        "machineShape": "NvidiaTeslaT4",
        "datasetDataSources": ["local/kchain-demo-checkpoints"],
        "sessionTimeoutSeconds": 600,
    }


@pytest.mark.parametrize("kind", ["Dataset", "Kernel", "Competition", "Model"])
def test_a_push_without_one_of_its_inputs_landed_bad(kaggle, answers, kind):
    answers(
        "SaveKernel",
        200,
        {"ref": "/code/local/kchain-demo", "versionNumber": 7, f"invalid{kind}Sources": ["a/b"]},
    )

    assert kaggle.push(PUSH) == LandedBad(7, "the session runs without its input a/b")


@pytest.mark.parametrize(
    "ref", ["/code/local/another", "local/another/", "/code/local/kchain-demo-2"]
)
def test_a_push_that_was_saved_elsewhere_landed_bad(kaggle, answers, ref):
    answers("SaveKernel", 200, {"ref": ref, "versionNumber": 1})

    answer = kaggle.push(PUSH)

    assert isinstance(answer, LandedBad)
    assert answer.version is None
    assert ref.strip("/").rpartition("/")[2] in answer.message


def test_an_accelerator_is_asked_for_only_where_one_is_wanted(kaggle, answers, asked):
    answers("SaveKernel", 200, {"ref": "/code/local/kchain-demo", "versionNumber": 1})
    request = PushRequest(
        **{name: getattr(PUSH, name) for name in PUSH.__slots__} | {"machine_shape": None}
    )

    kaggle.push(request)

    (body,) = asked("SaveKernel")
    assert body["enableGpu"] is False
    assert "machineShape" not in body
