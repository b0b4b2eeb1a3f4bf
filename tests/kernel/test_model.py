"""The model's sizes and mathematics."""

import math

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def make(load):
    def build(**sizes):
        gpt = load("model")
        torch.manual_seed(0)
        defaults = {"n_layer": 2, "n_head": 2, "d_model": 16, "block_tokens": 8, "vocab_size": 100}
        return gpt.GPT(gpt.ModelConfig(**{**defaults, "dropout": 0.0, **sizes}))

    return build


def test_the_wikitext_preset_is_the_guides_ten_million_parameters(load, make):
    settings = load("parameters").merge_settings("wikitext103", {})
    names = ("n_layer", "n_head", "d_model", "block_tokens", "vocab_size")

    model = make(**{name: getattr(settings, name) for name in names})

    assert load("model").count_parameters(model) == 9_986_560
    assert model.wte.weight.shape == (50_304, 160)


def test_a_token_never_sees_those_after_it(make):
    model = make()
    tokens = torch.randint(0, 100, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 100

    before, after = model(tokens), model(changed)

    assert torch.equal(before[0, :5], after[0, :5])
    assert not torch.equal(before[0, 5], after[0, 5])


def test_padded_rows_are_in_no_prediction(load, make):
    model = make()
    tokens = torch.randint(0, 100, (2, 8))

    assert model.wte.weight.shape[0] == 128
    assert model(tokens).shape == (2, 8, 100)
    loss = load("model").loss(model, tokens, tokens)
    loss.backward()
    assert model.wte.weight.grad[100:].abs().max() == 0


def test_an_untrained_model_is_as_surprised_as_a_guess(load, make):
    model = make()
    tokens = torch.randint(0, 100, (8, 8))

    mean = load("model").loss(model, tokens, tokens.roll(1))
    total = load("model").loss(model, tokens, tokens.roll(1), "sum")

    assert math.isclose(mean.item(), math.log(100), rel_tol=0.02)
    assert math.isclose(total.item(), mean.item() * 64, rel_tol=1e-5)


def test_the_learning_rate_warms_up_and_falls_to_its_minimum(load):
    train = load("train")
    settings = load("parameters").merge_settings("wikitext103", {})

    rates = [train.learning_rate(settings, 36_000, step) for step in (0, 499, 500, 18_250, 36_000)]

    assert rates == pytest.approx([1e-6, 5e-4, 5e-4, 2.75e-4, 5e-5])
