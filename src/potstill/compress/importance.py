"""By what channels are compared: their weights, the loss without them, or what they say.

Shapes: B samples, C channels, L places.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from potstill.compress.door import torch_pruning
from potstill.runtime.modes import evaluating

Look = Callable[[nn.Module], Iterator[Tensor]]
"""Asks a model about some batches and gives the loss of each, with its gradient."""

_SEEN = "_importance"  # where torch-pruning's activation importance looks for it


class Importance(StrEnum):
    """How a channel is scored; the least important ones go first."""

    MAGNITUDE = "magnitude"  # L2 norm of its weights (Li et al. 2017, arXiv:1608.08710, with L1)
    TAYLOR = "taylor"  # |weight · gradient| (Molchanov et al. 2019, arXiv:1906.10771)
    ACTIVATION = "activation"  # mean size of what the next layers are given of it


@contextmanager
def scorer(model: nn.Module, importance: Importance, look: Look | None) -> Iterator[Any]:
    """What torch-pruning scores groups of channels with, while the context lasts.

    Args:
        model: what it needs is gathered on it, and taken away at the end.
        importance: the way.
        look: samples; needed by all but `MAGNITUDE`.
    """
    library = torch_pruning().importance
    assert look is not None or importance is Importance.MAGNITUDE, "it needs samples"
    if importance is Importance.MAGNITUDE or look is None:
        yield library.GroupMagnitudeImportance(p=2)
    elif importance is Importance.TAYLOR:
        with _gradients(model, look):
            yield library.GroupTaylorImportance()
    else:
        with _activations(model, look):
            yield library.ActivationImportance()


@contextmanager
def _gradients(model: nn.Module, look: Look) -> Iterator[None]:
    """The gradients of the summed losses, in eval mode, kept on the parameters."""
    model.zero_grad(set_to_none=True)
    try:
        with evaluating(model), torch.enable_grad():
            for loss in look(model):
                loss.backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            if parameter.grad is None:  # of a layer that no sample went through
                parameter.grad = torch.zeros_like(parameter)
        yield
    finally:
        model.zero_grad(set_to_none=True)


@contextmanager
def _activations(model: nn.Module, look: Look) -> Iterator[None]:
    """The mean absolute value of each input channel, on the layers that take it."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    counts: dict[nn.Module, int] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        size_BCL = given[0].detach().abs().double()
        if isinstance(layer, nn.Linear):
            total_C = size_BCL.flatten(0, -2).sum(0)
        else:
            total_C = size_BCL.flatten(2).mean(-1).sum(0)
        counts[layer] = counts.get(layer, 0) + (size_BCL.numel() // len(total_C))
        setattr(layer, _SEEN, getattr(layer, _SEEN, 0) + total_C)

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with evaluating(model), torch.no_grad():
            for _ in look(model):
                pass
        for layer in layers:
            width = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
            seen = getattr(layer, _SEEN, torch.zeros(width)) / max(counts.get(layer, 1), 1)
            setattr(layer, _SEEN, seen.float())
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            if hasattr(layer, _SEEN):
                delattr(layer, _SEEN)
