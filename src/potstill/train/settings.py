"""The knobs of a training run, and what they make: an optimiser and a learning-rate schedule."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from potstill.errors import RecipeError


class OptimizerName(StrEnum):
    """Optimisers of `torch.optim`."""

    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"  # Nesterov momentum


class ScheduleName(StrEnum):
    """How the learning rate moves after the warm-up."""

    COSINE = "cosine"  # to zero at the last step
    CONSTANT = "constant"
    STEP = "step"  # times 0.1 at each milestone


class Select(StrEnum):
    """Which epoch's weights are the result."""

    BEST = "best"  # by the primary metric on validation data, the latest of equals
    LAST = "last"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How long, how fast and with what a model is trained.

    Args:
        epochs: passes over the training data.
        batch_size: rows of one optimiser step, over all processes and micro-batches.
        accumulate: split each batch into this many micro-batches (less memory, same gradient).
        optimizer: see `OptimizerName`.
        lr: peak learning rate.
        weight_decay: of the optimiser, on every parameter.
        momentum: for `sgd`.
        eps: ε of `adamw` and `adam`; larger than its default it damps the weights whose gradient is
            nearly always zero, such as those of pixels that are hardly ever lit.
        max_norm: upper bound of the Euclidean norm of each unit's incoming weights, enforced after
            every step (Srivastava et al. 2014, §5.1); `None` for none.
        schedule: see `ScheduleName`.
        warmup: share of all steps in which the rate rises linearly from zero.
        milestones: shares of all steps at which `step` multiplies the rate by 0.1.
        clip_norm: scale gradients to at most this norm; `None` leaves them.
        ema: decay of an exponential moving average of the weights, which is then the result
            (for example 0.999); `None` for none.
        patience: stop after this many epochs without a better validation metric; `None` never.
        select: see `Select`.
        validate_every: epochs between validations (the last epoch is always validated).
        checkpoint_seconds: save the state at least this often.
    """

    epochs: int = 20
    batch_size: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = OptimizerName.ADAMW
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    eps: float = 1e-8
    max_norm: float | None = None
    schedule: ScheduleName = ScheduleName.COSINE
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    clip_norm: float | None = None
    ema: float | None = None
    patience: int | None = None
    select: Select = Select.BEST
    validate_every: int = 1
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("accumulate", 1 <= self.accumulate <= self.batch_size, "from 1 to batch_size"),
            ("lr", 0 < self.lr < math.inf, "positive"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup < 1, "a share of all steps, from 0 up to 1"),
            ("ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1"),
            ("max_norm", self.max_norm is None or self.max_norm > 0, "positive"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "positive"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1"),
            ("validate_every", self.validate_every >= 1, "at least 1"),
        ):
            if not ok:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; it must be {expected}.")


def make_optimizer(
    parameters: Iterable[Tensor], settings: TrainSettings, *, fused: bool = False
) -> Optimizer:
    """The optimiser that the settings name, over all parameters that train.

    Args:
        parameters: those that train are taken.
        settings: which optimiser, with what.
        fused: update all of them in one call; torch's own choice otherwise.
    """
    is_fused = True if fused else None
    chosen = [p for p in parameters if p.requires_grad]
    if not chosen:
        raise RecipeError("The student has no parameter that can be trained. Unfreeze some of it.")
    match settings.optimizer:
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(
                chosen,
                lr=settings.lr,
                eps=settings.eps,
                weight_decay=settings.weight_decay,
                fused=is_fused,
            )
        case OptimizerName.ADAM:
            return torch.optim.Adam(
                chosen,
                lr=settings.lr,
                eps=settings.eps,
                weight_decay=settings.weight_decay,
                fused=is_fused,
            )
        case OptimizerName.SGD:
            return torch.optim.SGD(
                chosen,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
                nesterov=settings.momentum > 0,
                fused=is_fused,
            )


def bound_weights(module: nn.Module, max_norm: float) -> None:
    """Scale back each unit of every linear and convolutional layer to at most `max_norm`."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                layer.weight.renorm_(2, 0, max_norm)


def rate_at(settings: TrainSettings, total_steps: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0."""
    warm = round(settings.warmup * total_steps)

    def rate(step: int) -> float:
        if step < warm:
            return settings.lr * (step + 1) / warm
        match settings.schedule:
            case ScheduleName.CONSTANT:
                return settings.lr
            case ScheduleName.COSINE:
                done = min((step - warm) / max(total_steps - warm, 1), 1.0)
                return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))
            case ScheduleName.STEP:
                passed = sum(step >= share * total_steps for share in settings.milestones)
                return settings.lr * 0.1**passed

    return rate
