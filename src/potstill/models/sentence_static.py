"""Static sentence encoders: a vector a token, their mean, no layers. And where the vectors start.

Shapes: B texts, L positions, V tokens of the vocabulary, D features.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.functional.similarity import principal_directions
from potstill.models.config import Json, ModelConfig
from potstill.models.initial import check_fraction, check_positive
from potstill.models.text import TextModel
from potstill.models.token_tables import rare_weights, tokens_alone

CHUNK = 1024  # tokens that the teacher is asked about at once


class StaticEncoder(TextModel):
    """The mean of the tokens' vectors, `[B, D]`.

    Args:
        vocabulary: V.
        width: D.
        normalise: whether embeddings have length 1.
        dropout: share of a text's tokens left out in training.
    """

    def __init__(self, vocabulary: int, width: int, *, normalise: bool, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.normalise, self.dropout = normalise, dropout
        nn.init.normal_(self.embedding.weight, std=0.1)

    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """As in `TextModel`."""
        kept_BL = mask_BL.to(self.embedding.weight.dtype)
        if self.training and self.dropout:
            kept_BL = F.dropout(kept_BL, self.dropout)
        total_BD = (self.embedding(ids_BL) * kept_BL[:, :, None]).sum(dim=1)
        mean_BD = total_BD / mask_BL.sum(dim=1, keepdim=True).clamp(min=1)
        return F.normalize(mean_BD, dim=-1) if self.normalise else mean_BD


def static(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    vocabulary: int,
    normalise: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """A static encoder of `num_outputs` features, random.

    Raises:
        ModelError: for inputs that are no texts, or sizes below one.
    """
    if len(input_shape) != 2:
        raise ModelError(
            f"`static` takes texts (planes, tokens), and the input shape is {input_shape}: use it "
            "with data of `kind: text`."
        )
    check_positive("vocabulary", vocabulary)
    check_fraction("dropout", dropout)
    return StaticEncoder(vocabulary, num_outputs, normalise=normalise, dropout=dropout)


def rebuildable_static(model: StaticEncoder, config: ModelConfig) -> ModelConfig:
    """The same encoder described by itself, so that its teacher is not needed."""
    options: dict[str, Json] = {
        "vocabulary": len(model.embedding.weight),
        "normalise": model.normalise,
        "dropout": model.dropout,
    }
    return replace(config, source="builtin", name="static", options=options)


def table_of(
    teacher: TextModel, vocabulary: int, *, frame: Sequence[int], width: int | None, sif: float
) -> Tensor:
    """`[V, D]`: what a teacher says of each token alone, reduced, and weighed by how rare it is.

    Each token is read between the marks of `frame`, as a text of one word. Their mean is taken off;
    the rest is turned onto its `width` main directions where these are fewer; and token number r is
    weighed with `sif / (sif + p)`, p ∝ 1 / r: vocabularies are ordered by how common tokens are
    (Zipf), and common ones say little (Arora et al. 2017, "A simple but tough-to-beat baseline for
    sentence embeddings"). The marks themselves start at zero.

    Args:
        teacher: in any mode; left as it was found.
        vocabulary: V.
        frame: numbers of the special tokens around a text; the last one stands after it.
        width: D; `None` for the teacher's.
        sif: the smaller, the less common tokens weigh; 0 weighs all alike.
    """
    was_training = teacher.training
    teacher.eval()
    parts = []
    with torch.no_grad():
        for ids_BL in tokens_alone(vocabulary, frame, together=CHUNK):
            parts.append(teacher.answer(ids_BL, torch.ones_like(ids_BL)))
    teacher.train(was_training)
    table_VD = torch.cat(parts)
    table_VD = table_VD - table_VD.mean(dim=0)  # what all tokens share tells no text from another
    if width is not None and width < table_VD.shape[1]:
        table_VD = table_VD @ principal_directions(table_VD, width)
    table_VD = table_VD * rare_weights(vocabulary, sif)[:, None].to(table_VD.dtype)
    table_VD[list(frame)] = 0
    return table_VD


def turned(encoder: StaticEncoder, directions_DW: Tensor) -> StaticEncoder:
    """The same encoder in other directions: its vectors times `[D, W]`."""
    table_VW = encoder.embedding.weight.detach() @ directions_DW
    made = StaticEncoder(*table_VW.shape, normalise=encoder.normalise, dropout=encoder.dropout)
    with torch.no_grad():
        made.embedding.weight.copy_(table_VW)
    return made.train(encoder.training)
