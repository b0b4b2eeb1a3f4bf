"""Resuming to the same bits: every precision, one process and two, and what happens without a piece.

The negative controls leave one piece of the state out and must end in another hash: without them,
an equal hash would prove nothing.
"""

import pytest

torch = pytest.importorskip("torch")

CHAINS = [  # precision, processes; the others are left to `make prove`
    ("bf16", 1),
    ("fp16", 1),
    ("fp16", 2),
]
ALL_CHAINS = [(precision, count) for count in (1, 2) for precision in ("fp32", "bf16", "fp16")]


@pytest.fixture
def carry(new_place, parameters, trainer):
    """Run sessions of a chain one after the other; returns their places."""

    def run(sessions, overrides, processes=1):
        places = []
        counts = processes if isinstance(processes, list) else [processes] * sessions
        for number, count in enumerate(counts, start=1):
            place = new_place()
            parent = None
            if places:
                parent = places[-1].parent()
                places[-1].publish(place.input / "tiny-checkpoints")
            told = parameters(number, parent, overrides)
            if count == 1:
                place.output = trainer.run(place, told)
            else:
                place.output = place.run(told, KCHAIN_PROCESSES=str(count))
            places.append(place)
        return places

    return run


def newest(place):
    return place.checkpoints / place.manifest["latest"]


def compare(carry, digest, precision, processes, steps):
    """The digests of three chained sessions and of the one that they replace."""
    overrides = {"precision": precision, "max_steps": 3 * steps, "steps_per_session": steps}
    chained = carry(3, overrides, processes)
    (whole,) = carry(1, {**overrides, "steps_per_session": None}, processes)
    assert [place.verdict["exact"] for place in [*chained, whole]] == ["bitwise"] * 4
    assert len(whole.history["epochs"]) >= 1
    return digest(newest(chained[-1])), digest(newest(whole))


@pytest.mark.parametrize(("precision", "processes"), CHAINS)
def test_chained_sessions_compute_what_one_long_session_does(carry, digest, precision, processes):
    chained, whole = compare(carry, digest, precision, processes, steps=4)

    assert chained == whole


@pytest.mark.prove
@pytest.mark.parametrize(("precision", "processes"), ALL_CHAINS)
def test_long_chains_compute_what_one_long_session_does(
    carry, digest, proven, precision, processes
):
    chained, whole = compare(carry, digest, precision, processes, steps=20)

    assert chained == whole
    proven(
        f"3 sessions of 20 steps against one of 60, {precision}, {processes} process(es)",
        "parameters, moments, scaler and history equal to the last bit",
    )


def _zero(key):
    def edit(state):
        for moments in state["optimizer"]["state"].values():
            moments[key].zero_()

    return edit


def _set(key, value):
    def edit(state):
        assert state[key] != value
        state[key] = value

    return edit


def _model(state):
    state["model"]["h.0.mlp.c_fc.weight"].zero_()


def _curve(state):
    state["history"]["steps"].clear()


WITHOUT = {
    "the model": _model,
    "Adam's first moments": _zero("exp_avg"),
    "Adam's second moments": _zero("exp_avg_sq"),
    "Adam's step count": _zero("step"),
    "the scaler": _set("scaler", {}),
    "the position in the data": _set("step", 3),
}
WITHOUT_CURVES = {
    "the sums of the epoch's loss": _set("epoch_losses", {"sum": 0.0, "steps": 0}),
    "the history": _curve,
}


LEARNED_SCALE = 2.0**26  # so large that gradients overflow, and steps are left out, at first
HALF = {"precision": "fp16", "learning_rate": 0.01, "evaluation_steps": 3}


@pytest.fixture(scope="module")
def half(new_place, parameters, trainer):
    """A first session in fp16."""
    place = new_place()
    trainer.run(place, parameters(overrides=HALF))
    return place


@pytest.fixture(scope="module")
def resume(half, new_place, parameters, trainer, forge):
    """Go on from `half` to the last step, with its newest checkpoint edited first."""

    def run(edit, processes=1):
        def prepare(state):
            state["scaler"]["scale"] = LEARNED_SCALE
            edit(state)

        place = new_place()
        half.publish(place.input / "tiny-checkpoints")
        parent = forge(place.input / "tiny-checkpoints", prepare)
        told = parameters(2, parent, {**HALF, "steps_per_session": None})
        if processes == 1:
            trainer.run(place, told)
        else:
            place.run(told, KCHAIN_PROCESSES=str(processes))
        return place

    return run


@pytest.fixture(scope="module")
def honest(resume, digest):
    place = resume(lambda state: None)
    scale = torch.load(newest(place), weights_only=True)["scaler"]["scale"]
    assert 2**19 < scale < LEARNED_SCALE  # some steps were left out, not all
    return place


@pytest.mark.parametrize("piece", WITHOUT)
def test_without_a_piece_of_its_state_a_resume_ends_elsewhere(resume, honest, digest, piece):
    place = resume(WITHOUT[piece])

    assert place.verdict["last_step"] == honest.verdict["last_step"]
    ends = [digest(newest(end), parameters_alone=True) for end in (place, honest)]
    assert ends[0] != ends[1]


