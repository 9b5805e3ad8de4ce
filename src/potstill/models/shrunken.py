"""Students of texts made from a teacher, as the teacher was found before the run trained it.

`make: layers` keeps some of its layers with their weights (DistilBERT, arXiv:1910.01108, section
3), `make: transformer` is a small one of its type with random weights, `make: bag` is the mean of
its token vectors with a linear layer.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.encoder_decoder import TranslationModel
from potstill.models.huggingface import HuggingFaceTextClassifier, rebuildable_huggingface
from potstill.models.options import nearest, read_options
from potstill.models.text import BagOfEmbeddings
from potstill.models.translators import shrunken_translation_model

SOURCE = "shrunken"
Build = Callable[[ModelConfig], nn.Module]


def shrunken_config(teacher: ModelConfig, options: Mapping[str, Json]) -> ModelConfig:
    """The config of a student that is made from a teacher's config.

    Args:
        teacher: of source `hf`.
        options: `make`, and what that one takes: `layers` and `keep` (every_other, first) of
            `layers`; `layers`, `width` and `heads` of `transformer`; `width` and `dropout` of
            `bag`, which starts from the teacher's table where no width is given.
    """
    made = {"source": teacher.source, "name": teacher.name, "options": teacher.options}
    return replace(
        teacher,
        source=SOURCE,
        name=str(options.get("make", "layers")),
        options={**{k: v for k, v in options.items() if k != "make"}, "teacher": made},
    )


def build_shrunken(config: ModelConfig, build: Build) -> nn.Module:
    """The student of a config that `shrunken_config` made.

    Args:
        config: the student's.
        build: makes the teacher from its config.

    Raises:
        ModelError: the teacher is no text classifier of Transformers, or cannot be cut so.
    """
    options = dict(config.options)
    origin = options.pop("teacher")
    assert isinstance(origin, Mapping), "`shrunken_config` wrote it"
    teacher = build(
        replace(
            config,
            source=str(origin["source"]),
            name=str(origin["name"]),
            options=_mapping(origin["options"]),
        )
    )
    if isinstance(teacher, TranslationModel):
        return shrunken_translation_model(teacher, config.name, options)
    if not isinstance(teacher, HuggingFaceTextClassifier):
        raise ModelError(
            f"A student of source `teacher` is cut from a text model of source hf, and "
            f"`{origin['name']}` is none: name the student's model itself."
        )
    if config.name not in _MAKERS:
        raise ModelError(f"`make: {config.name}` is unknown; {nearest(config.name, _MAKERS)}")
    make = _MAKERS[config.name]
    return make(teacher, **read_options(make, options, model=f"make: {config.name}"))


def rebuildable_shrunken(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same student described by itself, so that its teacher is not needed."""
    if isinstance(model, BagOfEmbeddings):
        vocabulary, width = model.embedding.weight.shape
        options: dict[str, Json] = {"vocabulary": vocabulary, "width": width}
        return replace(config, source="builtin", name="bag", options=options)
    return rebuildable_huggingface(model, replace(config, source="hf", options={}))


def kept_layers(total: int, layers: int, keep: str) -> list[int]:
    """Which layers stay: the first ones, or evenly spaced ones (0, 2, 4 of 6)."""
    if keep == "first":
        return list(range(layers))
    return [index * total // layers for index in range(layers)]


def _fewer_layers(
    teacher: HuggingFaceTextClassifier, *, layers: int, keep: str = "every_other"
) -> nn.Module:
    """The teacher without some of its layers; it is changed and returned."""
    if keep not in ("every_other", "first"):
        raise ModelError(f"`keep: {keep}` is unknown; choose `every_other` or `first`.")
    stack = _stack_of(teacher)
    if not 0 < layers <= len(stack):
        raise ModelError(
            f"`layers: {layers}` cannot be kept of the teacher's {len(stack)}; give 1 to "
            f"{len(stack)}."
        )
    kept = [stack[index] for index in kept_layers(len(stack), layers, keep)]
    del stack[layers:]
    for index, layer in enumerate(kept):
        stack[index] = layer
    teacher.model.config.num_hidden_layers = layers  # type: ignore[union-attr]
    return teacher


def _small_transformer(
    teacher: HuggingFaceTextClassifier, *, layers: int, width: int, heads: int
) -> nn.Module:
    """One of the teacher's type with its vocabulary and random weights."""
    if min(layers, width, heads) < 1 or width % heads:
        raise ModelError(
            f"`width: {width}` must be a multiple of `heads: {heads}`, and all sizes at least 1 "
            f"(`layers: {layers}`)."
        )
    transformers = need("transformers", extra="text")
    settings = deepcopy(teacher.model.config)
    changes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "hidden_dim": 4 * width,  # DistilBERT's word for it
    }
    for name, value in changes.items():
        if hasattr(settings, name):
            setattr(settings, name, value)
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_config(settings, dtype=torch.float32)
    return HuggingFaceTextClassifier(model.train())


def _bag(
    teacher: HuggingFaceTextClassifier, *, width: int | None = None, dropout: float = 0.0
) -> nn.Module:
    """The mean of token vectors; from the teacher's table unless another width is wanted."""
    table = teacher.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
    outputs = teacher.model.config.num_labels  # type: ignore[union-attr]
    made = BagOfEmbeddings(len(table), width or table.shape[1], outputs, dropout)
    if width is None:
        with torch.no_grad():
            made.embedding.weight.copy_(table)
    return made


def _stack_of(teacher: HuggingFaceTextClassifier) -> nn.ModuleList:
    """The one list of as many modules as the config counts layers."""
    count = getattr(teacher.model.config, "num_hidden_layers", 0)
    lists = [m for m in teacher.model.modules() if isinstance(m, nn.ModuleList)]
    found: Sequence[nn.ModuleList] = [m for m in lists if len(m) == count]
    if len(found) != 1:
        raise ModelError(
            f"The layers of this {type(teacher.model).__name__} are not one list of {count}, so "
            "none can be taken out: use `make: transformer` or `make: bag`."
        )
    return found[0]


def _mapping(value: Json) -> Mapping[str, Json]:
    assert isinstance(value, Mapping), "options are a mapping"
    return value


_MAKERS: Mapping[str, Callable[..., nn.Module]] = {
    "layers": _fewer_layers,
    "transformer": _small_transformer,
    "bag": _bag,
}
