"""How far a batch is from the data that a model's batch norms have seen."""

from types import TracebackType
from typing import Self, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@final
class NormStatistics:
    r"""Compares each batch norm's running statistics with those of the batch that goes through.

    Formula: $\sum_l \lVert \mu_l(x) - \mu_l \rVert_2
        + \lVert \sigma^2_l(x) - \sigma^2_l \rVert_2$ over the inputs of the batch norms l.
    Paper: Yin et al. 2020 (DeepInversion), arXiv:1912.08795, equation 4.

    Use it as a context around calls of the model; `loss()` is of the last call.

    Args:
        model: in eval mode, with batch norms that track statistics.

    Raises:
        ModelError: there is none.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, _NORMS)]
        self._norms = [m for m in self._norms if m.running_mean is not None]
        if not self._norms:
            raise ModelError(
                "The teacher has no batch norm whose statistics could be met; give one that has "
                "(cnn, resnet), or use a transfer set."
            )
        self._distances: list[Tensor] = []

    def __enter__(self) -> Self:
        self._hooks = [norm.register_forward_pre_hook(self._see) for norm in self._norms]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def loss(self) -> Tensor:
        """The distance of the last batch, a scalar with gradient; another call begins anew."""
        total = torch.stack(self._distances).sum()
        self._distances = []
        return total

    def _see(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        (values,) = args
        axes = [0, *range(2, values.ndim)]
        variance, mean = torch.var_mean(values, dim=axes, correction=0)
        expected, spread = norm.running_mean, norm.running_var
        assert isinstance(expected, Tensor)
        assert isinstance(spread, Tensor)
        self._distances.append((mean - expected).norm() + (variance - spread).norm())
