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
    model(tokens, tokens).backward()
    assert model.wte.weight.grad[100:].abs().max() == 0


def test_an_untrained_model_is_as_surprised_as_a_guess(make):
    model = make()
    tokens = torch.randint(0, 100, (8, 8))

    assert math.isclose(model(tokens, tokens.roll(1)).item(), math.log(100), rel_tol=0.02)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)]
)
def test_the_loss_in_pieces_is_the_plain_one_with_its_gradients(load, monkeypatch, dtype, close):
    gpt = load("model")
    monkeypatch.setattr(gpt, "LOSS_ROWS", 7)  # 20 tokens: two whole pieces and a part of one
    torch.manual_seed(1)
    targets = torch.randint(0, 100, (20,))
    seeds = torch.randn(20, 16), torch.randn(128, 16)

    def run(loss):
        hidden, weight = (tensor.clone().requires_grad_() for tensor in seeds)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss(hidden, weight)
        (value * 3).backward()
        return value.detach(), hidden.grad, weight.grad

    def plain(hidden, weight):
        logits = torch.nn.functional.linear(hidden, weight)[:, :100].float()
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    expected = run(plain)
    found = run(lambda hidden, weight: gpt.TiedCrossEntropy.apply(hidden, weight, targets, 100))

    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).abs().max() <= close * theirs.abs().max()
    assert found[2][100:].abs().max() == 0


def test_half_precision_keeps_the_gradients_of_a_large_vocabulary(load):
    """A guess over 50,000 words is 2e-5 each, and most words are far less likely than that."""
    gpt = load("model")
    torch.manual_seed(2)
    hidden, weight = torch.randn(32, 16), torch.randn(50_304, 16) * 1.5
    targets = torch.randint(0, 100, (32,))
    gradients = []
    for dtype in (torch.float32, torch.float16):
        words = weight.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.float16):
            rows = hidden.clone().requires_grad_()
            gpt.TiedCrossEntropy.apply(rows, words, targets, 50_257).backward()
        gradients.append(words.grad[100:50_257])

    exact, half = gradients
    rare = exact.norm(dim=1) < exact.norm(dim=1).quantile(0.2)
    assert (half - exact)[rare].norm() < 0.05 * exact[rare].norm()


def test_dropout_on_attention_is_drawn_in_training_alone(make):
    model = make(attention_dropout=0.5)
    tokens = torch.randint(0, 100, (1, 8))
    drawn = [model(tokens, tokens).item() for _ in range(2)]
    model.eval()
    calm = [model(tokens, tokens).item() for _ in range(2)]

    assert drawn[0] != drawn[1]
    assert calm[0] == calm[1]


def test_the_larger_preset_is_named_by_its_true_size(load, make):
    settings = load("parameters").merge_settings("wikitext103-19m", {})
    names = ("n_layer", "n_head", "d_model", "block_tokens", "vocab_size")

    model = make(**{name: getattr(settings, name) for name in names})

    assert load("model").count_parameters(model) == 19_327_488


def test_the_learning_rate_warms_up_and_falls_to_its_minimum(load):
    train = load("train")
    settings = load("parameters").merge_settings("wikitext103", {})

    rates = [train.learning_rate(settings, 36_000, step) for step in (0, 499, 500, 18_250, 36_000)]

    assert rates == pytest.approx([1e-6, 5e-4, 5e-4, 2.75e-4, 5e-5])
