"""Structured pruning: whole channels go, and with them all that hangs on them.

Which layers must lose the same channel is read from the model's dependency graph (Fang et al. 2023,
DepGraph, arXiv:2301.12900) by torch-pruning. What is left is a plain narrower model.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from potstill.compress.door import torch_pruning
from potstill.compress.importance import Importance, Look, scorer
from potstill.errors import ModelError
from potstill.models.answering import Encoder
from potstill.models.importance import parts_of, stack_of
from potstill.models.pruned import sizes_of
from potstill.runtime.fast.quiet import quietly
from potstill.runtime.modes import evaluating

MOST = 0.95
"""The largest share of a layer's channels that may go."""

_TURNS = 8  # of the search for the share that meets a size: to half a percent of the channels

Weigh = Callable[[nn.Module], float]


def prune(
    model: nn.Module,
    example: Tensor,
    *,
    share: float,
    importance: Importance | str = Importance.MAGNITUDE,
    look: Look | None = None,
    fixed: Sequence[str] = (),
    round_to: int = 8,
) -> nn.Module:
    """A copy of a model without a share of the channels of every layer.

    Args:
        model: trained; left as it was found.
        example: `[B, ...]`, inputs that show what hangs on what.
        share: of the channels that go, 0 up to 0.95.
        importance: by what they are compared.
        look: gives losses on samples; for all but magnitude.
        fixed: layers that keep their outputs, beside the last one.
        round_to: numbers of channels that stay are multiples of this, which kernels like; layers
            with fewer than twice as many keep quarters.

    Raises:
        ModelError: the graph cannot be read, or layers of a kind that cannot be made narrower hang
            on each other.
        MissingExtra: torch-pruning is not installed.
    """
    small = copy.deepcopy(model).cpu().requires_grad_(True)  # without, there is no graph
    library = torch_pruning()
    with scorer(small, Importance(importance), look) as score:
        try:
            with evaluating(small), quietly(), torch.enable_grad():
                pruner = library.pruner.BasePruner(
                    small,
                    example.cpu(),
                    importance=score,
                    pruning_ratio_dict=_shares(small, share, round_to),
                    ignored_layers=_kept(small, example, fixed),
                    root_module_types=[
                        library.ops.TORCH_CONV,
                        library.ops.TORCH_LINEAR,
                        library.ops.TORCH_EMBED,
                    ],
                )
                pruner.step()
        except Exception as error:  # torch-pruning lets through whatever the graph raises
            raise _unreadable(model, error) from error
    small.zero_grad(set_to_none=True)
    _check(model, small, example)
    return small


def prune_to(
    model: nn.Module,
    example: Tensor,
    *,
    most: float,
    weigh: Weigh,
    importance: Importance | str = Importance.MAGNITUDE,
    look: Look | None = None,
    fixed: Sequence[str] = (),
    round_to: int = 8,
) -> nn.Module:
    """A copy of a model that weighs at most so much, and no less than it must.

    Every layer loses the same share of its channels; the share is found by halving.

    Args:
        model: trained; left as it was found.
        example: as for `prune`.
        most: what `weigh` may say of the copy; a model that says no more already is copied whole.
        weigh: bytes, parameters, or what else falls with every channel.
        importance: as for `prune`.
        look: as for `prune`.
        fixed: as for `prune`.
        round_to: as for `prune`.

    Raises:
        ModelError: as `prune`, or not even the narrowest copy is so light.
    """
    if weigh(model) <= most:
        return copy.deepcopy(model).cpu()

    def at(share: float, how: Importance, seen: Look | None) -> nn.Module:
        return prune(
            model, example, share=share, importance=how, look=seen, fixed=fixed, round_to=round_to
        )

    low, high = 0.0, MOST
    least = weigh(at(high, Importance.MAGNITUDE, None))
    if least > most:
        raise ModelError(
            f"Pruning {type(model).__name__} gives {least:,.0f} at the least and at most "
            f"{most:,.0f} was asked for; ask for {least:,.0f}, or begin with a smaller model."
        )
    for _ in range(_TURNS):
        middle = (low + high) / 2
        if weigh(at(middle, Importance.MAGNITUDE, None)) <= most:
            high = middle
        else:
            low = middle
    return at(high, Importance(importance), look)


def narrowest(
    model: nn.Module, example: Tensor, *, fixed: Sequence[str] = (), round_to: int = 8
) -> nn.Module:
    """A copy with as few channels as `prune` leaves."""
    return prune(model, example, share=MOST, fixed=fixed, round_to=round_to)


def _shares(model: nn.Module, share: float, round_to: int) -> dict[nn.Module, float]:
    """For each layer the share of its channels that goes, so that a round number stays."""
    return {
        layer: 1 - (_staying(width, share, round_to) + 0.5) / width  # half a channel is cut off
        for layer in model.modules()
        if (width := _outputs(layer)) > 1
    }


def _outputs(layer: nn.Module) -> int:
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return layer.out_channels
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            return layer.out_channels
        case nn.Linear():
            return layer.out_features
        case nn.Embedding():
            return layer.embedding_dim
    return 0


def _staying(width: int, share: float, round_to: int) -> int:
    """How many of a layer's channels stay: a multiple of `round_to`, of narrow layers a quarter."""
    step = round_to if width >= 2 * round_to else max(1, width // 4)
    return min(width, max(step, round(width * (1 - share) / step) * step))


def _kept(model: nn.Module, example: Tensor, fixed: Sequence[str]) -> list[nn.Module]:
    """Layers that keep their outputs: those that say the answer, and those named."""
    with evaluating(model), torch.no_grad():
        width = model(example.cpu()).shape[-1]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    answers = [m for m in linear if m.out_features == width]
    named = [model.get_submodule(name) for name in fixed]
    return [*answers, *linear[-1:], *named, *_state_of(model)]


def _state_of(model: nn.Module) -> list[nn.Module]:
    """Of encoders of Transformers, all but the neurons: heads and state are read in many places.

    Narrower ones are students that are made of the teacher (`source: teacher`).
    """
    if not isinstance(model, Encoder):
        return []
    widen = parts_of(model).widen
    neurons = {id(layer.get_submodule(widen)) for layer in stack_of(model)}
    kinds = nn.Linear | nn.Embedding | nn.LayerNorm
    return [m for m in model.modules() if isinstance(m, kinds) and id(m) not in neurons]


def _check(whole: nn.Module, small: nn.Module, example: Tensor) -> None:
    """Only layers that a config can describe have changed, and the answer has its shape."""
    known = sizes_of(small)
    before = dict(whole.named_parameters())
    for name, parameter in small.named_parameters():
        layer = name.rpartition(".")[0]
        if parameter.shape != before[name].shape and layer not in known:
            kind = type(small.get_submodule(layer)).__name__
            raise ModelError(
                f"Pruning would change `{layer}` ({kind}), which cannot be rebuilt from a config; "
                "begin with a model of convolutions, linear layers and tables."
            )
    try:
        with evaluating(small), evaluating(whole), torch.no_grad():
            same = small(example).shape == whole(example.to(_device(whole))).shape
    except Exception as error:
        raise _unreadable(whole, error) from error
    if not same:
        raise ModelError(
            f"Pruning would change the number of answers of {type(whole).__name__}; name the "
            "layers that must keep their outputs with `fixed`."
        )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _unreadable(model: nn.Module, error: Exception) -> ModelError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"The channels of {type(model).__name__} cannot be pruned, its layers hang on each other "
        f"in a way that torch-pruning does not follow ({line[:200]}); leave the ways that prune "
        "out, or begin with another model."
    )
