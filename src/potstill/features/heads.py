"""Linear maps that learn beside a student: always there, unlike projectors between equal shapes."""

from typing import final

from torch import Tensor, nn

from potstill.features.projectors import initial_weights
from potstill.functional.reductions import upcast


@final
class Head(nn.Module):
    """`x @ weight.T + bias` of vectors, in float32 or better, whatever the precision around it.

    Args:
        inputs: how many features come in.
        outputs: how many go out.
        seed: of the initial weights, uniform within ±1/√inputs as in `nn.Linear`.
        bias: whether there is one.
    """

    def __init__(self, inputs: int, outputs: int, *, seed: int, bias: bool = True) -> None:
        super().__init__()
        weight_ED, bias_E = initial_weights(inputs, outputs, seed=seed)
        self.weight = nn.Parameter(weight_ED)
        self.bias = nn.Parameter(bias_E) if bias else None

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """`[N, E]`."""
        return nn.functional.linear(upcast(vectors_ND), self.weight, self.bias)

    def describe(self) -> str:
        """What goes in and comes out."""
        return f"linear {self.weight.shape[1]} → {self.weight.shape[0]}"