@pytest.mark.prove
@pytest.mark.parametrize("processes", [1, 2])
def test_every_piece_of_the_state_is_needed(resume, digest, proven, processes):
    whole = digest(newest(resume(lambda state: None, processes)), parameters_alone=True)
    again = digest(newest(resume(lambda state: None, processes)), parameters_alone=True)
    assert again == whole

    for piece, edit in WITHOUT.items():
        assert digest(newest(resume(edit, processes)), parameters_alone=True) != whole
        proven(f"resumed without {piece}, fp16, {processes} process(es)", "other parameters")
    proven(f"resumed twice with everything, fp16, {processes} process(es)", "equal parameters")


@pytest.mark.parametrize("piece", WITHOUT_CURVES)
def test_without_its_history_a_resume_has_another_curve(resume, honest, digest, piece):
    place = resume(WITHOUT_CURVES[piece])

    ends = [digest(newest(end), parameters_alone=True) for end in (place, honest)]
    assert ends[0] == ends[1]
    assert digest(newest(place)) != digest(newest(honest))


def test_random_number_generators_are_no_part_of_the_state(resume, honest, digest):
    """Every draw is seeded by its step, so that streams which were lost change nothing."""
    other = torch.random.manual_seed(99).get_state()

    def edit(state):
        state["rng"]["torch"] = other

    assert digest(newest(resume(edit))) == digest(newest(honest))


def test_the_best_model_survives_a_session_that_never_beats_it(resume, half):
    kept = resume(_set("best_val_loss", 0.001))
    forgotten = resume(_set("best_val_loss", None))

    before, after = half.entry("best_model.pt"), kept.entry("best_model.pt")
    assert min(point["loss"] for point in kept.history["validations"]) > 0.001
    assert (after["sha256"], after["step"]) == (before["sha256"], before["step"])
    assert (kept.checkpoints / "best_model.pt").stat().st_size == before["bytes"]
    assert forgotten.entry("best_model.pt")["step"] > 4


def test_another_number_of_devices_stays_on_the_trajectory_and_is_recorded(carry):
    overrides = {"max_steps": 20, "steps_per_session": 10}

    alone = carry(2, overrides)
    mixed = carry(2, overrides, [1, 2])

    states = [torch.load(newest(places[-1]), weights_only=True) for places in (alone, mixed)]
    names = states[0]["model"]
    apart = max((states[0]["model"][n] - states[1]["model"][n]).abs().max() for n in names)
    assert 0 < apart < 1e-5
    losses = [[point["loss"] for point in places[-1].history["steps"]] for places in (alone, mixed)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert [place.verdict["exact"] for place in mixed] == ["bitwise", "state"]
    assert [session["exact"] for session in mixed[-1].history["sessions"]] == ["bitwise", "state"]
    assert "the last bits may differ from here on: " in mixed[-1].output
    assert "processes was 1, is 2" in mixed[-1].output


def test_a_downgraded_claim_stays_downgraded(resume):
    def edit(state):
        state["lineage"]["exact"] = "state"

    assert resume(edit).verdict["exact"] == "state"


def test_micro_batches_that_no_device_count_divides_are_refused(new_place, parameters):
    place = new_place()

    place.run(parameters(), KCHAIN_PROCESSES="3")

    assert place.verdict["reason"] == "config_mismatch"
    assert "accumulation is 2, no multiple of 3" in place.verdict["detail"]


def test_a_damaged_last_checkpoint_is_trained_again_and_not_called_complete(
    new_place, parameters, trainer
):
    place = new_place()
    told = parameters(overrides={"max_steps": 4})
    trainer.run(place, told)
    newest(place).write_bytes(b"damaged")

    output = trainer.run(place, told)
    again = trainer.run(place, told)

    assert "resuming from checkpoint_epoch1_step3.pt" in output
    assert place.verdict["training_complete"]
    assert "the training was complete before this start" in again
    assert place.verdict["last_step"] == 4


def test_batch_and_accumulation_may_change_together(half, new_place, parameters, trainer):
    """What an out-of-memory message advises: the step has the same blocks."""
    place, refused = new_place(), new_place()
    for target in (place, refused):
        half.publish(target.input / "tiny-checkpoints")
    smaller = {**HALF, "batch_size": 20, "accumulation": 4}

    trainer.run(place, parameters(2, half.parent(), smaller))
    trainer.run(refused, parameters(2, half.parent(), {**smaller, "accumulation": 2}))

    assert place.verdict["last_step"] == 8
    assert place.verdict["exact"] == "state"  # other draws of dropout
    assert [point["step"] for point in place.history["steps"]] == list(range(1, 9))
    assert refused.verdict["reason"] == "config_mismatch"
    assert "batch_size x accumulation is 40, in the checkpoint 80" in refused.verdict["detail"]
