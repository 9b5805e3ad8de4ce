"""Small students that read a teacher's token vectors: a bag and a BiLSTM."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.answering import Encoder
from potstill.models.bilstm import BiLSTM
from potstill.models.static import distilled_table
from potstill.models.text import BagOfEmbeddings


def bag_of_tokens(
    teacher: Encoder,
    *,
    width: int | None = None,
    dropout: float = 0.0,
    table: Literal["teacher", "distilled"] = "teacher",
    frame: tuple[int, ...] = (),
) -> nn.Module:
    """The mean of token vectors: the teacher's own, distilled from it, or random of a width."""
    if table == "distilled":
        if not frame:
            raise ModelError(
                "`table: distilled` needs the special tokens around a text; make the config with "
                "`calibrated_config`, as recipes do."
            )
        return _with_table(
            teacher, distilled_table(teacher, width=width or 256, frame=frame), dropout
        )
    vectors = _token_vectors(teacher)
    if width is None:
        return _with_table(teacher, vectors, dropout)
    return BagOfEmbeddings(len(vectors), width, _num_labels(teacher), dropout)


def _with_table(teacher: Encoder, table_VW: Tensor, dropout: float) -> BagOfEmbeddings:
    vocabulary, width = table_VW.shape
    made = BagOfEmbeddings(vocabulary, width, _num_labels(teacher), dropout)
    with torch.no_grad():
        made.embedding.weight.copy_(table_VW)
    return made


def bilstm_of_tokens(
    teacher: Encoder,
    *,
    width: int | None = None,
    hidden: int = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """An LSTM each way on the teacher's token vectors, or on random ones of a width."""
    vectors = _token_vectors(teacher)
    outputs = _num_labels(teacher)
    vocabulary, wide = vectors.shape
    made = BiLSTM(vocabulary, width or wide, hidden=hidden, num_outputs=outputs, dropout=dropout)
    if width is None:
        with torch.no_grad():
            made.embedding.weight.copy_(vectors)
    return made


def _token_vectors(teacher: Encoder) -> Tensor:
    vectors: Tensor = cast("Any", teacher.model).get_input_embeddings().weight.detach()
    return vectors


def _num_labels(teacher: Encoder) -> int:
    return teacher.sized("num_labels")
