"""Corrections of output biases: what a student's logits lack where classes were missing.

A student that sees a class less often than it will meet it makes too little of it. A constant
added to each class's logit mends that (Hinton et al. 2015, arXiv:1503.02531, section 3, who raise
the bias of the digit that the student never saw; for priors that differ: Saerens et al. 2002).
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LEAST = 1e-4
"""Frequencies below this count as it, so that a correction stays finite."""


def fitted_shift(logits_NC: Tensor, targets_NC: Tensor) -> Tensor:
    r"""`[C]` float64, the shift of logits whose class frequencies are those of the targets.

    Equivalent to $b / s$ of the $s > 0, b$ that minimise the cross entropy of
    $\mathrm{softmax}(s z + b)$ with the targets. At that minimum the mean probability of each class
    is its mean target, so this matches class frequencies; the scale makes sure that logits which
    are too sure or too unsure do not spoil the match.

    Args:
        logits_NC: of the student.
        targets_NC: probabilities of the classes, one-hot for labels; without gradient.

    Returns:
        The shift, with mean 0.
    """
    logits_NC, targets_NC = logits_NC.double(), targets_NC.double()
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(logits_NC.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_scale, bias_C], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(log_scale.exp() * logits_NC + bias_C, targets_NC)
        value = value + 1e-6 * bias_C.square().sum()  # a class that never occurs stays finite
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    shift_C = (bias_C / log_scale.exp()).detach()
    return shift_C - shift_C.mean()


def prior_shift(known_C: Tensor, seen_C: Tensor) -> Tensor:
    r"""`[C]` float64, $\log \pi^{known}_c - \log \pi^{seen}_c$, with mean 0.

    Bayes' correction of a classifier that learnt under the class frequencies seen and is used under
    those known. It needs no data but the frequencies.
    """
    shift_C = known_C.double().clamp(min=LEAST).log() - seen_C.double().clamp(min=LEAST).log()
    return shift_C - shift_C.mean()


def recall(
    outputs_NC: NDArray[np.floating], labels_N: NDArray[np.integer], number: int
) -> float | None:
    """Of the rows of one class, how many are answered right; `None` if there are none."""
    rows = labels_N == number
    return float((outputs_NC[rows].argmax(1) == number).mean()) if rows.any() else None
