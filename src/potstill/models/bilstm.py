"""A recurrent student of texts: one LSTM each way over token vectors.

Shapes: B texts, L positions, D features of a token, H of a direction.
"""

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.initial import check_fraction, check_positive
from potstill.models.text import TextModel


class BiLSTM(TextModel):
    """The last states of an LSTM in each direction, a hidden layer and a linear one.

    As the student of Tang et al. 2019, arXiv:1903.12136, section 3.1. The second direction reads
    every text from its own last token, so padding changes nothing. Of pairs, both texts are one
    sequence.
    """

    def __init__(
        self, vocabulary: int, width: int, *, hidden: int, num_outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.ahead = nn.LSTM(width, hidden, batch_first=True)
        self.back = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(2 * hidden, hidden)
        self.head = nn.Linear(hidden, num_outputs)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """As in `TextModel`."""
        last_B = mask_BL.sum(dim=1).clamp(min=1) - 1
        places_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        mirrored_BL = (last_B[:, None] - places_L).clamp(min=0)
        states = [
            _last_state(self.ahead, self.dropout(self.embedding(ids_BL)), last_B),
            _last_state(
                self.back, self.dropout(self.embedding(ids_BL.gather(1, mirrored_BL))), last_B
            ),
        ]
        mixed_BH = torch.relu(self.mix(torch.cat(states, dim=1)))
        logits: Tensor = self.head(self.dropout(mixed_BH))
        return logits


def _last_state(lstm: nn.LSTM, vectors_BLD: Tensor, last_B: Tensor) -> Tensor:
    """`[B, H]`: what the LSTM says at each text's last token."""
    if torch.compiler.is_exporting():
        return _written_out(lstm, vectors_BLD, last_B)
    states_BLH, _ = lstm(vectors_BLD)
    rows_B1H = last_B[:, None, None].expand(-1, 1, states_BLH.shape[2])
    return torch.as_tensor(states_BLH.gather(1, rows_B1H)[:, 0])


def _written_out(lstm: nn.LSTM, vectors_BLD: Tensor, last_B: Tensor) -> Tensor:
    """The same as one operator of ONNX: torch.export knows LSTMs as a loop of fixed length.

    ONNX orders the gates input, output, forget, cell; torch input, forget, cell, output.
    """
    hidden, batch, length = lstm.hidden_size, vectors_BLD.shape[0], vectors_BLD.shape[1]

    def gates(weight: Tensor) -> Tensor:
        inner, forget, cell, outer = torch.split(weight, hidden)
        return torch.cat([inner, outer, forget, cell])

    biases = [gates(torch.as_tensor(b)) for b in (lstm.bias_ih_l0, lstm.bias_hh_l0)]
    given = (
        vectors_BLD.transpose(0, 1),
        gates(torch.as_tensor(lstm.weight_ih_l0))[None],
        gates(torch.as_tensor(lstm.weight_hh_l0))[None],
        torch.cat(biases)[None],
        (last_B + 1).to(torch.int32),
    )
    _, last_1BH = torch.onnx.ops.symbolic_multi_out(
        "LSTM",
        given,
        {"hidden_size": hidden},
        dtypes=(vectors_BLD.dtype, vectors_BLD.dtype),
        shapes=([length, 1, batch, hidden], [1, batch, hidden]),
    )
    return last_1BH[0]


def bilstm(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    vocabulary: int,
    width: int = 128,
    hidden: int = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """A BiLSTM of `hidden` units each way on token vectors of `width`.

    Raises:
        ModelError: for inputs that are no texts, or sizes below one.
    """
    if len(input_shape) != 2:
        raise ModelError(
            f"`bilstm` takes texts (planes, tokens), and the input shape is {input_shape}: use it "
            "with data of `kind: text`."
        )
    for name, size in (("vocabulary", vocabulary), ("width", width), ("hidden", hidden)):
        check_positive(name, size)
    check_fraction("dropout", dropout)
    return BiLSTM(vocabulary, width, hidden=hidden, num_outputs=num_outputs, dropout=dropout)
