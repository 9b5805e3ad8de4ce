"""Random classes: right on average, a function of the key, never a class that is ruled out."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from potstill.store.codecs import Sampled
from potstill.store.codecs import draws as module
from potstill.store.codecs.draws import choose, uniforms

CLASSES = 60


def _targets(codec: Sampled, logits: torch.Tensor, num_keys: int) -> torch.Tensor:
    """`[num_keys, C]`, the target of one row under many keys."""
    encoded = codec.encode(logits.expand(num_keys, -1), keys_N=torch.arange(num_keys))
    decoded = codec.decode(encoded, row_shape=(len(logits),))
    weights = decoded.logprobs_NK.exp()
    return torch.zeros(num_keys, len(logits)).scatter_add(1, decoded.ids_NK, weights)


def _teacher(classes: int = CLASSES) -> torch.Tensor:
    return 2 * torch.randn(classes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("codec", [Sampled(), Sampled(draws=3, seed=5), Sampled(temperature=2)])
def test_the_expected_target_is_the_teacher(codec: Sampled) -> None:
    logits, num_keys = _teacher(), 20_000
    p = (logits / codec.temperature).double().softmax(-1)

    mean = _targets(codec, logits, num_keys).double().mean(0)

    deviation = (p * (1 - p) / (codec.draws * num_keys)).sqrt()
    z = (mean - p) / deviation
    assert z.abs().max() < 4.5
    assert z.square().mean() < 1.8  # of all classes together, about 1
    assert z.square().mean() > 0.4  # and no less: the draws do not avoid each other


def test_the_expected_gradient_is_the_dense_one() -> None:
    logits, num_keys = _teacher(), 20_000
    student = torch.randn(CLASSES, generator=torch.Generator().manual_seed(2)).requires_grad_()
    dense = student.softmax(-1).detach() - logits.softmax(-1)

    targets = _targets(Sampled(), logits, num_keys)
    loss = -(targets * student.log_softmax(-1)).sum(-1).mean()
    (gradient,) = torch.autograd.grad(loss, student)

    p = logits.softmax(-1)
    bound = 4.5 * (p * (1 - p) / (50 * num_keys)).sqrt()
    assert ((gradient - dense).abs() < bound).all()
    assert torch.cosine_similarity(gradient, dense, dim=0) > 0.9999


def test_the_best_classes_alone_are_not_right_on_average() -> None:
    """The same measure tells a biased target from an unbiased one."""
    logits = _teacher()
    p = logits.softmax(-1)
    kept = p * (p >= p.topk(12).values[-1])

    biased = kept / kept.sum()

    assert ((biased - p).abs() / (p * (1 - p) / (50 * 20_000)).sqrt()).max() > 20


def test_other_proposals_are_right_for_many_draws() -> None:
    logits = _teacher()
    p = logits.softmax(-1)

    errors = [
        (_targets(Sampled(draws=n, tau=0.7), logits, 4000).mean(0) - p).abs().sum()
        for n in (5, 500)
    ]

    assert errors[1] < 0.02
    assert errors[1] < 0.5 * errors[0]


def test_draws_depend_on_key_and_seed_alone() -> None:
    logits = _teacher().expand(3, -1)

    def drawn(codec: Sampled, keys: list[int]) -> list[bytes]:
        encoded = codec.encode(logits, keys_N=torch.tensor(keys))
        at = encoded.offsets
        return [encoded.data[a:b].tobytes() for a, b in pairwise(at)]

    assert len(set(drawn(Sampled(), [1, 2, 3]))) == 3
    assert drawn(Sampled(), [1, 2, 3]) == drawn(Sampled(), [3, 2, 1])[::-1]
    assert len({*drawn(Sampled(), [1, 1, 1]), *drawn(Sampled(seed=1), [1, 1, 1])}) == 2


def _mixed(x: int) -> int:
    """SplitMix64's finaliser in whole numbers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) % 2**64
    return x ^ (x >> 31)


@pytest.mark.parametrize(("key", "seed"), [(0, 0), (1, 0), (-1, 12), (2**62, 1)])
def test_uniform_numbers_are_the_same_on_every_machine(key: int, seed: int) -> None:
    row = _mixed((key % 2**64) ^ _mixed(seed))

    numbers = uniforms(np.array([key]), 4, seed)

    steps = [(row + i * 0x9E3779B97F4A7C15) % 2**64 for i in (1, 2, 3, 4)]
    assert numbers[0].tolist() == [(_mixed(step) >> 11) / 2**53 for step in steps]


def test_uniform_numbers_are_uniform_and_do_not_know_of_each_other() -> None:
    numbers = uniforms(np.arange(20_000), 5, seed=3)

    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-square, 99 degrees, p = 1e-4
    between = np.corrcoef(np.concatenate([numbers[:-1].T, numbers[1:].T]))
    assert np.abs(between - np.eye(10)).max() < 0.035  # 5 standard deviations


@pytest.mark.parametrize("classes", [1, 5, 64, 2048, 2049, 5000])
def test_classes_are_found_in_the_cumulative_sum(classes: int) -> None:
    mass = torch.rand(4, classes, generator=torch.Generator().manual_seed(0)).square()
    mass[:, ::3] = 0
    mass[:, classes - 1] = 0.5
    u = torch.rand(4, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u[:, :2] = torch.tensor([0.0, 1 - 2.0**-53])

    found = choose(mass, u)

    sums = mass.double().cumsum(-1)
    target = u * sums[:, -1:]
    after = sums.gather(1, found)
    before = after - mass.double().gather(1, found)
    slack = 1e-6 * sums[:, -1:]
    assert (mass.gather(1, found) > 0).all()
    assert ((before - slack <= target) & (target <= after + slack)).all()


def test_classes_without_mass_are_never_drawn() -> None:
    logits = torch.full((3000,), -torch.inf)
    logits[[7, 2047, 2999]] = torch.tensor([0.0, -30.0, 0.0])

    targets = _targets(Sampled(draws=200), logits, 50)

    assert set(targets.sum(0).nonzero().flatten().tolist()) <= {7, 2047, 2999}
    assert (targets[:, [7, 2999]] > 0).all()


def test_the_blocks_do_not_change_what_is_drawn(monkeypatch) -> None:
    logits = _teacher(1500).expand(40, -1)
    plain = Sampled().encode(logits, keys_N=torch.arange(40))

    monkeypatch.setattr(module, "_FEW_CLASSES", 10)
    blocks = Sampled().encode(logits, keys_N=torch.arange(40))

    assert plain.data.tobytes() == blocks.data.tobytes()
