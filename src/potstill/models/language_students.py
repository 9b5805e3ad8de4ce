"""Students of language models made from a teacher, as it was found before the run trained it.

`make: layers` keeps some layers, and of these, if told, the most important channels, neurons and
heads; `make: transformer` is a small one of the teacher's type and vocabulary with random weights.
What is important is measured once on training texts and written into the student's config, so that
every seed and every later reading makes the same student.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.create import create_model
from potstill.models.language import LanguageModel
from potstill.models.language_importance import (
    Importance,
    importance,
    influence,
    is_gated,
    most_important,
)
from potstill.models.language_slices import sliced, smaller
from potstill.models.options import nearest, read_options
from potstill.models.shrunken import kept_layers, shrunken_config

KEEPS = ("every_other", "first", "influence")
_SIZES = ("width", "ffn", "heads")


def language_student_config(
    teacher: ModelConfig,
    options: Mapping[str, Json],
    *,
    texts: Callable[[], Tensor],
    trust: bool = False,
) -> ModelConfig:
    """Equivalent to `shrunken_config`, with what is measured on texts chosen.

    Args:
        teacher: config of the language model that the student is made from.
        options: `make` (layers, transformer) and its options: `layers`, `keep`, `width` (channels
            of the hidden state), `ffn` (neurons a layer), `heads` (a layer).
        texts: gives planes `[N, P, L]` to measure on; not asked without need.
        trust: whether code that the teacher's config names may run.

    Raises:
        ModelError: options that do not fit the teacher.
    """
    measured = options.get("keep") == "influence" or any(size in options for size in _SIZES)
    if options.get("make", "layers") != "layers" or not measured:
        return shrunken_config(teacher, options)
    model = create_model(teacher, seed=0, trust=trust)
    assert isinstance(model, LanguageModel), "the config is of a causal language model"
    planes = texts()
    if any(size in options for size in _SIZES):
        scores = importance(model, planes)
    else:
        scores = Importance(influence(model, planes), *(torch.empty(0),) * 3)
    return shrunken_config(teacher, {**options, "chosen": _chosen(model, options, scores)})


def build_language_student(
    teacher: nn.Module, name: str, options: Mapping[str, Json]
) -> LanguageModel:
    """The student of a config that `language_student_config` made.

    Args:
        teacher: the language model that its config describes.
        name: what is made.
        options: less `make` and `teacher`.

    Raises:
        ModelError: the teacher is no language model, or cannot be cut so.
    """
    if not isinstance(teacher, LanguageModel):
        raise ModelError(
            f"A student of source `teacher` is cut from a language model of source hf, and a "
            f"{type(teacher).__name__} is none; name the student's model itself."
        )
    makers: Mapping[str, Callable[..., LanguageModel]] = {
        "layers": _cut,
        "transformer": _small_transformer,
    }
    if name not in makers:
        raise ModelError(f"`make: {name}` is unknown; {nearest(name, makers)}")
    given = dict(options)
    chosen = given.pop("chosen", None)
    read = read_options(makers[name], given, model=f"make: {name}")
    if name == "layers":
        return _cut(teacher, chosen, **cast("Any", read))
    return makers[name](teacher, **read)


def _chosen(
    model: LanguageModel, options: Mapping[str, Json], scores: Importance
) -> dict[str, Json]:
    """Which layers stay, and of each layer which heads and neurons; which channels of all."""
    config = cast("Any", model.model).config
    total = config.num_hidden_layers
    layers, keep = _whole(options, "layers", total), str(options.get("keep", "every_other"))
    _check_layers(layers, total, keep)
    kept = kept_layers(total, layers, keep)
    if keep == "influence":
        kept = most_important(scores.layers, layers)
    found: dict[str, Json] = {"layers": kept}
    width = _whole(options, "width", config.hidden_size)
    if width < config.hidden_size:
        found["channels"] = most_important(scores.channels, width)
    neurons = _whole(options, "ffn", config.intermediate_size)
    if neurons < config.intermediate_size:
        found["neurons"] = [most_important(scores.neurons[i], neurons) for i in kept]
    heads = _whole(options, "heads", config.num_attention_heads)
    if heads < config.num_attention_heads:
        found["heads"] = [_heads(scores.heads[i], heads, config.num_key_value_heads) for i in kept]
    return found


def _heads(scores_H: Tensor, heads: int, groups: int) -> list[int]:
    """The best of each group that shares keys and values, as many in each."""
    if heads % groups:
        raise ModelError(
            f"`heads: {heads}` must be a multiple of the {groups} heads of keys and values, which "
            "all stay."
        )
    size = len(scores_H) // groups
    return [
        group * size + best
        for group in range(groups)
        for best in most_important(scores_H[group * size : (group + 1) * size], heads // groups)
    ]


def _cut(
    teacher: LanguageModel,
    chosen: Json = None,
    *,
    layers: int | None = None,
    keep: str = "every_other",
    width: int | None = None,
    ffn: int | None = None,
    heads: int | None = None,
) -> LanguageModel:
    """A model of its own with the weights of what stays."""
    inner = cast("Any", teacher.model)
    total = inner.config.num_hidden_layers
    if isinstance(chosen, Mapping):
        kept = [int(str(i)) for i in cast("Sequence[Json]", chosen["layers"])]
    elif keep == "influence" or any(size is not None for size in (width, ffn, heads)):
        raise ModelError(
            "`keep: influence`, `width`, `ffn` and `heads` are chosen on texts; make the config "
            "with `language_student_config`, as recipes do."
        )
    else:
        layers = total if layers is None else layers
        _check_layers(layers, total, keep)
        chosen, kept = {}, kept_layers(total, layers, keep)
    settings = smaller(inner.config, kept, chosen)
    transformers = need("transformers", extra="text")
    made = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    weights = sliced(teacher, kept, chosen)
    made.load_state_dict({name: weights[name] for name in made.state_dict()})
    return LanguageModel(made.train())


def _small_transformer(
    teacher: LanguageModel, *, layers: int, width: int, heads: int, ffn: int | None = None
) -> LanguageModel:
    """One of the teacher's type with its vocabulary and random weights."""
    if min(layers, width, heads) < 1 or width % heads:
        raise ModelError(
            f"`width: {width}` must be a multiple of `heads: {heads}`, and all sizes at least 1 "
            f"(`layers: {layers}`)."
        )
    settings = deepcopy(cast("Any", teacher.model).config)
    groups = getattr(settings, "num_key_value_heads", None)
    changes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    if is_gated(teacher):
        changes |= {"intermediate_size": ffn or 4 * width, "head_dim": width // heads}
        shared = [g for g in range(1, heads + 1) if heads % g == 0 and g <= (groups or heads)]
        changes["num_key_value_heads"] = max(shared)
    for name, value in changes.items():
        setattr(settings, name, value)
    if getattr(settings, "layer_types", None) is not None:
        settings.layer_types = settings.layer_types[:layers]
    transformers = need("transformers", extra="text")
    made = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return LanguageModel(made.train())


def _check_layers(layers: int, total: int, keep: str) -> None:
    if keep not in KEEPS:
        raise ModelError(f"`keep: {keep}` is unknown; {nearest(keep, KEEPS)}")
    if not 0 < layers <= total:
        raise ModelError(
            f"`layers: {layers}` cannot be kept of the teacher's {total}; give 1 to {total}."
        )


def _whole(options: Mapping[str, Json], name: str, most: int) -> int:
    value = options.get(name, most)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ModelError(
            f"`{name}: {value}` must be a whole number from 1 to the teacher's {most}."
        )
    return value
