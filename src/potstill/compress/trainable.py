"""Copies that can be trained, also of models that teach."""

from copy import deepcopy

from torch import nn


def trainable_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU; where nothing in the model trains, as in a teacher, all of it does."""
    copy = deepcopy(model).cpu()
    if not any(p.requires_grad for p in copy.parameters()):
        for parameter in copy.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return copy
