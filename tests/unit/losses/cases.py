"""Every row-wise term with its oracle and a batch that suits it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from potstill import losses as L
from potstill.protocols import Term
from potstill.signals import Logits, Signals, Target

from . import oracles

N, C = 6, 5
TOLERANCE = 1e-6  # relative, float32 against float64


@dataclass(frozen=True)
class Case:
    term: Term
    oracle: oracles.RowOracle
    labels: str | None = None  # classes, soft, multi, values

    def __str__(self) -> str:
        return f"{self.term!r}{' soft' if self.labels == 'soft' else ''}"

    def make_labels(self, rows: int = N) -> Tensor | None:
        generator = torch.Generator().manual_seed(3)
        match self.labels:
            case "classes":
                return torch.randint(C, (rows,), generator=generator)
            case "soft":
                return torch.rand(rows, C, generator=generator).softmax(-1)
            case "multi":
                return torch.randint(2, (rows, C), generator=generator).float()
            case "values":
                return torch.randn(rows, C, generator=generator)
        return None


CASES = [
    Case(L.CrossEntropy(), oracles.cross_entropy(), "classes"),
    Case(L.CrossEntropy(label_smoothing=0.1), oracles.cross_entropy(0.1), "classes"),
    Case(L.CrossEntropy(), oracles.cross_entropy(), "soft"),
    Case(L.CrossEntropy(label_smoothing=0.2), oracles.cross_entropy(0.2), "soft"),
    Case(L.KD(), oracles.kd(4)),
    Case(L.KD(temperature=1), oracles.kd(1)),
    Case(L.KD(temperature=0.7), oracles.kd(0.7)),
    Case(L.KD(temperature=2, standardise=True), oracles.standardised_kd(2)),
    Case(L.WTTM(), oracles.wttm(0.2)),
    Case(L.WTTM(gamma=1), oracles.wttm(1)),
    Case(L.JSD(), oracles.jsd(0.5, 1)),
    Case(L.JSD(beta=0.1, temperature=3), oracles.jsd(0.1, 3)),
    Case(L.JSD(beta=0.9), oracles.jsd(0.9, 1)),
    Case(L.ReverseKL(), oracles.reverse_kl(1)),
    Case(L.ReverseKL(temperature=2.5), oracles.reverse_kl(2.5)),
    Case(L.SkewKL(), oracles.skew_kl(0.1, 1)),
    Case(L.SkewKL(skew=0.7, temperature=3), oracles.skew_kl(0.7, 3)),
    Case(L.SkewReverseKL(), oracles.skew_reverse_kl(0.1, 1)),
    Case(L.SkewReverseKL(skew=0.6, temperature=2), oracles.skew_reverse_kl(0.6, 2)),
    Case(L.TotalVariation(), oracles.total_variation(1)),
    Case(L.TotalVariation(temperature=3), oracles.total_variation(3)),
    Case(L.JSD(beta=0.3, temperature=2, scale="even"), oracles.even_jsd(0.3, 2)),
    Case(L.JSD(beta=0, scale="even"), oracles.kd(1)),
    Case(L.JSD(beta=1, temperature=2, scale="trl"), oracles.reverse_kl(2)),
    Case(L.JSD(beta=0.4, scale="trl"), oracles.jsd(0.4, 1)),
    Case(L.AlphaBeta(), oracles.alpha_beta(0.2, 0.7, 1)),
    Case(L.AlphaBeta(alpha=0.6, beta=1.3, temperature=2), oracles.alpha_beta(0.6, 1.3, 2)),
    Case(L.AlphaBeta(alpha=1, beta=0), oracles.kd(1)),
    Case(L.AlphaBeta(alpha=0, beta=1, temperature=3), oracles.reverse_kl(3)),
    Case(L.AlphaBeta(alpha=0.5, beta=0), oracles.alpha_beta(0.5, 0, 1)),
    Case(L.AlphaBeta(alpha=0, beta=0.5), oracles.alpha_beta(0, 0.5, 1)),
    Case(L.AdaptiveKL(), oracles.adaptive_kl(0.5, 1)),
    Case(L.AdaptiveKL(head=0.9, temperature=2), oracles.adaptive_kl(0.9, 2)),
    Case(L.HardKD(), oracles.hard_kd(0.0)),
    Case(L.HardKD(label_smoothing=0.2), oracles.hard_kd(0.2)),
    Case(L.DKD(), oracles.dkd(1, 8, 4), "classes"),
    Case(L.DKD(alpha=0.3, beta=0.5, temperature=1), oracles.dkd(0.3, 0.5, 1), "classes"),
    Case(L.NKD(), oracles.nkd(1.5, 1), "classes"),
    Case(L.NKD(gamma=2, temperature=3), oracles.nkd(2, 3), "classes"),
    Case(L.ProbabilityMSE(), oracles.probability_mse(1)),
    Case(L.ProbabilityMSE(temperature=3), oracles.probability_mse(3)),
    Case(L.LogitMSE(), oracles.logit_mse),
    Case(L.BinaryCrossEntropy(), oracles.binary_cross_entropy, "multi"),
    Case(L.BinaryKD(), oracles.binary_kd(1)),
    Case(L.BinaryKD(temperature=3), oracles.binary_kd(3)),
    Case(L.BinaryProbabilityMSE(), oracles.binary_probability_mse(1)),
    Case(L.BinaryProbabilityMSE(temperature=2), oracles.binary_probability_mse(2)),
    Case(L.SquaredError(), oracles.squared_error("labels"), "values"),
    Case(L.SquaredError(follow="teacher"), oracles.squared_error("teacher")),
    Case(L.Huber(), oracles.huber(1, "labels"), "values"),
    Case(L.Huber(delta=0.3, follow="teacher"), oracles.huber(0.3, "teacher")),
]


def logits(rows: int = N, *, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, C, generator=torch.Generator().manual_seed(seed))


def evaluate(
    term: Term, student: Tensor, teacher: Tensor, target: Target
) -> tuple[Tensor, Tensor | int, Tensor]:
    """Total, count and the gradient of the total with respect to the student's logits."""
    student = student.clone().requires_grad_()
    partial = term(Signals(logits=Logits(student)), Signals(logits=Logits(teacher)), target)
    (gradient,) = torch.autograd.grad(partial.total, student)
    return partial.total.detach(), partial.count, gradient


def relative(got: Tensor, expected: Tensor) -> float:
    """‖got - expected‖ / ‖expected‖ in float64."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return float((got.double() - expected).norm() / expected.norm())
