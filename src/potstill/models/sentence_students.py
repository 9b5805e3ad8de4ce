"""Students of a sentence encoder that are made from it: a small transformer, a static one."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json
from potstill.models.initial import check_fraction, check_positive
from potstill.models.options import nearest, read_options
from potstill.models.sentence import SentenceEncoder
from potstill.models.sentence_static import StaticEncoder, table_of
from potstill.models.small import small_settings


def sentence_student(
    teacher: SentenceEncoder,
    name: str,
    options: Mapping[str, Json],
    *,
    fewer_layers: Callable[..., nn.Module],
) -> nn.Module:
    """The student of a sentence encoder that `make: name` asks for.

    Args:
        teacher: may be changed and returned.
        name: layers, transformer or static.
        options: of that one.
        fewer_layers: makes the student of `layers`, as of classifiers.

    Raises:
        ModelError: an unknown name or option, or sizes that make no sense.
    """
    makers: dict[str, Callable[..., nn.Module]] = {
        "layers": fewer_layers,
        "transformer": small_encoder,
        "static": static_encoder,
    }
    if name not in makers:
        raise ModelError(f"`make: {name}` is unknown; {nearest(name, makers)}")
    make = makers[name]
    return make(teacher, **read_options(make, options, model=f"make: {name}"))


def small_encoder(
    teacher: SentenceEncoder, *, layers: int, width: int, heads: int
) -> SentenceEncoder:
    """One of the teacher's type with its vocabulary and pooling, and random weights."""
    transformers = need("transformers", extra="text")
    settings = small_settings(teacher.model, layers=layers, width=width, heads=heads)
    inner = transformers.AutoModel.from_config(settings, dtype=torch.float32)
    return SentenceEncoder(inner.train(), pooling=teacher.pooling, normalise=teacher.normalise)


def static_encoder(
    teacher: SentenceEncoder,
    *,
    width: int | None = None,
    dropout: float = 0.0,
    sif: float = 1e-4,
    frame: tuple[int, ...] = (),
) -> StaticEncoder:
    """The mean of token vectors, which start as what the teacher says of each token alone."""
    table = teacher.model.get_input_embeddings().weight  # type: ignore[operator]
    size = int(teacher.settings().get("hidden_size", table.shape[1]))
    if width is not None:
        check_positive("width", width)
        if width > size:
            raise ModelError(
                f"`width: {width}` of a static student is more than the teacher's {size} features; "
                "give fewer, or leave it out."
            )
    check_fraction("dropout", dropout)
    if sif < 0:
        raise ModelError(f"`sif: {sif}` weighs tokens, and must be 0 or more.")
    start = table_of(teacher, len(table), frame=frame, width=width, sif=sif)
    made = StaticEncoder(*start.shape, normalise=teacher.normalise, dropout=dropout)
    with torch.no_grad():
        made.embedding.weight.copy_(start)
    return made
