"""A session that was not given what it was promised says so in seconds, and never trains."""

import json
import time

import pytest


def _damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def second(first, new_place):
    """The second session's place, with what the first published mounted."""
    place = new_place()
    first.publish(place.input / "tiny-checkpoints")
    place.mount = place.input / "tiny-checkpoints"
    return place


def _refusal(place, parameters):
    began_at = time.monotonic()
    place.run(parameters)
    assert time.monotonic() - began_at < 20
    assert not place.checkpoints.exists() or list(place.checkpoints.iterdir()) == []
    verdict = place.verdict
    assert verdict["outcome"] == "refused"
    assert verdict["token"] == parameters["token"]
    return verdict


def test_a_missing_parent_is_refused(first, new_place, parameters, check):
    place = new_place()

    verdict = _refusal(place, parameters(2, first.parent()))

    assert verdict["reason"] == "parent_missing"
    assert first.parent()["file"] in verdict["detail"]
    check("verdict", verdict)


def test_a_manifest_without_its_checkpoint_is_refused(first, second, parameters):
    (second.mount / first.parent()["file"]).unlink()

    verdict = _refusal(second, parameters(2, first.parent()))

    assert verdict["reason"] == "parent_missing"


def test_an_older_version_of_the_dataset_is_refused(first, second, parameters):
    promised = {**first.parent(), "manifest_sha256": "0" * 64}

    verdict = _refusal(second, parameters(2, promised))

    assert verdict["reason"] == "parent_mismatch"
    assert first.parent()["file"] in verdict["detail"]


def test_a_checkpoint_with_one_wrong_bit_is_refused(first, second, parameters):
    _damage(second.mount / first.parent()["file"])

    verdict = _refusal(second, parameters(2, first.parent()))

    assert verdict["reason"] == "parent_mismatch"


def test_an_unpacked_checkpoint_with_one_wrong_bit_is_refused(first, second, parameters, unpack):
    path = second.mount / first.parent()["file"]
    unpack(path)
    _damage(path / "archive" / "data" / "0")

    verdict = _refusal(second, parameters(2, first.parent()))

    assert verdict["reason"] == "parent_mismatch"


def test_a_manifest_that_lists_another_checkpoint_is_refused(first, second, parameters):
    verdict = _refusal(second, parameters(2, {**first.parent(), "sha256": "0" * 64}))

    assert verdict["reason"] == "parent_mismatch"


def test_a_second_session_that_was_told_no_parent_does_not_start_from_scratch(
    new_place, parameters
):
    verdict = _refusal(new_place(), parameters(2, None))

    assert verdict["reason"] == "parent_missing"


def test_another_model_than_the_checkpoints_is_refused(first, second, parameters):
    overrides = {"d_model": 64, "keep_checkpoints": 2}

    verdict = _refusal(second, parameters(2, first.parent(), overrides))

    assert verdict["reason"] == "config_mismatch"
    assert verdict["detail"] == "d_model is 64, in the checkpoint 32"


def test_gpus_that_are_not_there_are_refused(new_place, parameters):
    verdict = _refusal(new_place(), parameters(accelerator={"kind": "gpu", "count": 64}))

    assert verdict["reason"] == "accelerator_mismatch"


@pytest.mark.parametrize(
    ("probe", "detail"),
    [
        ("raise RuntimeError('no kernel image is available')", "a GPU cannot compute: Runtime"),
        ("while True: pass", "the GPUs did not answer within 1 s"),
    ],
    ids=["a P100", "a broken driver"],
)
def test_a_gpu_that_cannot_compute_is_refused(load, monkeypatch, probe, detail):
    launch = load("launch")
    monkeypatch.setattr(launch, "PROBE", probe)
    monkeypatch.setattr(launch, "PROBE_SECONDS", 1.0)

    with pytest.raises(load("session").Refusal) as refusal:
        launch.check_accelerator({"kind": "gpu", "count": 1})

    assert refusal.value.reason == "accelerator_mismatch"
    assert detail in refusal.value.detail


def test_no_processes_are_refused(new_place, parameters):
    place = new_place()

    place.run(parameters(), KCHAIN_PROCESSES="0")

    assert place.verdict["reason"] == "config_mismatch"


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        (["Tesla T4"], "expected 2 x T4, here: Tesla T4"),
        (["Tesla P100-PCIE-16GB"] * 2, "expected 2 x T4, here: Tesla P100-PCIE-16GB, "),
        ([], "expected 2 x T4, here: none; in the notebook's settings the accelerator may be off"),
    ],
    ids=["one of two", "another kind", "a silent CPU"],
)
def test_other_gpus_than_expected_are_refused_by_name_and_count(load, names, detail):
    expected = {"kind": "gpu", "count": 2, "name": "T4"}

    with pytest.raises(load("session").Refusal) as refusal:
        load("launch").refuse_other_gpus(expected, names)

    assert refusal.value.reason == "accelerator_mismatch"
    assert refusal.value.detail.startswith(detail)
    load("launch").refuse_other_gpus(expected, ["Tesla T4", "Tesla T4"])


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ({"n_layers": 2}, {}),
        ({"n_layer": True}, {}),
        ({"dropout": 1}, {}),
        ({"learning_rate": 0}, {}),
        ({"max_steps": None}, {}),
        ({"precision": "fp8"}, {}),
        ({"corpus": {"kind": "hub"}}, {}),
        ({"n_head": 3}, {}),
        ({}, {"contract": 2}),
        ({}, {"parent": {"file": "../checkpoint_epoch1_step1.pt"}}),
        ({}, {"accelerator": {"kind": "tpu", "count": 8}}),
        ({}, {"accelerator": {"kind": "gpu", "count": 2, "name": 4}}),
    ],
)
def test_parameters_against_the_contract_are_refused(load, parameters, overrides, changes):
    session, told = load("session"), load("parameters")

    with pytest.raises(session.Refusal) as refusal:
        told.parse_parameters(parameters(overrides=overrides, **changes))

    assert refusal.value.reason == "config_mismatch"


def test_a_refused_override_reaches_the_verdict(new_place, parameters):
    verdict = _refusal(new_place(), parameters(overrides={"n_layers": 2}))

    assert verdict["reason"] == "config_mismatch"
    assert "n_layers" in verdict["detail"]


def test_parameters_that_name_no_session_leave_no_verdict_and_fail(new_place, parameters):
    place = new_place()
    launcher = place.start({**parameters(), "token": "mine"})

    output, _ = launcher.communicate(timeout=60)

    assert launcher.returncode != 0
    assert "does not say which session" in output
    assert not (place.working / "session.json").exists()


def test_the_presets_have_exactly_the_settings_of_the_contract(kernel):
    schema = json.loads((kernel / "contract" / "parameters.schema.json").read_text())
    settings = schema["properties"]["training"]["properties"]["overrides"]["properties"]
    presets = json.loads((kernel / "presets.json").read_text())

    for preset in presets.values():
        assert preset.keys() == settings.keys() | {"corpus", "tokenizer"}
