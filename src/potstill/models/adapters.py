"""LoRA: a few small matrices beside a language model's own, which stay as they are.

Hu et al. 2021, arXiv:2106.09685, through the library `peft`. Adapters lie within the model, so
that layers keep their names; merged, they are gone and the model is an ordinary one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json
from potstill.models.options import refuse_unknown

_KNOWN = ("rank", "alpha", "dropout", "targets")


def adapt(model: nn.Module, options: Mapping[str, Json]) -> nn.Module:
    """Freeze a model of Transformers and give it adapters, in place.

    Args:
        model: of Transformers.
        options: `rank` (8), `alpha` (twice the rank), `dropout` (0), `targets`: names of layers, or
            `all-linear` for all but the head.

    Raises:
        ModelError: options that make no sense, or layers that are not there.
        MissingExtra: `peft` is not installed.
    """
    refuse_unknown(options, _KNOWN, model="lora")
    rank = options.get("rank", 8)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ModelError(f"`lora: {{rank: {rank}}}` must be a whole number of 1 or more.")
    peft = need("peft", extra="lora")
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=options.get("alpha", 2 * rank),
        lora_dropout=options.get("dropout", 0.0),
        target_modules=options.get("targets", "all-linear"),
        task_type="CAUSAL_LM",
    )
    try:
        return cast("nn.Module", peft.inject_adapter_in_model(settings, model))
    except ValueError as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"`lora` does not fit this {type(model).__name__} ({first}); name its linear layers "
            "with `targets: [...]`."
        ) from error


def has_adapters(model: nn.Module) -> bool:
    """Whether there are any."""
    return bool(_adapted(model))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The base model inside; afterwards the adapters are on again, and train if they did."""
    layers = _adapted(model)
    wanted = [[p.requires_grad for p in layer.parameters()] for layer in layers]
    for layer in layers:
        cast("Any", layer).enable_adapters(False)
    try:
        yield
    finally:
        for layer, flags in zip(layers, wanted, strict=True):
            cast("Any", layer).enable_adapters(True)
            for parameter, flag in zip(layer.parameters(), flags, strict=True):
                parameter.requires_grad_(flag)


def merged(model: nn.Module) -> nn.Module:
    """A copy in which the adapters have been added to the weights they stand beside."""
    copy = deepcopy(model)
    for name, layer in list(copy.named_modules()):
        if not _is_adapted(layer):
            continue
        adapted = cast("Any", layer)
        adapted.merge()
        parent, _, last = name.rpartition(".")
        setattr(copy.get_submodule(parent), last, adapted.get_base_layer())
    return copy.requires_grad_(True)


def _adapted(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if _is_adapted(layer)]


def _is_adapted(layer: nn.Module) -> bool:
    return hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer")
