"""How far a fast way's answers may be from the exact ones, and how far they are."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What counts as the same answers, on real batches.

    Args:
        agreement: of a teacher of classes: the least share of rows whose highest class is the same.
        kl: the same: the largest mean KL divergence (nats) of its answers from the exact ones.
        error: of values, labels, raw logits and features: the largest Euclidean norm of the
            difference, relative to that of the exact answers' spread.
        gradient: of a student's step: the least cosine between its gradient and the exact one.
        loss: the same: the largest relative difference of the loss.
    """

    agreement: float = 0.98
    kl: float = 0.01
    error: float = 0.05
    gradient: float = 0.99
    loss: float = 0.01

    def __post_init__(self) -> None:
        for name, highest in (("agreement", 1.0), ("kl", math.inf), ("error", math.inf),
                              ("gradient", 1.0), ("loss", math.inf)):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise RecipeError(
                    f"`bounds.{name}` is {value!r}; it must lie between 0 and {highest:g}."
                )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far answers are from the exact ones. What was not compared is `None`.

    The fields are those of `Bounds`.
    """

    agreement: float | None = None
    kl: float | None = None
    error: float | None = None
    gradient: float | None = None
    loss: float | None = None

    def broken(self, bounds: Bounds) -> str | None:
        """The first bound that does not hold, as a phrase; `None` if all do."""
        for name, is_floor in _FLOORS.items():
            value, bound = getattr(self, name), getattr(bounds, name)
            if value is None:
                continue
            if not math.isfinite(value):
                return f"{_WORDS[name]} is not finite"
            if (value < bound) if is_floor else (value > bound):
                side = "under" if is_floor else "over"
                return f"{_WORDS[name]} {value:.4g} is {side} the bound of {bound:g}"
        return None

    def __str__(self) -> str:
        known = {name: getattr(self, name) for name in _FLOORS}
        return ", ".join(f"{_WORDS[n]} {v:.4g}" for n, v in known.items() if v is not None)


_FLOORS = {"agreement": True, "kl": False, "error": False, "gradient": True, "loss": False}
_WORDS = {
    "agreement": "agreement",
    "kl": "KL",
    "error": "relative error",
    "gradient": "cosine of gradients",
    "loss": "relative difference of the loss",
}


def compare(exact_NC: Tensor, fast_NC: Tensor, *, kind: str, raw: bool = False) -> Difference:
    """How far a teacher's fast answers are from its exact ones.

    Args:
        exact_NC: `[N, C]`, the exact teacher's logits or values.
        fast_NC: `[N, C]`, the same rows from the fast one.
        kind: of the task; for `single_label` classes are compared, for others values.
        raw: logits are read as they are by some term, so their values count as well.
    """
    exact, fast = exact_NC.double(), fast_NC.double()
    if not bool(torch.isfinite(fast).all()):
        return Difference(error=math.nan)
    error = relative_error(exact, fast)
    if kind != "single_label":
        return Difference(error=error)
    same = (exact.argmax(-1) == fast.argmax(-1)).double().mean()
    kl = F.kl_div(
        fast.log_softmax(-1), exact.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    return Difference(agreement=float(same), kl=float(kl), error=error if raw else None)


def relative_error(exact: Tensor, fast: Tensor) -> float:
    """Norm of the difference over the norm of the exact values around their mean over the rows."""
    exact, fast = exact.double(), fast.double()
    spread = torch.linalg.vector_norm(exact - exact.mean(0, keepdim=True))
    return float(torch.linalg.vector_norm(fast - exact) / spread.clamp_min(1e-12))
