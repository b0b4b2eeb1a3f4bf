"""Checkpoints of the guide's own notebooks: recognised, and continued or refused with the reason."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": 128, "vocab_size": 320}
STEPS, ACCUMULATION = 5, 2


def train_the_guides_way(**sizes):
    """What the guide's notebook has in memory when it saves: a short real training."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(**{**SIZES, **sizes}, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 2, 100)
    for micro in range(STEPS * ACCUMULATION):
        ids = torch.randint(0, config.vocab_size, (2, 16))
        model(input_ids=ids, labels=ids).loss.backward()
        if (micro + 1) % ACCUMULATION == 0:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model, optimizer, scheduler


def save(path, trained, *, prefix="", edit=None, **more):
    model, optimizer, scheduler = trained
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "epoch": 1,
        "step": STEPS * ACCUMULATION,  # micro-batches
        "model_state_dict": {prefix + key: value for key, value in model.state_dict().items()},
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "train_loss": 5.5,
        "val_loss": None,
        "config": {"batch_size": 16, "learning_rate": 5e-4},
        "timestamp": "2026-11-01T10:00:00",
    }
    state.update(more)
    if edit:
        edit(state)
    torch.save(state, path)


@pytest.fixture(scope="module")
def trained():
    return train_the_guides_way()


@pytest.fixture
def place(new_place):
    place = new_place()
    place.file = place.input / "text-gen-checkpoint-v1" / "checkpoint_epoch1_step10.pt"
    return place


NEXT = {"steps_per_session": 1, "accumulation": 2, "learning_rate": 1e-9, "min_learning_rate": 0}


@pytest.mark.parametrize(
    ("prefix", "more"),
    [
        ("", {}),
        ("module.", {"global_step": STEPS, "pytorch_version": torch.__version__}),
    ],
    ids=["one GPU", "several GPUs"],
)
def test_weights_moments_and_steps_of_a_guides_checkpoint_are_continued(
    trained, place, parameters, trainer, prefix, more
):
    save(place.file, trained, prefix=prefix, **more)

    output = trainer.run(place, parameters(overrides={**NEXT, "weight_decay": 0}))
    state = torch.load(place.checkpoints / place.manifest["latest"], weights_only=True)

    theirs = trained[0].state_dict()
    words = theirs["transformer.wte.weight"]
    linear = theirs["transformer.h.0.mlp.c_fc.weight"].T
    assert "(step 10, in the format of the guide's notebooks)" in output
    assert "continued from optimizer step 5" in output
    assert (place.verdict["first_step"], place.verdict["last_step"]) == (5, 6)
    assert place.verdict["exact"] == "state"
    assert torch.allclose(state["model"]["wte.weight"][:320], words, atol=1e-6)
    assert torch.allclose(state["model"]["h.0.mlp.c_fc.weight"], linear, atol=1e-6)
    assert {float(moments["step"]) for moments in state["optimizer"]["state"].values()} == {6.0}


def test_the_guides_moments_arrive_at_their_own_parameters(load, trained, place):
    save(place.file, trained)
    gpt, hugging_face = load("model"), load("hugging_face")
    model = gpt.GPT(gpt.ModelConfig(1, 2, 32, 128, 320, 0.1))
    optimizer = gpt.make_optimizer(model, 1e-3, 0.1)
    state = load("checkpoint").open_checkpoint(place.file)

    step = hugging_face.take_over_guides(state, model, optimizer)

    theirs = dict(trained[0].named_parameters())
    for name, parameter in model.named_parameters():
        original = theirs[f"transformer.{name}"]
        expected = trained[1].state[original]["exp_avg_sq"]
        linear = name.startswith("h.") and expected.dim() == 2
        found = optimizer.state[parameter]["exp_avg_sq"]
        assert torch.equal(found, expected.T if linear else expected), name
    assert step == STEPS


