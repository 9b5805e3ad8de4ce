"""Models whose layers were made narrower: rebuilt from the whole model's config and the sizes.

Whatever chose the channels that stay (`potstill.compress`), a file of weights and these sizes are
all it takes to have the model again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.config import Json, ModelConfig

SOURCE = "pruned"
Build = Callable[[ModelConfig], nn.Module]
Sizes = Mapping[str, Mapping[str, int]]
"""By the name of a layer, its sizes by the name of the attribute that says them."""

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_ATTRIBUTES: tuple[tuple[object, tuple[str, ...]], ...] = (
    (_Convolution | _Transposed, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_BatchNorm, ("num_features",)),
    (nn.GroupNorm, ("num_channels", "num_groups")),
    (nn.LayerNorm, ("normalized_shape",)),
    (nn.Embedding, ("num_embeddings", "embedding_dim")),
    (nn.PReLU, ("num_parameters",)),
)


def sizes_of(model: nn.Module) -> dict[str, dict[str, int]]:
    """The sizes of all layers that can be made narrower."""
    return {name: found for name, layer in model.named_modules() if (found := _sizes(layer))}


def pruned_config(whole: ModelConfig, before: Sizes, after: Sizes) -> ModelConfig:
    """The config of a model whose layers were made narrower.

    Args:
        whole: of the model with all channels, or of one that was pruned earlier.
        before: `sizes_of` the model that `whole` describes.
        after: `sizes_of` the model as it is now.
    """
    changed = {name: dict(sizes) for name, sizes in after.items() if sizes != before.get(name)}
    if whole.source == SOURCE:
        earlier = whole.options["sizes"]
        assert isinstance(earlier, Mapping), "`pruned_config` wrote it"
        return replace(whole, options={**whole.options, "sizes": {**earlier, **changed}})
    return replace(whole, source=SOURCE, options={"model": _inner(whole), "sizes": changed})


def with_whole(config: ModelConfig, whole: ModelConfig) -> ModelConfig:
    """The same pruned model, the one with all channels described in another way."""
    return replace(config, options={**config.options, "model": _inner(whole)})


def whole_config(config: ModelConfig) -> ModelConfig:
    """The config of the model with all channels."""
    inner = config.options["model"]
    assert isinstance(inner, Mapping), "`pruned_config` wrote it"
    options = inner["options"]
    assert isinstance(options, Mapping), "`pruned_config` wrote it"
    return replace(config, source=str(inner["source"]), name=str(inner["name"]), options=options)


def build_pruned(config: ModelConfig, build: Build) -> nn.Module:
    """A model with narrower layers and random weights: a part of the whole model's own.

    Weights of convolutions and linear layers are scaled by the root of the inputs that are gone, so
    that the variance of what they say stays.

    Raises:
        ModelError: the whole model has no such layer.
    """
    model = build(whole_config(config))
    sizes = config.options["sizes"]
    assert isinstance(sizes, Mapping), "`pruned_config` wrote it"
    return resized(model, {str(n): _whole_numbers(each) for n, each in sizes.items()})


def resized(model: nn.Module, sizes: Sizes) -> nn.Module:
    """The same model, changed in place, its layers as wide as told."""
    layers = dict(model.named_modules())
    for name, wanted in sizes.items():
        if name not in layers or not _sizes(layers[name]):
            raise ModelError(
                f"The model has no layer `{name}` that can be made narrower: its config belongs to "
                "another model; compress it again."
            )
        _resize(layers[name], wanted)
    return model


def _inner(whole: ModelConfig) -> dict[str, Json]:
    return {"source": whole.source, "name": whole.name, "options": whole.options}


def _sizes(layer: nn.Module) -> dict[str, int]:
    for kinds, names in _ATTRIBUTES:
        if isinstance(layer, kinds):  # type: ignore[arg-type]
            return {name: _number(getattr(layer, name)) for name in names}
    return {}


def _number(value: object) -> int:
    if isinstance(value, tuple):
        return prod(value)
    assert isinstance(value, int), "sizes of layers are whole numbers"
    return value


def _whole_numbers(sizes: object) -> dict[str, int]:
    assert isinstance(sizes, Mapping), "`pruned_config` wrote it"
    return {str(name): int(value) for name, value in sizes.items()}


def _resize(layer: nn.Module, wanted: Mapping[str, int]) -> None:
    for name, value in wanted.items():
        setattr(layer, name, (value,) if name == "normalized_shape" else value)
    shapes = _shapes(layer)
    for name, parameter in layer.named_parameters(recurse=False):
        part = _part(parameter.detach(), shapes[name])
        if part.ndim > 1 and not isinstance(layer, nn.Embedding):
            part *= (parameter.shape[1] / part.shape[1]) ** 0.5
        setattr(layer, name, nn.Parameter(part))
    for name, buffer in layer.named_buffers(recurse=False):
        if buffer.ndim:
            setattr(layer, name, _part(buffer, shapes["bias"]))


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """What its sizes make of the shapes of its parameters."""
    sizes = _sizes(layer)
    first, *_ = sizes.values()
    if isinstance(layer, _Convolution | _Transposed):
        out, groups = sizes["out_channels"], sizes["groups"]
        rows = (out, first // groups) if isinstance(layer, _Convolution) else (first, out // groups)
        return {"weight": (*rows, *layer.kernel_size), "bias": (out,)}
    if isinstance(layer, nn.Linear):
        return {"weight": (sizes["out_features"], first), "bias": (sizes["out_features"],)}
    if isinstance(layer, nn.Embedding):
        return {"weight": (first, sizes["embedding_dim"])}
    return {"weight": (first,), "bias": (first,)}


def _part(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first of its rows and columns."""
    if len(shape) != tensor.ndim or any(n > m for n, m in zip(shape, tensor.shape, strict=True)):
        raise ModelError(
            f"A layer of {tuple(tensor.shape)} weights cannot be cut to {shape}: its config "
            "belongs to another model; compress it again."
        )
    return torch.as_tensor(tensor[tuple(slice(size) for size in shape)].clone())
