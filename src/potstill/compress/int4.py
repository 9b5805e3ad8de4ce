"""Language models with weights in 4 bits: groups of inputs share a scale, activations stay float.

The rounding is torchao's (symmetric, -8 to 7, `IntxWeightOnlyConfig`), in training too, so that
what was trained is what is written: two weights a byte and a float32 scale a group, 5 bits a weight
with groups of 32. Embeddings, norms and the head stay as they are.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from potstill.compress.pt2e import quiet
from potstill.compress.trainable import trainable_copy
from potstill.errors import ModelError, RecipeError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.language import PURPOSE as CAUSAL_LM
from potstill.models.language import rebuildable_language_model
from potstill.models.saved import CONFIG
from potstill.models.sources import build
from potstill.models.weights import fit_weights, read_weights
from potstill.protocols import TokenModel
from potstill.runtime.files import read_json, write_json, write_with

WEIGHTS, SETTINGS = "int4.safetensors", "int4.json"
_PACKED, _SCALE = ".int4", ".scale"
_ZERO = 8  # added, so that -8 … 7 fit half a byte


@final
@dataclass(frozen=True, kw_only=True)
class Int4:
    """How weights are brought to 4 bits.

    Args:
        group: inputs of an output that share a scale; a power of two.
        skip: layers that stay in float, with all below them. The head always does.
    """

    group: int = 32
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "skip", tuple(self.skip))
        if self.group < 2 or self.group & (self.group - 1):
            raise RecipeError(f"`group` is {self.group!r}; it must be a power of two, such as 32.")


def int4_layers(model: nn.Module, how: Int4) -> tuple[str, ...]:
    """The linear layers that are rounded: whole groups of inputs, not the head, not skipped."""
    head = model.head.weight if isinstance(model, TokenModel) else None
    return tuple(
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.weight is not head
        and layer.in_features % how.group == 0
        and not any(name == one or name.startswith(f"{one}.") for one in how.skip)
    )


def fake_int4(model: nn.Module, how: Int4 | None = None) -> nn.Module:
    """A copy whose linear layers round their weights to 4 bits in each pass, and train.

    A student like any other, with the model's own names: `Distiller(fake_int4(model),
    ModuleTeacher(model, task), objective=KD()).fit(...)` is quantisation-aware distillation, and
    without any training it is plain rounding.

    Raises:
        MissingExtra: torchao is not installed.
        ModelError: the model has no layer that fits.
    """
    how = how or Int4()
    names = int4_layers(model, how)
    if not names:
        raise ModelError(
            f"This {type(model).__name__} has no linear layer whose inputs come in groups of "
            f"{how.group}; give a smaller `group`."
        )
    student = trainable_copy(model)
    with quiet():
        qat = need("torchao.quantization.qat", extra="compress")
        _quantise(student, qat.QATConfig(base_config(how), step="prepare"), names)
    return student


def converted_int4(student: nn.Module) -> nn.Module:
    """A copy of a `fake_int4` model with torchao's tensors of whole numbers as weights."""
    copy = deepcopy(student)
    names = [name for name, layer in copy.named_modules() if _is_fake(layer)]
    how = Int4(group=_group_of(copy, names))
    with quiet():
        qat = need("torchao.quantization.qat", extra="compress")
        _quantise(copy, qat.QATConfig(base_config(how), step="convert"), names)
    return copy


def base_config(how: Int4) -> Any:  # noqa: ANN401  torchao has no types
    """The same in torchao's words; `TorchAoConfig(base_config(how))` is that of Transformers."""
    with quiet():
        ao = need("torchao.quantization", extra="compress")
        return ao.IntxWeightOnlyConfig(
            weight_dtype=vars(torch)["int4"], granularity=ao.PerGroup(how.group)
        )


def save_int4(student: nn.Module, config: ModelConfig, folder: Path) -> Path:
    """Write a `fake_int4` model to a folder that `load_int4` reads; the path of its weights.

    Raises:
        StorageError: the folder cannot be written to.
    """
    whole = converted_int4(student)
    names = [name for name, layer in student.named_modules() if _is_fake(layer)]
    tensors: dict[str, Tensor] = {}
    for name, value in whole.state_dict().items():
        layer = name.removesuffix(".weight")
        if layer in names and name != layer:
            weight = cast("Any", value)
            tensors[layer + _PACKED] = pack(weight.qdata)
            tensors[layer + _SCALE] = weight.scale.contiguous()
        elif not any(value is other for other in tensors.values()):
            tensors[name] = value.detach().cpu().contiguous().clone()
    _drop_tied(whole, tensors)
    write_with(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    write_json(folder / SETTINGS, {"group": _group_of(student, names), "layers": names})
    if config.purpose == CAUSAL_LM:  # without what needs a hub or a folder that may be gone
        config = rebuildable_language_model(student, config)
    write_json(folder / CONFIG, cast("dict[str, object]", config.to_json()))
    return folder / WEIGHTS


def load_int4(folder: Path, *, trust: bool = False) -> tuple[nn.Module, ModelConfig]:
    """The model that `save_int4` wrote, in eval mode, its weights on the grid but in float32.

    It answers as `converted_int4` does.

    Raises:
        ModelError: a file is missing or damaged, or does not fit.
    """
    record = read_json(folder / SETTINGS)
    layers = record.get("layers")
    if not isinstance(layers, list):
        raise ModelError(f"{folder / SETTINGS} does not say which layers are in 4 bits.")
    config = ModelConfig.from_json(cast("Mapping[str, Json]", read_json(folder / CONFIG)))
    tensors = read_weights(folder / WEIGHTS)
    for layer in map(str, layers):
        try:
            packed, scale = tensors.pop(layer + _PACKED), tensors.pop(layer + _SCALE)
        except KeyError as error:
            raise ModelError(
                f"{folder / WEIGHTS} lacks {error}; copy or write the folder again."
            ) from error
        groups = unpack(packed).float().reshape(len(packed), scale.shape[1], -1)
        tensors[f"{layer}.weight"] = (groups * scale[..., None]).flatten(1)
    model = build(config, trust=trust)
    fit_weights(model, tensors, origin=str(folder), num_outputs=config.num_outputs)
    return model.eval(), config


def pack(whole: Tensor) -> Tensor:
    """Whole numbers from -8 to 7, `[O, I]`, as bytes `[O, I/2]`: the first in the low half."""
    halves = (whole.to(torch.int16) + _ZERO).to(torch.uint8).reshape(len(whole), -1, 2)
    return halves[..., 0] | (halves[..., 1] << 4)


def unpack(packed: Tensor) -> Tensor:
    """What `pack` packed, int8."""
    halves = torch.stack([packed & 15, packed >> 4], dim=-1)
    return halves.flatten(1).to(torch.int8) - _ZERO


def _quantise(model: nn.Module, config: object, names: object) -> None:
    ao = need("torchao.quantization", extra="compress")
    chosen = set(cast("list[str]", names))
    ao.quantize_(model, config, lambda _layer, name: name in chosen)


def _is_fake(layer: nn.Module) -> bool:
    return getattr(layer, "weight_fake_quantizer", None) is not None


def _group_of(model: nn.Module, names: list[str]) -> int:
    if not names:
        raise ModelError("The model has no layers in 4 bits; give what `fake_int4` made.")
    layer = cast("Any", model.get_submodule(names[0]))
    return int(layer.weight_fake_quantizer.config.group_size)


def _drop_tied(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Of parameters with several names, one is written."""
    known = {name for name, _ in model.named_parameters()}
    known |= {name for name, _ in model.named_buffers()}
    for name in [n for n in tensors if not n.endswith((_PACKED, _SCALE)) and n not in known]:
        del tensors[name]
