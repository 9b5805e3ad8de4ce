"""What in an encoder matters on real texts, from activations alone.

Shapes: B texts, T positions, L layers, H heads, F neurons, D channels of the hidden state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from potstill.errors import ModelError
from potstill.models.answering import Encoder
from potstill.runtime.modes import evaluating
from potstill.runtime.texts import trimmed

BATCH = 32
_Watch = Callable[[Tensor], None]


@final
@dataclass(frozen=True, kw_only=True)
class Parts:
    """How the modules of one layer are called, from the layer down.

    Args:
        attend: make queries, keys and values of the hidden state; one block of rows a head.
        merge: takes the heads, side by side.
        widen: makes the neurons.
        narrow: takes the neurons.
    """

    attend: tuple[str, ...]
    merge: str
    widen: str
    narrow: str


_LAYOUTS = (
    Parts(
        attend=("attention.self.query", "attention.self.key", "attention.self.value"),
        merge="attention.output.dense",
        widen="intermediate.dense",
        narrow="output.dense",
    ),
    Parts(
        attend=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        merge="attention.out_lin",
        widen="ffn.lin1",
        narrow="ffn.lin2",
    ),
)
"""BERT with RoBERTa and ELECTRA; DistilBERT."""


@final
@dataclass(frozen=True, kw_only=True)
class Importance:
    """Scores, larger for what matters more.

    Each activation is scored as by Muralidharan et al. 2024 (Minitron, arXiv:2407.14679, section
    3): the mean of its size over the tokens of a text, L2 over texts.

    Args:
        layers: `[L]` block influence, 1 - cos(what goes in, what comes out), the mean over tokens
            (Men et al. 2024, ShortGPT, arXiv:2403.03853, section 3.2).
        heads: `[L, H]`, of the norm of a head's output.
        neurons: `[L, F]`, of what the second linear layer takes.
        channels: `[D]`, of what LayerNorms give, summed over them.
    """

    layers: Tensor
    heads: Tensor
    neurons: Tensor
    channels: Tensor


def stack_of(teacher: Encoder) -> nn.ModuleList:
    """The one list of as many modules as the config counts layers.

    Raises:
        ModelError: there is none, or more than one.
    """
    count = getattr(teacher.model.config, "num_hidden_layers", 0)
    lists = [m for m in teacher.model.modules() if isinstance(m, nn.ModuleList)]
    found: Sequence[nn.ModuleList] = [m for m in lists if len(m) == count]
    if len(found) != 1:
        raise ModelError(
            f"The layers of this {type(teacher.model).__name__} are not one list of {count}, so "
            "none can be taken out: use `make: transformer` or `make: bag`."
        )
    return found[0]


def parts_of(teacher: Encoder) -> Parts:
    """How the modules of its layers are called.

    Raises:
        ModelError: in no way that is known.
    """
    names = {name for name, _ in stack_of(teacher)[0].named_modules()}
    for parts in _LAYOUTS:
        if {*parts.attend, parts.merge, parts.widen, parts.narrow} <= names:
            return parts
    raise ModelError(
        f"The layers of this {type(teacher.model).__name__} cannot be made narrower: encoders "
        "built like BERT, RoBERTa, ELECTRA or DistilBERT can. Keep their width, or use `make: "
        "transformer`."
    )


def influence(teacher: Encoder, planes_NPT: Tensor) -> Tensor:
    """`[L]` block influence of its layers on some texts."""
    scores: list[Tensor] = []
    count = 0
    with evaluating(teacher), torch.no_grad():
        for planes in _batches(planes_NPT):
            inside = planes[:, 1].bool()
            states = _states(teacher, planes)
            pairs = pairwise(states)
            turned = [
                1 - cosine_similarity(a[inside], b[inside], dim=-1).double() for a, b in pairs
            ]
            scores.append(torch.stack([each.sum() for each in turned]))
            count += int(inside.sum())
    return torch.stack(scores).sum(dim=0) / count


def importance(teacher: Encoder, planes_NPT: Tensor) -> Importance:
    """Scores of all that can be cut, on some texts.

    Args:
        teacher: left as it was found.
        planes_NPT: `[N, P, T]` int64, of a few hundred texts.

    Raises:
        ModelError: its layers are not built in a way that is known.
    """
    parts, stack = parts_of(teacher), stack_of(teacher)
    heads = teacher.sized("num_attention_heads")
    norms = [m for m in teacher.model.modules() if isinstance(m, nn.LayerNorm)]
    squares: dict[str, Tensor] = {}
    batch: list[Tensor] = []

    def watch(name: str, size: Callable[[Tensor], Tensor]) -> _Watch:
        def add(activation_BTC: Tensor) -> None:
            mask_BT1 = batch[-1][:, 1, :, None].to(activation_BTC.dtype)
            total_BC = (size(activation_BTC) * mask_BT1).sum(dim=1)
            mean_BC = (total_BC / mask_BT1.sum(dim=1).clamp(min=1)).double()
            squares[name] = squares.get(name, torch.zeros(())) + mean_BC.square().sum(dim=0)

        return add

    def of_heads(activation: Tensor) -> Tensor:
        apart = activation.reshape(*activation.shape[:-1], heads, -1)
        return torch.as_tensor(torch.linalg.vector_norm(apart, dim=-1))

    before: list[tuple[nn.Module, _Watch]] = []
    for number, layer in enumerate(stack):
        before.append((layer.get_submodule(parts.merge), watch(f"heads {number}", of_heads)))
        before.append((layer.get_submodule(parts.narrow), watch(f"neurons {number}", torch.abs)))
    after = [(norm, watch(f"norm {i}", torch.abs)) for i, norm in enumerate(norms)]
    with evaluating(teacher), torch.no_grad(), _watching(before, after):
        for planes in _batches(planes_NPT):
            batch[:] = [planes]
            teacher(planes)
    width = teacher.sized("hidden_size")
    seen = [squares[f"norm {i}"].sqrt() for i in range(len(norms)) if f"norm {i}" in squares]
    return Importance(
        layers=influence(teacher, planes_NPT),
        heads=torch.stack([squares[f"heads {i}"].sqrt() for i in range(len(stack))]),
        neurons=torch.stack([squares[f"neurons {i}"].sqrt() for i in range(len(stack))]),
        channels=torch.stack([each for each in seen if len(each) == width]).sum(dim=0),
    )


def most_important(scores_C: Tensor, count: int) -> list[int]:
    """The numbers of the `count` largest scores, in ascending order; ties to the lower number."""
    order = torch.sort(scores_C, descending=True, stable=True).indices
    return sorted(order[:count].tolist())


def _states(teacher: Encoder, planes_BPT: Tensor) -> Sequence[Tensor]:
    """Hidden states before the first layer and after each."""
    ids, mask, *types = planes_BPT.unbind(1)
    told = teacher.told(ids, mask, *types)
    states: Sequence[Tensor] = teacher.model(**told, output_hidden_states=True).hidden_states
    return states


def _batches(planes_NPT: Tensor) -> Iterator[Tensor]:
    for part in torch.split(planes_NPT.long(), BATCH):
        yield trimmed(part)


@contextmanager
def _watching(
    before: Sequence[tuple[nn.Module, _Watch]], after: Sequence[tuple[nn.Module, _Watch]]
) -> Iterator[None]:
    """Call each with what its module takes, or gives."""
    handles = [m.register_forward_pre_hook(lambda _, a, f=f: f(a[0])) for m, f in before]
    handles += [m.register_forward_hook(lambda _, __, out, f=f: f(out)) for m, f in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
