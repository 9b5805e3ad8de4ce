"""Watching a model run: which layers end in which order, and what shape they give."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from torch import nn

from potstill.features.taps import first_tensor, unwrapped
from potstill.protocols import SeenLayer

_PASSING_ON: Final = (nn.Identity, nn.modules.dropout._DropoutNd)
"""Modules whose output is what they were given, or what chance leaves of it."""


@contextmanager
def traced(model: nn.Module) -> Iterator[Sequence[SeenLayer]]:
    """Collect what is seen of every named module while the model runs inside the `with` block.

    Layers stand in the order in which they end, so a module stands behind those inside it. One that
    runs several times stands where it ends last, as taps see it. Modules that give no tensor are
    left out, and so are dropout and identities. No tensor is kept.

    Args:
        model: any module, wrapped or not.
    """
    inner = unwrapped(model)
    ended: dict[str, SeenLayer] = {}
    found: list[SeenLayer] = []
    with ExitStack() as hooks:
        counter = _Counter()
        for name, module in inner.named_modules():
            if name and not isinstance(module, _PASSING_ON):
                hook = _note(ended, name, counter, weighs=_has_weights(module))
                hooks.callback(module.register_forward_hook(hook).remove)
        try:
            yield found
        finally:
            found.extend(ended.values())


class _Counter:
    def __init__(self) -> None:
        self.ran = 0


def _has_weights(module: nn.Module) -> bool:
    """Whether it multiplies: convolutions, linear layers and attention do, normalisation not."""
    return any(weight.ndim > 1 for weight in module.parameters(recurse=False))


def _note(
    ended: dict[str, SeenLayer], name: str, counter: _Counter, *, weighs: bool
) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        counter.ran += weighs
        tensor = first_tensor(output)
        ended.pop(name, None)  # the last end counts
        if tensor is not None:
            ended[name] = SeenLayer(name, tuple(tensor.shape), counter.ran)

    return hook
