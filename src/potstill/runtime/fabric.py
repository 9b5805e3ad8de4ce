"""One object for device, precision and processes, over Lightning Fabric."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, final

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger


class Precision(StrEnum):
    """The arithmetic of the student's forward and backward pass; terms are always float32."""

    FP32 = "32-true"
    BF16 = "bf16-mixed"
    FP16 = "16-mixed"


@final
class Runtime:
    """Device, precision and processes of one training run.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: how many processes of that device take part (data parallel).
        precision: see `Precision`.
        loggers: Fabric loggers (TensorBoard, MLflow, W&B) that metrics are also sent to.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        devices: int = 1,
        precision: Precision | str = Precision.FP32,
        loggers: Iterable["Logger"] = (),
    ) -> None:
        self.precision = Precision(precision)
        self._fabric = Fabric(
            accelerator=device,
            devices=devices,
            precision=self.precision.value,
            strategy="ddp" if devices > 1 else "auto",
            loggers=list(loggers),
        )

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self._fabric.device

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return self._fabric.global_rank

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        return self._fabric.world_size

    def launch(self) -> None:
        """Start the other processes. Nothing to do for one."""
        if self._fabric.strategy.launcher is not None:
            self._fabric.launch()

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Move to the device and wrap for precision and data parallelism."""
        wrapped, wrapped_optimizer = self._fabric.setup(module, optimizer)
        return wrapped, wrapped_optimizer

    def backward(self, loss: Tensor) -> None:
        """Back-propagate a loss that was divided by the count over *all* ranks.

        Data parallelism averages gradients over ranks; the factor that turns the average back
        into the sum is applied here and nowhere else.
        """
        self._fabric.backward(loss * self.world_size if self.world_size > 1 else loss)

    def sum_across_ranks(self, counts: tuple[Tensor | int, ...]) -> tuple[Tensor | int, ...]:
        """Each count, summed over all processes (one all-reduce)."""
        if self.world_size == 1 or not counts:
            return counts
        stacked = torch.stack(
            [torch.as_tensor(c, dtype=torch.float32, device=self.device) for c in counts]
        )
        return tuple(torch.as_tensor(self._fabric.all_reduce(stacked, reduce_op="sum")).unbind())

    def without_sync(self, module: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
        """Leave out the gradient exchange of all but the last micro-batch."""
        assert isinstance(module, _FabricModule), "modules are wrapped by `setup`"
        return self._fabric.no_backward_sync(module, enabled=enabled and self.world_size > 1)

    def clip(self, module: nn.Module, optimizer: Optimizer, max_norm: float) -> None:
        """Scale the gradients so that their norm is at most `max_norm`."""
        self._fabric.clip_gradients(module, optimizer, max_norm=max_norm, error_if_nonfinite=False)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision context, for what runs outside the wrapped module (the teacher)."""
        return self._fabric.autocast()

    def close(self) -> None:
        """Let the loggers finish."""
        for logger in self._fabric.loggers:
            logger.finalize("success")

    def precision_state(self) -> dict[str, object]:
        """The loss scale of `16-mixed`, for a checkpoint; nothing for other precisions."""
        return dict(self._fabric.strategy.precision.state_dict())

    def restore_precision(self, state: dict[str, object]) -> None:
        """Continue with the loss scale that `precision_state` gave."""
        self._fabric.strategy.precision.load_state_dict(state)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send figures to the loggers, if there are any."""
        if self._fabric.loggers:
            self._fabric.log_dict(values, step=step)
