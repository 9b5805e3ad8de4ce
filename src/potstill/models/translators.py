"""Students of encoder-decoders: fewer layers of the teacher's, or a small one of its type.

Decoder layers cost one pass for each token that is written, encoder layers one for each text, so
students with a deep encoder and a shallow decoder are fast (Kasai et al. 2021, arXiv:2006.10369).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json
from potstill.models.encoder_decoder import TranslationModel
from potstill.models.options import nearest, read_options
from potstill.models.whisper import SpeechWriter

# What families call the same size: T5's words, Marian's and BART's.
_ENCODER_LAYERS = ("num_layers", "encoder_layers", "num_hidden_layers")
_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
_HEADS = ("num_heads", "encoder_attention_heads", "decoder_attention_heads")
_INNER = ("d_ff", "encoder_ffn_dim", "decoder_ffn_dim")


Writing = TranslationModel | SpeechWriter


def shrunken_translation_model(
    teacher: Writing, name: str, options: Mapping[str, Json]
) -> nn.Module:
    """The student that `make: <name>` makes of a teacher, which is changed.

    Raises:
        ModelError: an unknown maker or option, or layers that the teacher does not have.
    """
    if name not in _MAKERS:
        raise ModelError(f"`make: {name}` is unknown; {nearest(name, _MAKERS)}")
    make = _MAKERS[name]
    made: nn.Module = make(teacher, **read_options(make, options, model=f"make: {name}"))
    return made


def spread(total: int, kept: int) -> list[int]:
    """Which of `total` layers stay: the first, the last, and evenly spaced ones between.

    The first always stays, because T5's carries the relative positions of all.

    The choice of distil-whisper (Gandhi et al. 2023, arXiv:2311.00430, section 4) and of Shleifer
    and Rush 2020 (arXiv:2010.13002); of one layer the first stays.
    """
    if kept == 1:
        return [0]
    return [round(index * (total - 1) / (kept - 1)) for index in range(kept)]


def _fewer_layers(
    teacher: Writing,
    *,
    decoder_layers: int | None = None,
    encoder_layers: int | None = None,
    keep: str = "spread",
    freeze_encoder: bool = False,
) -> nn.Module:
    """The teacher without some of its layers, with the weights of the others.

    `freeze_encoder` keeps the encoder of a model that hears as it is, so that one run of it serves
    teacher and student (distil-whisper, Gandhi et al. 2023, arXiv:2311.00430).
    """
    if keep not in ("spread", "first"):
        raise ModelError(f"`keep: {keep}` is unknown; choose `spread` or `first`.")
    if decoder_layers is None and encoder_layers is None:
        raise ModelError(
            "A student of `make: layers` needs `decoder_layers` (or `encoder_layers`), how many "
            "are kept of the teacher's."
        )
    if freeze_encoder:
        if not isinstance(teacher, SpeechWriter) or encoder_layers is not None:
            raise ModelError(
                "`freeze_encoder` is for models that hear, and with all of the encoder's layers; "
                "leave it or `encoder_layers` out."
            )
        teacher = SpeechWriter(
            teacher.model, sampling_rate=teacher.front.sampling_rate, freeze_encoder=True
        )
    inner = cast("Any", teacher.model)
    for wanted, stack, names in (
        (encoder_layers, inner.get_encoder(), _ENCODER_LAYERS),
        (decoder_layers, inner.get_decoder(), _DECODER_LAYERS),
    ):
        if wanted is not None:
            _cut(stack, wanted, keep)
            _set(inner.config, names, wanted)
    return teacher


def _cut(stack: nn.Module, wanted: int, keep: str) -> None:
    layers = _layers_of(stack)
    if not 0 < wanted <= len(layers):
        raise ModelError(
            f"{wanted} layers cannot be kept of the {len(layers)} of {type(stack).__name__}; give "
            f"1 to {len(layers)}."
        )
    chosen = list(range(wanted)) if keep == "first" else spread(len(layers), wanted)
    kept = [layers[index] for index in chosen]
    del layers[wanted:]
    for index, layer in enumerate(kept):
        layers[index] = layer
        for module in layer.modules():
            if hasattr(module, "layer_idx") and module.layer_idx is not None:
                setattr(module, "layer_idx", index)  # noqa: B010  its place in the cache


def _layers_of(stack: nn.Module) -> nn.ModuleList:
    for name in ("layers", "block"):
        layers = getattr(stack, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise ModelError(
        f"The layers of {type(stack).__name__} are not one list, so none can be taken out: use "
        "`make: transformer`."
    )


def _set(settings: object, names: Sequence[str], value: int) -> None:
    """Set the first words that a config knows of its own (not as another word for one)."""
    own = cast("Any", settings).to_dict()
    for name in names:
        if name in own:
            setattr(settings, name, value)


def _small_transformer(
    teacher: Writing,
    *,
    encoder_layers: int,
    decoder_layers: int,
    width: int,
    heads: int,
    inner: int | None = None,
) -> nn.Module:
    """One of the teacher's type with its vocabulary and random weights."""
    if min(encoder_layers, decoder_layers, width, heads) < 1 or width % heads:
        raise ModelError(
            f"`width: {width}` must be a multiple of `heads: {heads}`, and all sizes at least 1 "
            f"(`encoder_layers: {encoder_layers}`, `decoder_layers: {decoder_layers}`)."
        )
    transformers = need("transformers", extra="text")
    settings = deepcopy(cast("Any", teacher.model).config)
    known = settings.to_dict()
    for names, value in (
        (_ENCODER_LAYERS, encoder_layers),
        (_DECODER_LAYERS, decoder_layers),
        (_HEADS, heads),
        (_INNER, inner or 4 * width),
        (("d_model",), width),
        (("d_kv",), width // heads),
    ):
        for name in names:
            if name in known:
                setattr(settings, name, value)
    if isinstance(teacher, SpeechWriter):
        hearing = transformers.WhisperForConditionalGeneration(settings)
        return SpeechWriter(hearing.train(), sampling_rate=teacher.front.sampling_rate)
    model = transformers.AutoModelForSeq2SeqLM.from_config(settings, dtype=torch.float32)
    return TranslationModel(model.train())


_MAKERS: Mapping[str, Callable[..., nn.Module]] = {
    "layers": _fewer_layers,
    "transformer": _small_transformer,
}
