"""What language models of Transformers do to their logits after the head, by their config."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from potstill.errors import ModelError
from potstill.functional.heads import PLAIN, Shape
from potstill.runtime.modes import evaluating

_BOUND = 1e-3  # of the range of the logits

_SHAPES: Mapping[str, Callable[[float], Shape]] = {
    "final_logit_softcapping": lambda value: Shape(cap=value),  # Gemma 2 and later
    "logits_soft_cap": lambda value: Shape(cap=value),  # RecurrentGemma
    "output_logit_soft_cap": lambda value: Shape(cap=value),  # xLSTM
    "logit_scale": lambda value: Shape(scale=value),  # Cohere
    "logits_scaling": lambda value: Shape(scale=1 / value),  # Granite divides
    "lm_head_multiplier": lambda value: Shape(scale=value),  # Falcon-H1
}


def shape_of_model(model: nn.Module) -> Shape:
    """What is done to each logit after the linear layer.

    Raises:
        ModelError: the model has no linear head, or its config says several such things.
    """
    given = cast("Any", model)
    head = given.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output layer ({type(head).__name__}), which "
            "losses on parts of the vocabulary need; choose another model."
        )
    said = {name: getattr(given.config, name, None) for name in _SHAPES}
    found = [_SHAPES[name](float(value)) for name, value in said.items() if value is not None]
    found = [shape for shape in found if not shape.is_plain]
    if len(found) > 1:
        raise ModelError(
            f"{type(model).__name__} changes its logits in several ways after the head "
            f"({', '.join(name for name, value in said.items() if value is not None)}), which is "
            "not supported; choose another model."
        )
    return found[0] if found else PLAIN


def check_logits(model: nn.Module, head: nn.Linear) -> None:
    """Ask a model about two tokens, and refuse it if its logits are not those of its head.

    Args:
        model: of Transformers.
        head: from the last hidden state to the logits.

    Raises:
        ModelError: they differ.
    """
    inner = cast("Any", model)
    ids = torch.tensor([[0, 1]], device=head.weight.device) % head.out_features
    with evaluating(model), torch.no_grad():
        theirs = inner(input_ids=ids, use_cache=False).logits.float()
        states = inner.base_model(input_ids=ids, use_cache=False).last_hidden_state
        mine = head(states).float()
    scale = (theirs.amax() - theirs.mean()).clamp(min=1e-6)
    bound = _BOUND if head.weight.dtype is torch.float32 else 0.1
    if not bool((mine - theirs).abs().amax() <= bound * scale):
        raise ModelError(
            f"{type(model).__name__} does more to its logits after the head than scaling or "
            "capping each of them, which is not supported; choose another model."
        )
