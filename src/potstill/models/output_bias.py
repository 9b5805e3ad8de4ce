"""The biases of a model's outputs: found whatever the architecture, and moved."""

import torch
from torch import Tensor, nn

from potstill.errors import ModelError


def output_layer(model: nn.Module, example: Tensor) -> nn.Linear:
    """The linear layer whose output is the model's own, found by running the model once.

    Args:
        model: called in eval mode; its mode is restored.
        example: `[1, ...]`, one input as the model is given it.

    Raises:
        ModelError: no such layer, or one without a bias.
    """
    seen: list[tuple[nn.Linear, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda m, _args, out: seen.append((m, out)))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    was_training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        with torch.no_grad():
            answer = model(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module in was_training:
            module.training = True
    for layer, said in reversed(seen):
        if isinstance(answer, Tensor) and said.shape == answer.shape and torch.equal(said, answer):
            if layer.bias is None:
                raise ModelError("The student's last layer has no bias, so none can be corrected.")
            return layer
    raise ModelError(
        "The student's answer is not that of a linear layer, so its output biases are not known; "
        "add the proposed correction to its logits yourself."
    )


def shift_outputs(model: nn.Module, shift_C: Tensor, example: Tensor) -> None:
    """Add to the output biases of a model, in place: its logits become `logits + shift_C`.

    Raises:
        ModelError: see `output_layer`.
    """
    layer = output_layer(model, example)
    with torch.no_grad():
        layer.bias.add_(shift_C.to(layer.bias))
