"""What only a GPU can show; skipped without one."""

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
GPU = {"kind": "gpu", "count": 1}


def newest(place):
    return place.checkpoints / place.manifest["latest"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_chained_sessions_on_a_gpu_compute_what_one_long_session_does(
    new_place, parameters, digest, precision
):
    overrides = {"precision": precision, "exact": "bitwise"}
    whole, places = new_place(), [new_place(), new_place(), new_place()]

    parent = None
    for number, place in enumerate(places, start=1):
        place.run(parameters(number, parent, overrides, accelerator=GPU))
        parent = place.parent()
        if number < 3:
            place.publish(places[number].input / "tiny-checkpoints")
    whole.run(parameters(overrides={**overrides, "steps_per_session": None}, accelerator=GPU))

    assert whole.verdict["devices"]["kind"] == "cuda"
    assert [place.verdict["exact"] for place in places] == ["bitwise"] * 3
    assert digest(newest(places[-1])) == digest(newest(whole))


def test_the_fastest_kernels_claim_the_state_alone(new_place, parameters):
    place = new_place()

    place.run(parameters(overrides={"exact": "state"}, accelerator=GPU))

    assert place.verdict["exact"] == "state"
