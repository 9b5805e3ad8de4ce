"""What matters in a causal language model: layers, channels, heads and neurons, by activations.

Minitron's way (Muralidharan et al. 2024, arXiv:2407.14679, section 2.1): forward passes over some
texts, no gradient. The score of a channel is the L2 norm over texts of the mean over tokens of
its absolute activation; a layer's is its block influence (Men et al. 2024, arXiv:2403.03853), the
mean of 1 - cos(what goes in, what comes out).

Shapes: N texts, P planes, L positions, D channels of the hidden state, H heads, F neurons.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.language import LanguageModel
from potstill.runtime.modes import evaluating
from potstill.runtime.texts import MASK

BATCH = 8
"""Texts that are asked about together."""


@final
@dataclass(frozen=True)
class Importance:
    """Scores, higher for what matters more; one row a layer where layers differ.

    Args:
        layers: `[layers]`, block influence.
        channels: `[D]`, summed over all normalised inputs of attention and feed-forward parts.
        heads: `[layers, H]`, of what goes into the output projection.
        neurons: `[layers, F]`, of what goes into the down projection.
    """

    layers: Tensor
    channels: Tensor
    heads: Tensor
    neurons: Tensor


def layers_of(model: LanguageModel) -> tuple[str, nn.ModuleList]:
    """The name of the list of layers in the inner model, and the list.

    Raises:
        ModelError: no single list has as many modules as the config counts layers.
    """
    inner = cast("Any", model.model)
    count = inner.config.num_hidden_layers
    lists = [(n, m) for n, m in inner.named_modules() if isinstance(m, nn.ModuleList)]
    found = [(n, m) for n, m in lists if len(m) == count and "." in n]
    if len(found) != 1:
        raise ModelError(
            f"The layers of this {type(inner).__name__} are not one list of {count}, so none can "
            "be taken out; name the student's model itself."
        )
    return found[0]


def is_gated(model: LanguageModel) -> bool:
    """Whether its layers are built as Llama's: what narrowing knows how to cut."""
    _, layers = layers_of(model)
    names = {name for name, _ in layers[0].named_modules()}
    wanted = {f"self_attn.{p}_proj" for p in "qkvo"} | {f"mlp.{p}_proj" for p in ("gate", "up")}
    return wanted | {"mlp.down_proj", "input_layernorm", "post_attention_layernorm"} <= names


def influence(model: LanguageModel, planes_NPL: Tensor) -> Tensor:
    """`[layers]`: how much each layer turns the hidden state, the mean over tokens."""
    _, layers = layers_of(model)
    totals = torch.zeros(len(layers), dtype=torch.float64)
    tokens = 0
    with _watched(list(layers)) as seen:
        for mask_BL in _passes(model, planes_NPL):
            for number, (given, said) in enumerate(seen):
                apart = 1 - torch.cosine_similarity(given.float(), said.float(), dim=-1)
                totals[number] += apart[mask_BL].double().sum().cpu()
            tokens += int(mask_BL.sum())
    return (totals / max(tokens, 1)).float()


def importance(model: LanguageModel, planes_NPL: Tensor) -> Importance:
    """All scores, from two rounds over the texts.

    Raises:
        ModelError: the layers are not built as Llama's.
    """
    if not is_gated(model):
        raise ModelError(
            f"A {type(model.model).__name__} cannot be made narrower: only models with layers "
            "like Llama's (Qwen, Mistral, …) can; leave out `width`, `ffn` and `heads`."
        )
    _, layers = layers_of(model)
    parts: list[Any] = list(layers)
    count, heads = len(parts), cast("Any", model.model).config.num_attention_heads
    norms = [n for p in parts for n in (p.input_layernorm, p.post_attention_layernorm)]
    downs, outs = [p.mlp.down_proj for p in parts], [p.self_attn.o_proj for p in parts]
    squares: list[Tensor] = []
    with _watched([*norms, *downs, *outs]) as seen:
        for mask_BL in _passes(model, planes_NPL):
            said = [after for _, after in seen[: 2 * count]]
            given = [before for before, _ in seen[2 * count :]]
            by_head = [o.view(*o.shape[:2], heads, -1).norm(dim=-1) for o in given[count:]]
            each = [_means(a, mask_BL).square().sum(0) for a in (*said, *given[:count], *by_head)]
            squares = each if not squares else [a + b for a, b in zip(squares, each, strict=True)]
    scores = [square.sqrt().float().cpu() for square in squares]
    return Importance(
        layers=influence(model, planes_NPL),
        channels=torch.stack(scores[: 2 * count]).sum(0),
        neurons=torch.stack(scores[2 * count : 3 * count]),
        heads=torch.stack(scores[3 * count :]),
    )


def most_important(scores: Tensor, count: int) -> list[int]:
    """The numbers of the highest scores, in order of number; of equals the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _means(activation_BLC: Tensor, mask_BL: Tensor) -> Tensor:
    """`[B, C]`: the mean of the size over the tokens of each text."""
    kept_BL1 = mask_BL[:, :, None].double()
    return (activation_BLC.double().abs() * kept_BL1).sum(1) / kept_BL1.sum(1).clamp_min(1)


def _passes(model: LanguageModel, planes_NPL: Tensor) -> Iterator[Tensor]:
    """Run the model over the texts, a few at a time; the mask of each."""
    device = model.head.weight.device
    with evaluating(model), torch.no_grad():
        for start in range(0, len(planes_NPL), BATCH):
            planes = planes_NPL[start : start + BATCH].long()
            model.hidden(planes.to(device))
            yield planes[:, MASK].bool().to(device)


@contextmanager
def _watched(modules: list[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What went into and came out of modules in the last pass."""
    seen: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(modules)

    def keep(number: int) -> Callable[..., None]:
        def hook(
            _module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], said: object
        ) -> None:
            first = given[0] if given else named["hidden_states"]
            seen[number] = (first, cast("Tensor", said[0] if isinstance(said, tuple) else said))

        return hook

    with ExitStack() as hooks:
        for number, module in enumerate(modules):
            handle = module.register_forward_hook(keep(number), with_kwargs=True)
            hooks.callback(handle.remove)
        yield seen
