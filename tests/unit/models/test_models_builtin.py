"""The builtin architectures: sizes as published, shapes, names, seeds, options."""

import random
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from potstill.errors import ModelError
from potstill.models import ModelConfig, builtin_names, create_model
from potstill.models.cnn import cnn
from potstill.models.config import Json
from potstill.models.mlp import mlp
from potstill.models.shufflenet import shuffle_channels

# Parameters for 100 classes and 3x32x32 images, counted in the reference implementation of
# "Contrastive representation distillation" (arXiv:1910.10699), github.com/HobbitLong/RepDistiller,
# commit b84f547. The tables of the field print them in millions (resnet8x4 1.23, vgg13 9.46, …).
PUBLISHED = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "ResNet18": 11_220_132,
    "ResNet34": 21_328_292,
    "ResNet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "MobileNetV2": 812_836,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
}

# (channels, height) of each layer for 3x32x32 images: a stride in the wrong place changes no count.
STAGES = {
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet8x4": [(64, 32), (128, 16), (256, 8)],
    "ResNet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "wrn_16_2": [(32, 32), (64, 16), (128, 8)],
    "vgg8": [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)],
    "MobileNetV2": [(8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2)],
    "ShuffleV1": [(240, 16), (480, 8), (960, 4)],
    "ShuffleV2": [(116, 16), (232, 8), (464, 4)],
}

# The smallest square image, in pixels, of each family.
SMALLEST = {
    "resnet20": 4,
    "ResNet18": 8,
    "wrn_16_2": 4,
    "vgg8": 8,
    "MobileNetV2": 16,
    "ShuffleV1": 8,
    "ShuffleV2": 8,
}


def a_config(
    name: str,
    *,
    shape: tuple[int, ...] = (3, 32, 32),
    outputs: int = 100,
    options: Mapping[str, Json] | None = None,
) -> ModelConfig:
    return ModelConfig(
        source="builtin",
        name=name,
        options=options or {},
        input_shape=shape,
        num_outputs=outputs,
    )


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_every_published_architecture_is_there() -> None:
    hearing = {"ds_cnn", "tc_resnet", "conformer", "ctc_conv", "ctc_conformer"}
    small = {"mlp", "cnn", "resnet", "bag", "bilstm", "static"}
    assert set(PUBLISHED) | small | hearing == set(builtin_names())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_answers_are_those_of_the_published_tables(name: str) -> None:
    model = create_model(a_config(name)).eval()

    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 32, 32))

    assert count(model) == PUBLISHED[name]
    assert logits.shape == (2, 100)


@pytest.mark.parametrize("name", STAGES)
def test_stages_have_the_published_channels_and_sizes(name: str) -> None:
    model = create_model(a_config(name)).eval()
    seen: list[tuple[int, int]] = []
    stages = [child for key, child in model.named_children() if key.startswith("layer")]
    for stage in stages:
        stage.register_forward_hook(lambda _m, _i, out: seen.append((out.shape[1], out.shape[2])))

    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))

    assert seen == STAGES[name]


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_image_trains_and_a_smaller_one_is_refused(name: str) -> None:
    size = SMALLEST[name]

    logits = create_model(a_config(name, shape=(1, size, size), outputs=3))(
        torch.randn(4, 1, size, size)
    )

    assert logits.shape == (4, 3)
    assert logits.isfinite().all()
    with pytest.raises(ModelError, match=rf"at least {size}x{size} pixels.*{size - 1}x{size}"):
        create_model(a_config(name, shape=(1, size - 1, size)))


@pytest.mark.parametrize("name", [*SMALLEST, "cnn", "mlp"])
def test_grey_images_of_28_pixels_go_in(name: str) -> None:
    model = create_model(a_config(name, shape=(1, 28, 28), outputs=10))

    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_large_images_are_halved_once_more_by_vgg() -> None:
    model = create_model(a_config("vgg8", shape=(3, 64, 64)))

    assert model.get_submodule("layer5")(torch.zeros(2, 512, 8, 8)).shape == (2, 512, 4, 4)


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "ShuffleV1", "cnn"])
def test_tables_are_sent_to_the_mlp(name: str) -> None:
    with pytest.raises(ModelError, match="use `mlp` for tables"):
        create_model(a_config(name, shape=(30,)))


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((1, 8, 8), [(32, 8, 8), (64, 4, 4), (128, 2, 2)]),  # scikit-learn's digits
        ((3, 2, 2), [(32, 2, 2), (64, 2, 2), (128, 2, 2)]),  # nothing left to halve
        ((1, 180), [(32, 180), (64, 90), (128, 45)]),  # a heartbeat
        ((1, 7, 28), [(32, 7, 28), (64, 3, 14), (128, 3, 14)]),  # not square
    ],
)
def test_cnn_takes_images_and_signals_of_any_size(
    shape: tuple[int, ...], layers: list[tuple[int, ...]]
) -> None:
    model = create_model(a_config("cnn", shape=shape, outputs=5))

    x = torch.randn(2, *shape)
    for number, expected in enumerate(layers, start=1):
        x = model.get_submodule(f"layer{number}")(x)
        assert x.shape[1:] == expected

    assert model(torch.randn(2, *shape)).shape == (2, 5)


