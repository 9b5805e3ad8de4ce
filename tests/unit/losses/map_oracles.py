"""The formulas of terms on maps, element by element from their papers, in float64.

Every oracle takes `[B, D, H, W]` maps that are matched already and gives the mean over samples.
"""

import torch
from torch import Tensor


def pearson_2022(s: Tensor, t: Tensor) -> Tensor:
    """PKD, arXiv:2207.02039 eq. 3 to 5: 1 - r of each channel over samples and positions."""
    losses = []
    for d in range(s.shape[1]):
        x, y = s[:, d].flatten(), t[:, d].flatten()
        x, y = x - x.sum() / len(x), y - y.sum() / len(y)
        losses.append(1 - (x * y).sum() / ((x * x).sum().sqrt() * (y * y).sum().sqrt()))
    return torch.stack(losses).sum() / len(losses)


def channel_wise_2020(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """CWD, arXiv:2011.13256 eq. 4: KL of the softmax over the places of a channel."""
    total = torch.zeros((), dtype=s.dtype)
    for b in range(len(s)):
        for d in range(s.shape[1]):
            x, y = (z[b, d].flatten() / temperature for z in (s, t))
            q, p = x.exp() / x.exp().sum(), y.exp() / y.exp().sum()
            total = total + (p * (p / q).log()).sum()
    return temperature**2 * total / s.shape[1] / len(s)


def variational_2019(mean: Tensor, t: Tensor, alpha: Tensor) -> Tensor:
    """VID, arXiv:1904.05835 eq. 5 and 6: minus the log-density of a Gaussian, without its 2π."""
    total = torch.zeros((), dtype=mean.dtype)
    for d in range(t.shape[1]):
        variance = (1 + alpha[d].exp()).log() + 1e-5
        total = total + ((t[:, d] - mean[:, d]) ** 2 / (2 * variance)).sum()
        total = total + variance.sqrt().log() * t[:, d].numel()
    return total / t.numel()


def boundaries_2018(s: Tensor, t: Tensor, margin: float) -> Tensor:
    """AB, arXiv:1811.03233 eq. 5: hinges, squared, around the teacher's sign."""
    total = torch.zeros((), dtype=s.dtype)
    for x, y in zip(s.flatten(), t.flatten(), strict=True):
        hinge = margin - x if y > 0 else margin + x
        total = total + (hinge**2 if hinge > 0 else 0 * x)
    return total / len(s)


def factors_2018(s: Tensor, t: Tensor) -> Tensor:
    """FT, arXiv:1802.04977 eq. 3 with p = 1: normalised vectors, sum of absolute differences."""
    total = torch.zeros((), dtype=s.dtype)
    for x, y in zip(s.flatten(1), t.flatten(1), strict=True):
        x, y = x / (x * x).sum().sqrt(), y / (y * y).sum().sqrt()
        total = total + (x - y).abs().sum()
    return total / len(s)


def hierarchical_2021(s: Tensor, t: Tensor) -> Tensor:
    """ReviewKD's context loss, arXiv:2104.09044 section 3.3, for maps of 8 by 8."""
    total = torch.zeros((), dtype=s.dtype)
    for weight, side in ((1, 8), (1 / 2, 4), (1 / 4, 2), (1 / 8, 1)):
        step = 8 // side
        x, y = (z.reshape(*z.shape[:2], side, step, side, step).mean((3, 5)) for z in (s, t))
        total = total + weight * ((x - y) ** 2).sum() / x.numel()
    return total / (1 + 1 / 2 + 1 / 4 + 1 / 8)


def one_for_all_2023(s: Tensor, t: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """OFA-KD, arXiv:2310.19444: (1 + p)^γ on the label less the label's own 1, p on the rest."""
    total = torch.zeros((), dtype=s.dtype)
    for x, y, label in zip(s, t, labels.tolist(), strict=True):
        q, p = x.exp() / x.exp().sum(), y.exp() / y.exp().sum()
        for c in range(len(x)):
            share = (1 + p[c]) ** gamma - 1 if c == label else p[c]
            total = total - share * q[c].log()
    return total / len(s)