def test_the_next_step_is_the_one_that_the_guides_optimizer_would_take(load, trained, place):
    """By the plain AdamW, one number at a time: ours is fused, and reads memory in its order."""
    save(place.file, trained)
    gpt = load("model")
    model = gpt.GPT(gpt.ModelConfig(1, 2, 32, 128, 320, 0.0))
    optimizer = gpt.make_optimizer(model, 1e-2, 0.1)
    state = load("checkpoint").open_checkpoint(place.file)
    load("hugging_face").take_over_guides(state, model, optimizer)
    expected = {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in model.named_parameters()
    }
    torch.manual_seed(5)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3

    groups = [
        {**group, "params": [expected[name] for name in names]}
        for group, names in zip(optimizer.param_groups, by_group(model, optimizer), strict=True)
    ]
    plain = torch.optim.AdamW(groups, foreach=False, fused=False)
    for name, parameter in model.named_parameters():
        expected[name].grad = parameter.grad.clone()
        moments = optimizer.state[parameter]
        plain.state[expected[name]] = {key: value.clone() for key, value in moments.items()}
    for group in plain.param_groups:
        group["fused"] = False
    plain.step()
    optimizer.step()

    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, expected[name], atol=1e-6), name


def by_group(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def test_a_guides_checkpoint_beyond_the_schedule_is_refused(trained, place, parameters, trainer):
    save(place.file, trained)

    trainer.run(place, parameters(overrides={**NEXT, "max_steps": 5}))

    assert place.verdict["reason"] == "config_mismatch"
    assert "has done 5 steps, max_steps is 5: raise max_steps" in place.verdict["detail"]


def test_the_same_logits_come_out_of_the_guides_model_and_ours(load, trained, place):
    save(place.file, trained)
    gpt = load("model")
    model = gpt.GPT(gpt.ModelConfig(1, 2, 32, 128, 320, 0.1)).eval()
    optimizer = gpt.make_optimizer(model, 1e-3, 0.1)
    tokens = torch.randint(0, 320, (2, 16))

    state = load("checkpoint").open_checkpoint(place.file)
    load("hugging_face").take_over_guides(state, model, optimizer)

    with torch.no_grad():
        assert torch.allclose(model(tokens), trained[0].eval()(tokens).logits, atol=1e-4)


def other_scheduler(state):
    state["scheduler_state_dict"] = {}


def two_groups(state):
    state["optimizer_state_dict"]["param_groups"] *= 2


def other_parts(state):
    state["model_state_dict"]["embedding.weight"] = torch.zeros(3)


UNUSABLE = {
    other_scheduler: ("parent_mismatch", "does not say how many optimizer steps were done"),
    two_groups: ("parent_mismatch", "moments cannot be told apart"),
    other_parts: ("config_mismatch", "its parts differ"),
}


@pytest.mark.parametrize("edit", UNUSABLE)
def test_a_guides_checkpoint_that_cannot_be_continued_says_why(
    trained, place, parameters, trainer, edit
):
    save(place.file, trained, edit=edit)
    reason, words = UNUSABLE[edit]

    trainer.run(place, parameters(overrides=NEXT))

    assert (place.verdict["outcome"], place.verdict["reason"]) == ("refused", reason)
    assert words in place.verdict["detail"]


def test_a_guides_model_of_another_size_is_refused_with_the_sizes(place, parameters, trainer):
    save(place.file, train_the_guides_way(n_embd=64))

    trainer.run(place, parameters(overrides=NEXT))

    assert place.verdict["reason"] == "config_mismatch"
    assert "a model of 1 layers x 64, the settings are of 1 layers x 32" in place.verdict["detail"]


def test_code_in_an_attached_checkpoint_is_never_run(place, parameters, trainer, tmp_path):
    """Unpickling this file the unsafe way would create a file."""
    place.file.parent.mkdir(parents=True)
    torch.save({"epoch": 1, "model": Creates(str(tmp_path / "ran"))}, place.file)

    trainer.run(place, parameters(overrides=NEXT))

    assert not (tmp_path / "ran").exists()
    assert place.verdict["reason"] == "parent_mismatch"


class Creates:
    """Unpickled, it calls open(path, "w")."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
