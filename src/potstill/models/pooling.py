"""How the states of a text's tokens become one vector, and what a model's folder says of it.

Shapes: B texts, L positions, D features.
"""

import json
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig

_SAID = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


class Pooling(StrEnum):
    """How the states of a text's tokens become one vector."""

    MEAN = "mean"
    CLS = "cls"  # the first token's
    MAX = "max"


def pooled(states_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """`[B, D]` of the states at the positions where the mask is 1."""
    if pooling is Pooling.CLS:
        return states_BLD[:, 0]
    kept_BL1 = mask_BL[:, :, None].to(states_BLD.dtype)
    if pooling is Pooling.MAX:
        return states_BLD.masked_fill(kept_BL1 == 0, torch.finfo(states_BLD.dtype).min).amax(dim=1)
    return (states_BLD * kept_BL1).sum(dim=1) / kept_BL1.sum(dim=1).clamp(min=1)


def said_pooling(config: ModelConfig) -> tuple[Pooling, bool]:
    """Pooling and length: what the options say, else what the folder says, else the usual."""
    pooling, normalise = config.options.get("pooling", "auto"), config.options.get("normalise")
    if pooling not in ("auto", *Pooling):
        raise ModelError(
            f"The option `pooling` of `{config.name}` is {pooling!r}; it must be auto, mean, cls "
            "or max."
        )
    if normalise not in (None, "auto", True, False):
        raise ModelError(
            f"The option `normalise` of `{config.name}` is {normalise!r}; it must be auto, true or "
            "false."
        )
    found, normal = Pooling.MEAN, True
    if pooling == "auto" or normalise in (None, "auto"):
        found, normal = _of_folder(config)
    return (
        found if pooling == "auto" else Pooling(str(pooling)),
        normal if normalise in (None, "auto") else bool(normalise),
    )


def _of_folder(config: ModelConfig) -> tuple[Pooling, bool]:
    modules = _read(config, "modules.json")
    if not isinstance(modules, list):
        return Pooling.MEAN, True
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    strange = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if strange:
        raise ModelError(
            f"`{config.name}` has a module of type {strange[0]}, which is not read: only a "
            "Transformer, a Pooling and a Normalize are; choose another encoder."
        )
    pooling = Pooling.MEAN
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            pooling = _pooling(config, f"{module.get('path', '')}/config.json")
    return pooling, "Normalize" in kinds


def _pooling(config: ModelConfig, file: str) -> Pooling:
    said = _read(config, file)
    modes = said if isinstance(said, dict) else {}
    chosen = modes.get("pooling_mode")
    on = [name for name, value in modes.items() if name.startswith("pooling_mode_") and value]
    names = [str(chosen)] if isinstance(chosen, str) else [_SAID.get(name, name) for name in on]
    if len(names) != 1 or names[0] not in tuple(Pooling):
        listed = ", ".join(names) or "none"
        raise ModelError(
            f"`{config.name}` pools by {listed}, and one of mean, cls and max is read; choose one "
            "with the option `pooling`."
        )
    return Pooling(names[0])


def _read(config: ModelConfig, file: str) -> Json:
    """A JSON file of a folder, or of a hub id that may be fetched; `None` if there is none."""
    path = Path(config.name) / file
    if config.options.get("pretrained", False) and not Path(config.name).is_dir():
        hub = need("transformers.utils.hub", extra="text")
        found = hub.cached_file(config.name, file, _raise_exceptions_for_missing_entries=False)
        if found is None:
            return None
        path = Path(found)
    if not path.is_file():
        return None
    read: Json = json.loads(path.read_text(encoding="utf-8"))
    return read
