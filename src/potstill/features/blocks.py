"""Names for the parts of a transformer, whoever wrote it: taps take them beside module names.

| name | what it holds |
|---|---|
| `embeddings` | what goes into the first block, `[B, L, D]` |
| `blocks.0`, `blocks.-1` | the output of a block, counted from the first or the last, `[B, L, D]` |
| `blocks.2/3` | the block that ends the second third: a depth, in models of any number of blocks |
| `blocks.-1.query`, `.key`, `.value` | its projections with the heads apart, `[B, H, L, d]` |
| `blocks.-1.scores` | `query · key / √d` before the softmax, padding included, `[B, H, L, L]` |

Projections and scores are read from linear layers, so they do not depend on which attention kernel
runs and need none that returns its weights. Models whose attention adds something to `query · key`
(relative or rotary positions) have no `scores`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Final, final

from torch import Tensor, nn

_PROJECTIONS: Final = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
    ("q", "k", "v"),
)
_PARTS: Final = ("query", "key", "value")
_PLAIN: Final = frozenset(
    {"bert", "camembert", "deit", "distilbert", "electra", "roberta", "vit", "xlm-roberta"}
)
"""Types of Transformers whose attention is the softmax of `query · key / √d` and nothing else."""


@final
@dataclass(frozen=True)
class Part:
    """Which modules are read, and how their outputs become one tensor."""

    modules: tuple[str, ...]
    read: Callable[..., Tensor]


def part_names(model: nn.Module) -> tuple[str, ...]:
    """Every name of the table above that this model has a part for."""
    return tuple(name for name, _ in _parts(model))


def find_part(model: nn.Module, name: str) -> Part | None:
    """The part of that name, if the model has it."""
    return next((part for known, part in _parts(model) if known == name), None)


def _parts(model: nn.Module) -> Iterator[tuple[str, Part]]:
    blocks = _stack(model)
    if not blocks:
        return
    yield from _embeddings(model)
    offered = [dict(_of_block(model, name)) for name in blocks]
    for label, number in _labels(len(blocks)):
        for suffix, part in offered[number].items():
            yield f"blocks.{label}{suffix}", part


def _labels(count: int) -> Iterator[tuple[str, int]]:
    """All ways to name a block, and its number."""
    for number in range(count):
        yield str(number), number
    for number in range(count):
        yield str(number - count), number
    for shares in range(1, count + 1):
        for share in range(1, shares + 1):
            yield f"{share}/{shares}", -(-share * count // shares) - 1


def _stack(model: nn.Module) -> list[str]:
    """The names of the blocks: those of the one list of as many as the config says, else none."""
    known = _setting(model, "num_hidden_layers")
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(each) for each in module}) == 1
    ]
    if known is not None:
        lists = [(name, module) for name, module in lists if len(module) == known]
    outer = [
        (name, module)
        for name, module in lists
        if not any(name.startswith(f"{other}.") for other, _ in lists)
    ]
    if len(outer) != 1:
        return []
    name, module = outer[0]
    return [".".join(filter(None, (name, str(index)))) for index in range(len(module))]


def _embeddings(model: nn.Module) -> Iterator[tuple[str, Part]]:
    found = [n for n, _ in model.named_modules() if n.rpartition(".")[2] == "embeddings"]
    found.sort(key=lambda name: name.count("."))
    if found and (len(found) == 1 or found[0].count(".") < found[1].count(".")):
        yield "embeddings", Part((found[0],), _as_it_is)


def _of_block(model: nn.Module, name: str) -> Iterator[tuple[str, Part]]:
    yield "", Part((name,), _as_it_is)
    heads = _setting(model, "num_attention_heads")
    places = _attention(model.get_submodule(name))
    if heads is None or places is None:
        return
    query = model.get_submodule(f"{name}.{places[0]}")
    assert isinstance(query, nn.Linear), "`_attention` looked"
    if query.out_features % heads:
        return
    modules = [f"{name}.{place}" for place in places]
    apart = partial(_heads_apart, size=query.out_features // heads)
    for part, module in zip(_PARTS, modules, strict=True):
        yield f".{part}", Part((module,), apart)
    if _is_plain(model):
        yield ".scores", Part((modules[0], modules[1]), partial(_scores, apart=apart))


def _attention(block: nn.Module) -> tuple[str, ...] | None:
    """Where query, key and value are made, if that is one place with three linear layers."""
    found = []
    for name, module in block.named_modules():
        children = dict(module.named_children())
        for names in _PROJECTIONS:
            if all(isinstance(children.get(each), nn.Linear) for each in names):
                found.append(tuple(".".join(filter(None, (name, each))) for each in names))
    return found[0] if len(found) == 1 else None


def _is_plain(model: nn.Module) -> bool:
    kind = next((c for c in _configs(model) if hasattr(c, "model_type")), None)
    if getattr(kind, "is_decoder", False):
        return False
    if getattr(kind, "position_embedding_type", "absolute") not in (None, "absolute"):
        return False
    return getattr(kind, "model_type", None) in _PLAIN


def _setting(model: nn.Module, name: str) -> int | None:
    """A number in the first config that has it; Transformers keeps one in every model."""
    for config in _configs(model):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None


def _configs(model: nn.Module) -> Iterator[object]:
    for module in model.modules():
        config = vars(module).get("config")
        if config is not None:
            yield config


def _as_it_is(output: Tensor) -> Tensor:
    return output


def _heads_apart(output_BLD: Tensor, *, size: int) -> Tensor:
    """`[B, H, L, d]` with d of `size`."""
    return output_BLD.reshape(*output_BLD.shape[:-1], -1, size).transpose(1, 2)


def _scores(query_BLD: Tensor, key_BLD: Tensor, *, apart: Callable[[Tensor], Tensor]) -> Tensor:
    query_BHLd, key_BHLd = apart(query_BLD), apart(key_BLD)
    repeats = query_BHLd.shape[1] // key_BHLd.shape[1]  # of grouped queries
    if repeats > 1:
        key_BHLd = key_BHLd.repeat_interleave(repeats, dim=1)
    return query_BHLd @ key_BHLd.transpose(-1, -2) / sqrt(query_BHLd.shape[-1])
