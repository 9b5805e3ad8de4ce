"""Early exits: classifiers on inner layers of a model, and answers that stop at the first sure one.

Shapes: B samples, C classes, E exits beside the last layer, which is exit E.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.taps import layer_names, tapped
from potstill.runtime.modes import evaluating

EXITS = "exits"
PLACES = 4  # a side that images are pooled to before an exit


@final
class WithExits(nn.Module):
    """A model with a classifier after some of its layers, named `exits.0`, `exits.1`, ….

    Called, it gives the logits of its last layer. The exits run only while somebody reads them:
    a term in training, `exit_logits`, `answer_early`. So an exported file does not hold them.

    An exit pools images to 4 x 4 places, signals to 16, sequences to their mean, and is one linear
    layer.

    Args:
        body: gives logits.
        layers: after which of its layers, in the order in which they run.
        exits: one for each.
    """

    def __init__(
        self, body: nn.Module, layers: Sequence[str], *, exits: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.body, self.layers = body, tuple(layers)
        self.exits = nn.ModuleList(exits)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `[B, C]` of the last layer."""
        if not any(each._forward_hooks for each in self.exits):
            return torch.as_tensor(self.body(inputs))
        with tapped(self.body, self.layers) as seen:
            logits = self.body(inputs)
        for layer, each in zip(self.layers, self.exits, strict=True):
            each(seen[layer])
        return torch.as_tensor(logits)


@final
class _Exit(nn.Module):
    def __init__(self, features: Tensor, num_outputs: int, *, channels_first: bool) -> None:
        super().__init__()
        self._channels_first = channels_first
        self.fc = nn.Linear(self._flat(features).shape[-1], num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self._flat(features)))

    def _flat(self, features: Tensor) -> Tensor:
        """`[B, D, H, W]` or `[B, D, L]` pooled to some places, `[B, T, D]` to their mean."""
        if features.ndim == 4:
            height, width = (min(PLACES, side) for side in features.shape[2:])
            return F.adaptive_avg_pool2d(features, (height, width)).flatten(1)
        if features.ndim == 3 and self._channels_first:
            places = min(PLACES**2, features.shape[-1])
            return F.adaptive_avg_pool1d(features, places).flatten(1)
        return features.mean(1) if features.ndim == 3 else features


def with_exits(
    body: nn.Module, layers: object, *, input_shape: tuple[int, ...], num_outputs: int
) -> WithExits:
    """A model with exits after some of its layers, sized from one dry sample.

    Raises:
        ModelError: `layers` are no names, or the model has no such layer.
    """
    if not isinstance(layers, list | tuple) or not all(isinstance(n, str) for n in layers):
        raise ModelError(f"`exits` is {layers!r}; give a list of names of layers.")
    if not layers:
        raise ModelError("`exits` is empty; name the layers after which there is an exit.")
    known = layer_names(body)
    order = {name: number for number, name in enumerate(known)}
    if missing := [name for name in layers if name not in order]:
        raise ModelError(f"The model has no layer {missing}; its layers: {', '.join(known[:20])}.")
    with evaluating(body), torch.no_grad(), tapped(body, layers) as seen:
        body(torch.zeros(1, *input_shape))
    named = [name for name in seen if name in layers]  # in the order in which they ran
    is_signal = len(input_shape) == 2
    exits = [_Exit(seen[name], num_outputs, channels_first=is_signal) for name in named]
    return WithExits(body, named, exits=exits)


def exit_logits(model: WithExits, inputs: Tensor) -> Tensor:
    """`[E + 1, B, C]`: what every exit says, the last layer last; as the model's mode is."""
    names = [f"{EXITS}.{number}" for number in range(len(model.exits))]
    with tapped(model, names) as seen:
        last = model(inputs)
    return torch.stack([*(seen[name] for name in names), last])


class Early(NamedTuple):
    """What `answer_early` gives.

    Args:
        logits_BC: of the exit that each sample took.
        exits_B: `[B]` int64, which that was; E is the last layer.
    """

    logits_BC: Tensor
    exits_B: Tensor


class _AllSure(Exception):
    """Raised through a model to end its forward pass: nobody needs the rest."""


@torch.no_grad()
def answer_early(model: WithExits, inputs: Tensor, *, threshold: float | Sequence[float]) -> Early:
    """Each sample's answer at the first exit whose highest probability is at least `threshold`.

    Samples that are sure leave the batch, so that deeper layers run on the others alone. This
    needs a model in which all that follows a layer depends on its output alone, as in a chain of
    stages.

    Args:
        model: in eval mode while this runs.
        inputs: `[B, ...]`.
        threshold: 0 stops everything at the first exit; above 1 nothing stops early. One for each
            exit, or one for all.
    """
    total, given = len(inputs), threshold
    at = [given] * len(model.exits) if isinstance(given, int | float) else list(given)
    left = torch.arange(total, device=inputs.device)
    exits_B = torch.full((total,), len(model.exits), device=inputs.device)
    found: dict[str, Tensor] = {}

    def keep(rows: Tensor, logits: Tensor) -> None:
        found.setdefault("logits", logits.new_empty(total, logits.shape[-1]))
        found["logits"][rows] = logits

    def hook_of(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            nonlocal left
            logits = model.exits[number](output)
            sure = logits.softmax(-1).amax(-1) >= at[number]
            keep(left[sure], logits[sure])
            exits_B[left[sure]] = number
            left = left[~sure]
            if not len(left):
                raise _AllSure
            return output[~sure]

        return hook

    modules: Mapping[str, nn.Module] = dict(model.body.named_modules())
    with evaluating(model), ExitStack() as hooks:
        for number, layer in enumerate(model.layers):
            hooks.callback(modules[layer].register_forward_hook(hook_of(number)).remove)
        try:
            last = model.body(inputs)
            keep(left, last)  # as many as are left by then
        except _AllSure:
            pass
    return Early(found["logits"], exits_B)
