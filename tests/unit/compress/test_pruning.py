"""Whole channels go: which, how many, and that what is left is a plain model from a config."""

import pytest
import torch
from torch import nn

from potstill.compress.importance import Importance
from potstill.compress.pruning import narrowest, prune, prune_to
from potstill.compress.weight import Precision, bytes_of
from potstill.errors import ModelError
from potstill.models import ModelConfig, create_model, load_model, save_model
from potstill.models.pruned import pruned_config, resized, sizes_of

BERT = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
MODELS = {
    "mlp": ("builtin", (12,), {"hidden": [32, 32]}),
    "cnn": ("builtin", (1, 16, 16), {"width": 16, "depth": 2}),
    "resnet8": ("builtin", (3, 16, 16), {}),
    "wrn_16_1": ("builtin", (3, 16, 16), {}),
    "MobileNetV2": ("builtin", (3, 32, 32), {}),
    "bag": ("builtin", (2, 8), {"vocabulary": 50, "width": 32}),
    "bert": ("hf", (2, 8), {"model_type": "bert", "config": BERT}),
}


def config_of(name: str) -> ModelConfig:
    source, shape, options = MODELS[name]
    called = name if source == "builtin" else ""
    return ModelConfig(
        source=source, name=called, options=options, input_shape=shape, num_outputs=5
    )


def example(config: ModelConfig) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    if len(config.input_shape) != 2:
        return torch.randn(2, *config.input_shape, generator=draws)
    planes = torch.randint(1, 40, (2, *config.input_shape), generator=draws)
    planes[:, 1] = 1
    return planes


@pytest.mark.parametrize("name", MODELS)
def test_a_pruned_model_is_rebuilt_from_config_and_weights(name, tmp_path) -> None:
    config = config_of(name)
    whole, rows = create_model(config), example(config)

    small = prune(whole, rows, share=0.5)
    described = pruned_config(config, sizes_of(whole), sizes_of(small))
    save_model(small, described, tmp_path)
    again, read = load_model(tmp_path)

    assert bytes_of(small) < 0.95 * bytes_of(whole)
    assert torch.equal(again.eval()(rows), small.eval()(rows))
    assert read.input_shape == config.input_shape
    fresh = create_model(read, seed=3)
    assert sizes_of(fresh) == sizes_of(small)
    assert torch.isfinite(fresh.eval()(rows)).all()


def test_pruning_twice_is_described_by_one_config(tmp_path) -> None:
    config = config_of("cnn")
    whole, rows = create_model(config), example(config)
    first = prune(whole, rows, share=0.25, round_to=4)
    one = pruned_config(config, sizes_of(whole), sizes_of(first))
    second = prune(first, rows, share=0.5, round_to=4)

    two = pruned_config(one, sizes_of(first), sizes_of(second))

    assert two.options["model"] == one.options["model"]
    save_model(second, two, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].eval()(rows), second.eval()(rows))


def test_the_model_is_left_as_it_was() -> None:
    config = config_of("resnet8")
    whole, rows = create_model(config).requires_grad_(False), example(config)
    before = {name: value.clone() for name, value in whole.state_dict().items()}

    small = prune(whole, rows, share=0.5)

    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert not any(p.requires_grad for p in whole.parameters())
    assert all(p.requires_grad for p in small.parameters())


