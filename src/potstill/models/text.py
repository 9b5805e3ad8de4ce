"""Models of texts: what they have in common, and the smallest of them, a bag of embeddings.

Shapes: B texts, P planes (token ids, attention mask, perhaps token types), L positions, D features.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.initial import check_fraction, check_positive


class TextModel(nn.Module, ABC):
    """A module from planes of tokens `[B, P, L]` to rows of numbers `[B, num_outputs]`."""

    def forward(self, planes_BPL: Tensor) -> Tensor:
        """Equivalent to `answer` of the planes, one by one."""
        return self.answer(*planes_BPL.long().unbind(1))

    @abstractmethod
    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """`[B, num_outputs]`.

        Args:
            ids_BL: int64, which tokens.
            mask_BL: int64, 1 where a token stands, 0 in the padding.
            types_BL: int64, of pairs, which text a token belongs to.
        """


class BagOfEmbeddings(TextModel):
    """The mean of the tokens' vectors and one linear layer (fastText, arXiv:1607.01759).

    Of pairs, both texts are one bag.
    """

    def __init__(self, vocabulary: int, width: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """As in `TextModel`."""
        kept_BL1 = mask_BL[:, :, None].to(self.embedding.weight.dtype)
        total_BD = (self.embedding(ids_BL) * kept_BL1).sum(dim=1)
        mean_BD = total_BD / kept_BL1.sum(dim=1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(mean_BD))
        return logits


def bag(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    vocabulary: int,
    width: int = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """A bag of embeddings of `width` for texts.

    Raises:
        ModelError: for inputs that are no texts, or sizes below one.
    """
    if len(input_shape) != 2:
        raise ModelError(
            f"`bag` takes texts (planes, tokens), and the input shape is {input_shape}: use it "
            "with data of `kind: text`."
        )
    check_positive("vocabulary", vocabulary)
    check_positive("width", width)
    check_fraction("dropout", dropout)
    return BagOfEmbeddings(vocabulary, width, num_outputs, dropout)
