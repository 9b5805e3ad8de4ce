"""Students of texts made from a teacher, as the teacher was found before the run trained it.

`make: layers` keeps some of its layers with their weights (DistilBERT, arXiv:1910.01108, section
3), and of these, if told, the most important channels, heads and neurons; `make: transformer` is a
small one of its type with random weights; `make: bilstm` and `make: bag` read its token vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.answering import Encoder, HuggingFaceTextClassifier
from potstill.models.bilstm import BiLSTM
from potstill.models.config import Json, ModelConfig
from potstill.models.encoder_decoder import TranslationModel
from potstill.models.huggingface import AUTO, rebuildable_huggingface
from potstill.models.importance import stack_of
from potstill.models.narrowed import Kept, narrowed
from potstill.models.options import nearest, read_options
from potstill.models.readers import bag_of_tokens, bilstm_of_tokens
from potstill.models.sentence import SentenceEncoder
from potstill.models.sentence_static import StaticEncoder, rebuildable_static
from potstill.models.sentence_students import sentence_student
from potstill.models.small import small_settings
from potstill.models.text import BagOfEmbeddings
from potstill.models.translators import shrunken_translation_model
from potstill.models.whisper import SpeechWriter

SOURCE = "shrunken"
Build = Callable[[ModelConfig], nn.Module]


def shrunken_config(teacher: ModelConfig, options: Mapping[str, Json]) -> ModelConfig:
    """The config of a student that is made from a teacher's config.

    Args:
        teacher: of source `hf`.
        options: `make`, and what that one takes: `layers` and `keep` (every_other, first; or
            influence), `width` and `ffn` of `layers`; `layers`, `width` and `heads` of
            `transformer`; `width`, `hidden` and `dropout` of `bilstm`; `width`, `dropout` and
            `table` of `bag`. What depends on texts comes from `calibrated_config`.
    """
    made: dict[str, Json] = {"source": teacher.source, "name": teacher.name}
    made["options"] = teacher.options
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
    teacher = build(teacher_of(config, origin))
    if isinstance(teacher, TranslationModel | SpeechWriter):
        return shrunken_translation_model(teacher, config.name, options)
    if isinstance(teacher, SentenceEncoder):
        return sentence_student(teacher, config.name, options, fewer_layers=_fewer_layers)
    if not isinstance(teacher, Encoder):
        raise ModelError(
            f"A student of source `teacher` is cut from a text model of source hf, and "
            f"`{teacher_of(config, origin).name}` is none: name the student's model itself."
        )
    if config.name not in _MAKERS:
        raise ModelError(f"`make: {config.name}` is unknown; {nearest(config.name, _MAKERS)}")
    make = _MAKERS[config.name]
    if make in (bag_of_tokens, bilstm_of_tokens) and not isinstance(
        teacher, HuggingFaceTextClassifier
    ):
        raise ModelError(
            f"`make: {config.name}` answers once a text, and the task asks about every word; use "
            "`layers` or `transformer`."
        )
    if make is _fewer_layers:
        chosen = options.pop("chosen", {})
        read = read_options(make, options, model="make: layers")
        return _cut(make(teacher, _indices(chosen, "layers"), **read), chosen)
    return make(teacher, **read_options(make, options, model=f"make: {config.name}"))


def teacher_of(config: ModelConfig, origin: Json) -> ModelConfig:
    """The config of the teacher that a student's config speaks of."""
    assert isinstance(origin, Mapping), "`shrunken_config` wrote it"
    return replace(
        config,
        source=str(origin["source"]),
        name=str(origin["name"]),
        options=_mapping(origin["options"]),
    )


def rebuildable_shrunken(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same student described by itself, so that its teacher is not needed."""
    if isinstance(model, StaticEncoder):
        return rebuildable_static(model, config)
    if isinstance(model, BagOfEmbeddings):
        vocabulary, width = model.embedding.weight.shape
        options: dict[str, Json] = {"vocabulary": vocabulary, "width": width}
        return replace(config, source="builtin", name="bag", options=options)
    if isinstance(model, BiLSTM):
        vocabulary, width = model.embedding.weight.shape
        hidden = model.ahead.hidden_size
        options = {"vocabulary": vocabulary, "width": width, "hidden": hidden}
        return replace(config, source="builtin", name="bilstm", options=options)
    return rebuildable_huggingface(model, replace(config, source="hf", options={}))


def kept_layers(total: int, layers: int, keep: str) -> list[int]:
    """Which layers stay: the first ones, or evenly spaced ones (0, 2, 4 of 6)."""
    if keep == "first":
        return list(range(layers))
    return [index * total // layers for index in range(layers)]


def _fewer_layers(
    teacher: Encoder,
    chosen: Sequence[int] = (),
    *,
    layers: int | None = None,
    keep: str = "every_other",
    width: int | None = None,
    ffn: int | None = None,
) -> nn.Module:
    """The teacher without some of its layers; it is changed and returned."""
    if keep not in ("every_other", "first", "influence"):
        raise ModelError(f"`keep: {keep}` is unknown; choose `every_other`, `first`, `influence`.")
    stack = stack_of(teacher)
    layers = len(stack) if layers is None else layers
    if not 0 < layers <= len(stack):
        raise ModelError(
            f"`layers: {layers}` cannot be kept of the teacher's {len(stack)}; give 1 to "
            f"{len(stack)}."
        )
    if not chosen and (keep == "influence" or width is not None or ffn is not None):
        raise ModelError(
            "`keep: influence`, `width` and `ffn` are chosen on texts; make the config with "
            "`calibrated_config`, as recipes do."
        )
    kept = [stack[index] for index in chosen or kept_layers(len(stack), layers, keep)]
    del stack[layers:]
    for index, layer in enumerate(kept):
        stack[index] = layer
    teacher.model.config.num_hidden_layers = layers  # type: ignore[union-attr]
    return teacher


def _cut(student: nn.Module, chosen: Json) -> nn.Module:
    """The same layers with the channels, heads and neurons that were chosen."""
    if not isinstance(chosen, Mapping) or "channels" not in chosen:
        return student
    assert isinstance(student, Encoder), "layers were taken out of one"
    kept = Kept(
        channels=_indices(chosen, "channels"),
        heads=[_numbers(row) for row in _rows(chosen["heads"])],
        neurons=[_numbers(row) for row in _rows(chosen["neurons"])],
    )
    return narrowed(student, kept)


def _indices(chosen: Json, name: str) -> list[int]:
    return _numbers(chosen[name]) if isinstance(chosen, Mapping) and name in chosen else []


def _rows(value: Json) -> Sequence[Json]:
    assert isinstance(value, Sequence), "`calibrated_config` wrote it"
    return value


def _numbers(value: Json) -> list[int]:
    return [int(str(number)) for number in _rows(value)]


def _small_transformer(teacher: Encoder, *, layers: int, width: int, heads: int) -> nn.Module:
    """One of the teacher's type with its vocabulary and random weights."""
    transformers = need("transformers", extra="text")
    settings = small_settings(teacher.model, layers=layers, width=width, heads=heads)
    auto = getattr(transformers, AUTO[type(teacher)])
    return type(teacher)(auto.from_config(settings, dtype=torch.float32).train())


def _mapping(value: Json) -> Mapping[str, Json]:
    assert isinstance(value, Mapping), "options are a mapping"
    return value


_MAKERS: Mapping[str, Callable[..., nn.Module]] = {
    "layers": _fewer_layers,
    "transformer": _small_transformer,
    "bilstm": bilstm_of_tokens,
    "bag": bag_of_tokens,
}