def test_cnn_options_count_convolutions_and_channels() -> None:
    model = cnn((1, 8, 8), 10, width=4, depth=2, convs=2, kernel=5, dropout=0.1)

    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]

    assert [(c.in_channels, c.out_channels) for c in convs] == [(1, 4), (4, 4), (4, 8), (8, 8)]
    assert {c.kernel_size for c in convs} == {(5, 5)}
    assert count(model) == 25 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8) + 2 * (4 + 4 + 8 + 8) + 8 * 10 + 10


def test_mlp_of_the_mnist_paper_has_its_layers_in_order() -> None:
    model = mlp((1, 28, 28), 10, hidden=(800, 800), dropout=0.5, input_dropout=0.2)

    assert [name for name, _ in model.named_children()] == [
        "flatten",
        "input_dropout",
        "layer1",
        "layer2",
        "fc",
    ]
    assert count(model) == 785 * 800 + 801 * 800 + 801 * 10


def test_mlp_without_hidden_layers_is_linear() -> None:
    model = mlp((30,), 2, hidden=())
    x, y = torch.randn(4, 30), torch.randn(4, 30)

    torch.testing.assert_close(model(x) + model(y) - model(torch.zeros(4, 30)), model(x + y))


def test_mlp_activation_and_normalisation_are_used() -> None:
    model = mlp((4,), 2, hidden=(8,), activation="tanh", batch_norm=True)

    hidden = model.get_submodule("layer1")(1000 * torch.randn(64, 4))

    assert hidden.abs().max() < 1  # normalised first: a tanh of such inputs would be 1 exactly
    assert hidden.min() < 0


def test_shuffling_deals_the_channels_of_the_groups_in_turn() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)

    mixed = shuffle_channels(x, 3)

    assert mixed.flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV2"])
def test_convolutions_start_with_variance_two_over_fan_out(name: str) -> None:
    model = create_model(a_config(name))

    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        if conv.weight.numel() > 5000:
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.06)
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8", "ShuffleV1"])
def test_the_seed_decides_the_weights(name: str) -> None:
    config = a_config(name, options={})

    first, again, other = (create_model(config, seed=seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_the_global_generators_as_they_were() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    create_model(a_config("resnet8"), seed=3)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_models_come_in_training_mode_and_every_parameter_learns() -> None:
    for name in SMALLEST:
        model = create_model(a_config(name, outputs=4))

        model(torch.randn(4, 3, 32, 32)).square().sum().backward()

        assert model.training
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("mobilenetv2_half", "MobileNetV2"),
        ("resnet50_cifar", "ResNet50"),
        ("RESNET8X4", "resnet8x4"),
        ("shufflev1", "ShuffleV1"),
    ],
)
def test_other_spellings_mean_the_same_model(written: str, meant: str) -> None:
    assert count(create_model(a_config(written))) == PUBLISHED[meant]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet8x5", {}, "no builtin model `resnet8x5`: did you mean `resnet8x4`"),
        ("transformer", {}, "no builtin model `transformer`: "),
        ("mlp", {"hiden": [3]}, "options are `activation`, .*`input_dropout`; did you mean `hidde"),
        ("mlp", {"hidden": 800}, "`hidden` of `mlp` is 800; it must be a list of whole numbers"),
        ("mlp", {"hidden": [80.5]}, "must be a list of whole numbers"),
        ("mlp", {"hidden": [True]}, "must be a list of whole numbers"),
        ("mlp", {"hidden": [0]}, "`hidden` is 0; give a whole number of at least 1"),
        ("mlp", {"dropout": 1}, "`dropout` is 1.0; give a rate"),
        ("mlp", {"dropout": "0.5"}, "`dropout` of `mlp` is '0.5'; it must be a number"),
        ("mlp", {"dropout": True}, "must be a number"),
        ("mlp", {"batch_norm": 1}, "`batch_norm` of `mlp` is 1; it must be true or false"),
        ("mlp", {"activation": "rely"}, "must be one of relu, leaky_relu, gelu, silu, tanh"),
        ("cnn", {"width": 1.5}, "`width` of `cnn` is 1.5; it must be a whole number"),
        ("cnn", {"kernel": 4}, "`kernel` is 4; give an odd number"),
        ("cnn", {"depth": 0}, "`depth` is 0; give a whole number of at least 1"),
        ("wrn_16_2", {"dropout": -0.1}, "`dropout` is -0.1; give a rate"),
        ("wrn_16_2", {"depth": 10}, "no option `depth`: its options are `dropout`"),
        ("resnet20", {"width": 2}, "`resnet20` has no option `width`: it takes none"),
        ("bag", {"width": 2}, "`bag` needs the option `vocabulary`; give it"),
    ],
)
def test_a_wrong_name_or_option_is_one_sentence(
    name: str, options: dict[str, Json], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        create_model(a_config(name, options=options))


def test_options_take_none_and_whole_numbers_where_they_mean_something() -> None:
    model = create_model(a_config("cnn", options={"kernel": None, "dropout": 0}))

    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