def two_layers() -> nn.Sequential:
    """A network whose hidden neurons 0 to 3 do all the work in what is asked of it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def kept_neurons(whole: nn.Sequential, small: nn.Sequential) -> list[int]:
    rows = whole[0].weight.tolist()
    return sorted(rows.index(row) for row in small[0].weight.tolist())


def test_magnitude_keeps_the_neurons_with_the_largest_weights() -> None:
    whole = two_layers()
    # by hand: squares of what comes in and of what goes out, the mean of both over the group
    score = (whole[0].weight.square().sum(1) + whole[2].weight.square().sum(0)) / 2
    best = score.topk(4).indices.sort().values.tolist()

    small = prune(whole, torch.randn(4, 6), share=0.5, round_to=2)

    assert kept_neurons(whole, small) == best


def test_taylor_keeps_the_neurons_whose_loss_would_be_felt() -> None:
    whole = two_layers()
    rows, labels = torch.randn(32, 6), torch.randint(0, 3, (32,))

    def look(model: nn.Module):
        for part in (slice(0, 16), slice(16, 32)):
            yield nn.functional.cross_entropy(model(rows[part]), labels[part])

    whole.zero_grad()
    sum(look(whole)).backward()
    felt = [(m.weight * m.weight.grad).abs() for m in (whole[0], whole[2])]
    best = (felt[0].sum(1) + felt[1].sum(0)).topk(4).indices.sort().values.tolist()
    whole.zero_grad()

    small = prune(whole, rows, share=0.5, importance="taylor", look=look, round_to=2)

    assert kept_neurons(whole, small) == best
    assert all(p.grad is None for p in small.parameters())


def test_activation_keeps_the_neurons_that_say_most_over_all_batches() -> None:
    whole = two_layers()
    rows = torch.randn(48, 6)

    def look(model: nn.Module):
        for part in rows.split(20):
            yield model(part).sum()

    said = whole[1](whole[0](rows)).abs().mean(0)
    best = said.topk(4).indices.sort().values.tolist()

    small = prune(whole, rows, share=0.5, importance=Importance.ACTIVATION, look=look, round_to=2)

    assert kept_neurons(whole, small) == best
    assert not any(hasattr(layer, "_importance") for layer in small.modules())


def test_neurons_that_say_nothing_are_pruned_without_a_trace() -> None:
    whole = two_layers()
    with torch.no_grad():
        whole[0].weight[4:] = 0
        whole[0].bias[4:] = 0
        whole[2].weight[:, 4:] = 0
    rows = torch.randn(5, 6)

    small = prune(whole, rows, share=0.5, round_to=2)

    torch.testing.assert_close(small(rows), whole(rows), rtol=1e-6, atol=1e-6)


def test_prune_to_meets_the_bytes_and_keeps_as_much_as_it_can() -> None:
    config = config_of("cnn")
    whole, rows = create_model(config), example(config)
    most = bytes_of(whole) / 3

    small = prune_to(whole, rows, most=most, weigh=bytes_of, round_to=1)

    assert 0.8 * most < bytes_of(small) <= most
    assert sizes_of(prune_to(whole, rows, most=1e9, weigh=bytes_of)) == sizes_of(whole)


def test_a_size_that_cannot_be_met_is_said_with_the_nearest() -> None:
    config = config_of("mlp")
    whole, rows = create_model(config), example(config)
    least = bytes_of(narrowest(whole, rows))

    with pytest.raises(ModelError, match=f"gives {least:,} at the least and at most 10 was"):
        prune_to(whole, rows, most=10, weigh=bytes_of)


def test_layers_that_are_fixed_and_the_answer_keep_their_outputs() -> None:
    config = config_of("mlp")
    whole, rows = create_model(config), example(config)
    linear = [name for name, m in whole.named_modules() if isinstance(m, nn.Linear)]

    small = prune(whole, rows, share=0.5, fixed=linear[:1])

    widths = [small.get_submodule(name).out_features for name in linear]
    assert widths == [32, 16, 5]


def test_layers_in_a_way_that_cannot_be_followed_are_a_sentence() -> None:
    config = ModelConfig(
        source="builtin", name="ShuffleV2", options={}, input_shape=(3, 32, 32), num_outputs=5
    )

    with pytest.raises(ModelError, match="cannot be pruned"):
        prune(create_model(config), torch.randn(2, 3, 32, 32), share=0.5)


def test_a_config_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="no layer `9`"):
        resized(two_layers(), {"9": {"in_features": 2, "out_features": 2}})
    with pytest.raises(ModelError, match="cannot be cut"):
        resized(two_layers(), {"0": {"in_features": 60, "out_features": 8}})


def test_bytes_are_those_of_the_numbers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    convolution, linear, norm = 3 * 4 * 9, 4 * 2, 4 * 4

    assert bytes_of(model) == 4 * (convolution + 4 + linear + 2 + norm)
    small = bytes_of(model, Precision.INT8)
    assert small == convolution + linear + 9 * (4 + 2) + 4 * (4 + 2 + norm)
