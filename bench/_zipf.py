"""A synthetic teacher over a vocabulary and its student: what compact targets are measured on.

192 positions of 151,936 classes. Teacher: log-probabilities fall with log rank, with slopes spread
evenly over positions from 1.17 to 3.2, which gives the mean figures of a language model (1.9 nat
entropy, top-1 mass 0.61, top-50 0.95). Students: `usual` is 0.8 times the teacher's logits and
noise of 0.8 (less sure, as students are); `close` is the teacher and noise of 0.5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from potstill.signals import SparseLogits

POSITIONS, CLASSES = 192, 151_936


class Check(NamedTuple):
    """Teacher and students, logits `[N, V]`; ids are shuffled, so rank and id are independent."""

    teacher: Tensor
    students: dict[str, Tensor]


class Deviation(NamedTuple):
    """How far a target's gradient with respect to the student's logits is from the dense one.

    Angles in degrees: per position its mean and 95th percentile, and of the sum over positions;
    `norm` is the mean ratio of norms.
    """

    angle: float
    angle_p95: float
    batch_angle: float
    norm: float


def synthetic(seed: int = 0) -> Check:
    generator = torch.Generator().manual_seed(seed)
    slopes = torch.linspace(1.17, 3.2, POSITIONS)[:, None]
    shuffled = torch.randperm(CLASSES, generator=generator)
    teacher = (-slopes * torch.arange(1, CLASSES + 1).log())[:, shuffled]
    noise = torch.randn(POSITIONS, CLASSES, generator=generator)
    return Check(teacher, {"usual": 0.8 * (teacher + noise), "close": teacher + 0.5 * noise})


def statistics(teacher: Tensor) -> dict[str, float]:
    logp = teacher.log_softmax(-1)
    top = logp.topk(50).values.exp()
    return {
        "entropy (nat)": float(-(logp.exp() * logp).sum(-1).mean()),
        "top-1 mass": float(top[:, 0].mean()),
        "top-50 mass": float(top.sum(-1).mean()),
    }


def gradient(student: Tensor, target: SparseLogits | Tensor) -> Tensor:
    """Of the forward KL, coarse-grained where there is a tail: q - t, and q (1 - tail / rest)."""
    q = student.softmax(-1)
    if isinstance(target, Tensor):
        return q - target
    there = target.logprobs_NK.isfinite()
    q_kept = q.gather(1, target.ids_NK).where(there, 0.0)
    rest = (1 - q_kept.double().sum(-1)).clamp(min=1e-30)
    factor = (1 - target.tail_N / rest).float()[:, None]
    result = q * factor
    kept = q_kept - target.logprobs_NK.exp() - q_kept * factor
    return result.scatter_add_(1, target.ids_NK, kept)


def deviation(true: Tensor, used: Tensor) -> Deviation:
    angles = _angle(true, used)
    norms = used.norm(dim=-1).double() / true.norm(dim=-1).double()
    return Deviation(
        angle=float(angles.mean()),
        angle_p95=float(angles.quantile(0.95)),
        batch_angle=float(_angle(true.sum(0, dtype=torch.float64), used.sum(0).double())),
        norm=float(norms.mean()),
    )


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """By the half-angle formula, which is exact for small angles too."""
    a, b = (x / x.norm(dim=-1, keepdim=True) for x in (a, b))
    half = torch.atan2((a - b).norm(dim=-1).double(), (a + b).norm(dim=-1).double())
    return torch.rad2deg(2 * half)
