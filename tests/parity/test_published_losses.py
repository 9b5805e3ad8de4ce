"""The terms against the formulas of their papers, written from the definitions in float64.

Each formula below takes whole matrices and averages over the batch, as papers do; the terms sum
over rows and are divided by their count. Equal values and equal gradients are asked for.
"""

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.signals import Logits, Signals, Target

B, C = 12, 10


def softmax(z: Tensor, temperature: float = 1.0) -> Tensor:
    powers = (z / temperature).exp()
    return powers / powers.sum(1, keepdim=True)


def mean_kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(1).mean()


def hinton_2015(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:1503.02531 §2: soft targets at T, their gradient scaled back by T²."""
    temperature = 4.0
    return temperature**2 * mean_kl(softmax(t, temperature), softmax(s, temperature))


def ba_caruana_2013(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:1312.6184 eq. 1 without its factor 1/2: squared L2 distance of logits."""
    return (s - t).norm(dim=1).pow(2).mean()


def zhao_2022(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2203.08679 eq. 7: α TCKD + β NCKD with the CIFAR-100 settings."""
    temperature, alpha, beta = 4.0, 1.0, 8.0
    p, q = softmax(t, temperature), softmax(s, temperature)
    hot = torch.nn.functional.one_hot(y, C).bool()
    binary_p = torch.stack([p[hot], 1 - p[hot]], 1)
    binary_q = torch.stack([q[hot], 1 - q[hot]], 1)
    rest_p = p[~hot].reshape(B, C - 1) / (1 - p[hot])[:, None]
    rest_q = q[~hot].reshape(B, C - 1) / (1 - q[hot])[:, None]
    return temperature**2 * (alpha * mean_kl(binary_p, binary_q) + beta * mean_kl(rest_p, rest_q))


def yang_2023(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2303.13005: -T_t log S_t - γ τ² Σ over the others of N(T) log N(S)."""
    gamma, temperature = 1.5, 1.0
    hot = torch.nn.functional.one_hot(y, C).bool()
    target = -(softmax(t)[hot] * softmax(s)[hot].log()).mean()
    normalised_t = softmax(t[~hot].reshape(B, C - 1), temperature)
    normalised_s = softmax(s[~hot].reshape(B, C - 1), temperature)
    rest = -(normalised_t * normalised_s.log()).sum(1).mean()
    return target + gamma * temperature**2 * rest


def zheng_2024(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2402.11148: power transform of the teacher, weighted by its power sum."""
    powered = softmax(t).pow(0.2)
    mass = powered.sum(1, keepdim=True)
    target, student = powered / mass, softmax(s)
    return (mass[:, 0] * (target * (target / student).log()).sum(1)).mean()


def huang_2022(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2205.10536: inter-class and intra-class relations by Pearson's distance."""
    temperature = 4.0
    p, q = softmax(t, temperature), softmax(s, temperature)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean()

    return temperature**2 * (distance(q, p) + distance(q.T, p.T))


def sun_2024(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2403.01427 algorithm 2: Z-score of both logits, then distillation at τ = 2."""
    temperature = 2.0

    def z_score(z: Tensor) -> Tensor:
        mean = z.sum(1, keepdim=True) / C
        variance = (z - mean).pow(2).sum(1, keepdim=True) / (C - 1)
        return (z - mean) / (1e-7 + variance.sqrt())

    return temperature**2 * mean_kl(
        softmax(z_score(t), temperature), softmax(z_score(s), temperature)
    )


def agarwal_2023(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2306.13649 eq. 1: generalised Jensen-Shannon divergence, here at β = 0.3."""
    beta, p, q = 0.3, softmax(t), softmax(s)
    mixture = beta * p + (1 - beta) * q
    return beta * mean_kl(p, mixture) + (1 - beta) * mean_kl(q, mixture)


def gu_2023(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2306.08543: reverse Kullback-Leibler divergence KL(q ‖ p)."""
    return mean_kl(softmax(s), softmax(t))


def brier_1950(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Squared distance of two probability vectors."""
    return (softmax(t) - softmax(s)).pow(2).sum(1).mean()


def yang_2023_multi_label(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:2308.06453: one-versus-all binary divergences, summed over labels."""
    p, q = 1 / (1 + (-t).exp()), 1 / (1 + (-s).exp())
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean()


def szegedy_2015(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """arXiv:1512.00567 §7: cross entropy with (1 - ε) one-hot + ε / K."""
    smooth = 0.9 * torch.nn.functional.one_hot(y, C) + 0.1 / C
    return -(smooth * softmax(s).log()).sum(1).mean()


PUBLISHED = [
    (L.KD(), hinton_2015),
    (L.LogitMSE(), ba_caruana_2013),
    (L.DKD(), zhao_2022),
    (L.NKD(), yang_2023),
    (L.WTTM(), zheng_2024),
    (L.DIST(), huang_2022),
    (L.KD(temperature=2, standardise=True), sun_2024),
    (L.JSD(beta=0.3), agarwal_2023),
    (L.ReverseKL(), gu_2023),
    (L.ProbabilityMSE(), brier_1950),
    (L.BinaryKD(), yang_2023_multi_label),
    (L.CrossEntropy(label_smoothing=0.1), szegedy_2015),
]


@pytest.mark.parametrize(("term", "formula"), PUBLISHED, ids=lambda p: getattr(p, "__name__", None))
def test_a_term_equals_its_paper(term: L.ArithmeticTerm, formula) -> None:
    generator = torch.Generator().manual_seed(7)
    student = (2 * torch.randn(B, C, generator=generator)).requires_grad_()
    teacher = 2 * torch.randn(B, C, generator=generator)
    labels = torch.randint(C, (B,), generator=generator)
    exact = student.detach().double().requires_grad_()

    value = (1 * term)(
        Signals(logits=Logits(student)), Signals(logits=Logits(teacher)), Target(B, labels)
    ).loss
    expected = formula(exact, teacher.double(), labels)

    (gradient,) = torch.autograd.grad(value, student)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    assert abs(float(value.detach()) / float(expected.detach()) - 1) < 1e-6
    assert (gradient - expected_gradient).norm() / expected_gradient.norm() < 1e-6


@pytest.mark.parametrize(
    ("term", "options"),
    [
        (L.KD(), {"temperature": 4, "standardise": False}),
        (L.DKD(), {"alpha": 1, "beta": 8, "temperature": 4}),
        (L.NKD(), {"gamma": 1.5, "temperature": 1}),
        (L.WTTM(), {"gamma": 0.2}),
        (L.DIST(), {"beta": 1, "gamma": 1, "temperature": 4}),
        (L.JSD(), {"beta": 0.5, "temperature": 1}),
        (L.ReverseKL(), {"temperature": 1}),
        (L.ProbabilityMSE(), {"temperature": 1}),
        (L.Huber(), {"delta": 1}),
        (L.CrossEntropy(), {"label_smoothing": 0}),
    ],
    ids=lambda p: p.name if isinstance(p, L.ArithmeticTerm) else "",
)
def test_defaults_are_the_published_ones(term: L.ArithmeticTerm, options: dict) -> None:
    assert {name: getattr(term, name) for name in options} == options
