"""The architectures that ship with Potstill, by name.

Those of the CIFAR tables are named as in Tian et al. 2019 (arXiv:1910.10699) and have the same
numbers of parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from potstill.errors import ModelError
from potstill.models.bilstm import bilstm
from potstill.models.cnn import cnn
from potstill.models.config import ModelConfig
from potstill.models.listening import conformer, ds_cnn, tc_resnet
from potstill.models.mlp import mlp
from potstill.models.mobilenet import mobilenet_v2
from potstill.models.options import Value, nearest, read_options
from potstill.models.resnet_cifar import resnet_cifar, thin_resnet
from potstill.models.sentence_static import static
from potstill.models.shufflenet import shufflenet_v1, shufflenet_v2
from potstill.models.text import bag
from potstill.models.transcribing import ctc_conformer, ctc_conv
from potstill.models.vgg import vgg
from potstill.models.wide_resnet import wide_resnet


@dataclass(frozen=True)
class _Architecture:
    """A function that builds, and the arguments that the name stands for."""

    build: Callable[..., nn.Module]
    arguments: Mapping[str, Value] = field(default_factory=dict)


def _thin(depth: int, *, stem: int = 16, factor: int = 1) -> _Architecture:
    """A ResNet of depth 6n + 2 in three stages."""
    widths = (16 * factor, 32 * factor, 64 * factor)
    blocks = ((depth - 2) // 6,) * 3
    arguments: dict[str, Value] = {"stem": stem, "widths": widths, "blocks": blocks}
    return _Architecture(resnet_cifar, {**arguments, "bottleneck": False})


def _full(blocks: tuple[int, ...], *, bottleneck: bool) -> _Architecture:
    """A ResNet with the stages of the ImageNet ones and a stem for small images."""
    widths = (64, 128, 256, 512)
    arguments: dict[str, Value] = {"stem": 64, "widths": widths, "blocks": blocks}
    return _Architecture(resnet_cifar, {**arguments, "bottleneck": bottleneck})


_BUILTIN: Mapping[str, _Architecture] = {
    "mlp": _Architecture(mlp),
    "cnn": _Architecture(cnn),
    "bag": _Architecture(bag),
    "bilstm": _Architecture(bilstm),
    "static": _Architecture(static),
    "ds_cnn": _Architecture(ds_cnn),
    "tc_resnet": _Architecture(tc_resnet),
    "conformer": _Architecture(conformer),
    "ctc_conv": _Architecture(ctc_conv),
    "ctc_conformer": _Architecture(ctc_conformer),
    "resnet": _Architecture(thin_resnet),
    **{f"resnet{depth}": _thin(depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": _thin(depth, stem=32, factor=4) for depth in (8, 32)},
    "ResNet18": _full((2, 2, 2, 2), bottleneck=False),
    "ResNet34": _full((3, 4, 6, 3), bottleneck=False),
    "ResNet50": _full((3, 4, 6, 3), bottleneck=True),
    **{
        f"wrn_{depth}_{width}": _Architecture(wide_resnet, {"depth": depth, "width": width})
        for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2))
    },
    "vgg8": _Architecture(vgg, {"convs": (1, 1, 1, 1, 1)}),
    "vgg11": _Architecture(vgg, {"convs": (1, 1, 2, 2, 2)}),
    "vgg13": _Architecture(vgg, {"convs": (2, 2, 2, 2, 2)}),
    "vgg16": _Architecture(vgg, {"convs": (2, 2, 3, 3, 3)}),
    "vgg19": _Architecture(vgg, {"convs": (2, 2, 4, 4, 4)}),
    "MobileNetV2": _Architecture(mobilenet_v2),
    "ShuffleV1": _Architecture(shufflenet_v1),
    "ShuffleV2": _Architecture(shufflenet_v2),
}

HEARING = frozenset({"ds_cnn", "tc_resnet", "conformer", "ctc_conv", "ctc_conformer"})
"""Those that are told the sampling rate of what they hear."""

_ALIASES = {
    "mobilenetv2_half": "MobileNetV2",
    "resnet50_cifar": "ResNet50",
    "shufflenet_v1": "ShuffleV1",
    "shufflenet_v2": "ShuffleV2",
}
_BY_FOLD = {name.casefold(): name for name in _BUILTIN}


def builtin_names() -> tuple[str, ...]:
    """The names of the builtin architectures, in the order of the documentation."""
    return tuple(_BUILTIN)


def build_builtin(config: ModelConfig) -> nn.Module:
    """A builtin architecture with random weights.

    Capital letters in the name do not matter.

    Raises:
        ModelError: for an unknown name, a wrong option, or an input that does not suit.
    """
    folded = config.name.casefold()
    name = _ALIASES.get(folded) or _BY_FOLD.get(folded)
    if name is None:
        raise ModelError(
            f"There is no builtin model `{config.name}`: {nearest(config.name, _BUILTIN)}"
        )
    architecture = _BUILTIN[name]
    options = read_options(
        architecture.build, config.options, model=name, taken=architecture.arguments
    )
    return architecture.build(
        config.input_shape, config.num_outputs, **architecture.arguments, **options
    )
