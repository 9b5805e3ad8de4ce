"""Every term equals its schoolchild's oracle, in value and in gradient."""

import pytest
import torch

from potstill import losses as L
from potstill.signals import LazyLogits, Logits, Signals, Target

from . import oracles
from .cases import CASES, TOLERANCE, C, Case, N, evaluate, logits, relative


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    ("scale", "value_tolerance"),
    [
        (2.0, TOLERANCE),
        (0.5, 10 * TOLERANCE),  # nearly equal and hot: the value is a difference of like numbers
    ],
)
def test_value_and_gradient_equal_the_naive_loops(
    case: Case, scale: float, value_tolerance: float
) -> None:
    student, teacher = logits(seed=1, scale=scale), logits(seed=2, scale=scale)
    labels = case.make_labels()

    total, count, gradient = evaluate(case.term, student, teacher, Target(N, labels))

    naive = oracles.summed(case.oracle, None if labels is None else labels.double().tolist())
    if labels is not None and not labels.is_floating_point():
        naive = oracles.summed(case.oracle, labels.tolist())
    s, t = student.double().tolist(), teacher.double().tolist()
    assert count == N
    assert relative(total, naive(s, t)) < value_tolerance
    assert relative(gradient, oracles.gradient(naive, s, t)) < TOLERANCE


@pytest.mark.parametrize("options", [{}, {"beta": 0.5, "gamma": 2, "temperature": 1}])
def test_dist_equals_the_naive_loops(options: dict[str, float]) -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    term = L.DIST(**options)

    total, count, gradient = evaluate(term, student, teacher, Target(N))

    def naive(s, t):
        return oracles.dist_of_batch(
            s, t, beta=term.beta, gamma=term.gamma, temperature=term.temperature
        )

    s, t = student.double().tolist(), teacher.double().tolist()
    assert count == N
    assert relative(total, naive(s, t)) < TOLERANCE
    assert relative(gradient, oracles.gradient(naive, s, t)) < TOLERANCE


def test_weight_penalty_is_the_squared_length_and_survives_the_division() -> None:
    weights = (torch.randn(3, 4), torch.randn(4))
    for weight in weights:
        weight.requires_grad_()
    student = Signals(weights=weights)

    value = (1e-2 * L.WeightPenalty())(student, Signals(), Target(7))
    gradients = torch.autograd.grad(value.loss, weights)

    expected = sum(float(v) ** 2 for w in weights for v in w.detach().double().flatten())
    assert relative(value.loss.detach(), 1e-2 * expected) < TOLERANCE
    for weight, gradient in zip(weights, gradients, strict=True):
        assert relative(gradient, 2e-2 * weight.detach().double()) < TOLERANCE


@pytest.mark.parametrize(
    "term",
    [
        L.KD(temperature=3),
        L.KD(temperature=3, standardise=True),
        L.WTTM(gamma=1),
        L.JSD(temperature=3),
        L.ReverseKL(temperature=3),
        L.DKD(),
        L.DIST(),
        L.ProbabilityMSE(temperature=3),
        L.LogitMSE(),
        L.BinaryKD(temperature=3),
        L.BinaryProbabilityMSE(temperature=3),
        L.SquaredError(follow="teacher"),
        L.Huber(follow="teacher"),
    ],
    ids=repr,
)
def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient(term: L.ArithmeticTerm) -> None:
    both = logits(seed=1)

    total, _, gradient = evaluate(term, both, both, Target(N, torch.arange(N) % C))

    assert abs(float(total)) < 2e-5
    assert float(gradient.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("hot", "plain"),
    [
        (L.KD(temperature=5), L.KD(temperature=1)),
        (L.JSD(temperature=5), L.JSD()),
        (L.ReverseKL(temperature=5), L.ReverseKL()),
        (L.DKD(temperature=5), L.DKD(temperature=1)),
        (L.ProbabilityMSE(temperature=5), L.ProbabilityMSE()),
        (L.BinaryKD(temperature=5), L.BinaryKD()),
        (L.BinaryProbabilityMSE(temperature=5), L.BinaryProbabilityMSE()),
        (L.DIST(temperature=5), L.DIST(temperature=1)),
        (L.NKD(temperature=5), L.NKD(temperature=1)),
    ],
    ids=repr,
)
def test_the_square_of_the_temperature_is_in_value_and_gradient(hot, plain) -> None:
    # A term at T on logits z is T² times the term at 1 on z / T, so its gradient is T times.
    student, teacher = logits(seed=1), logits(seed=2)
    target = Target(N, torch.arange(N) % C)
    if isinstance(hot, L.NKD):  # its first part stays at temperature 1: drop it by subtraction
        target_part = L.NKD(gamma=0)

        value, _, gradient = evaluate(hot, student, teacher, target)
        label, _, label_gradient = evaluate(target_part, student, teacher, target)
        cold, _, cold_gradient = evaluate(plain, student / 5, teacher / 5, target)
        cold_label, _, cold_label_gradient = evaluate(target_part, student / 5, teacher / 5, target)
        value, gradient = value - label, gradient - label_gradient
        cold, cold_gradient = cold - cold_label, cold_gradient - cold_label_gradient
    else:
        value, _, gradient = evaluate(hot, student, teacher, target)
        cold, _, cold_gradient = evaluate(plain, student / 5, teacher / 5, target)

    torch.testing.assert_close(value, 25 * cold, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, 5 * cold_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [4, 5, 7, 32, 100])
def test_the_textbook_objective_has_the_bits_of_the_plain_loop(num_rows: int) -> None:
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(num_rows)
    student = (3 * torch.randn(num_rows, 10, generator=generator)).requires_grad_()
    teacher = 3 * torch.randn(num_rows, 10, generator=generator)
    labels = torch.randint(10, (num_rows,), generator=generator)
    temperature = 4

    plain = 0.9 * temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.softmax(teacher / temperature, 1),
        reduction="batchmean",
    ) + 0.1 * F.cross_entropy(student, labels)
    ours = (0.9 * L.KD(temperature=4) + 0.1 * L.CrossEntropy())(
        Signals(logits=Logits(student)), Signals(logits=Logits(teacher)), Target(num_rows, labels)
    )

    (expected,) = torch.autograd.grad(plain, student)
    (gradient,) = torch.autograd.grad(ours.loss, student)
    assert torch.equal(gradient, expected)
    torch.testing.assert_close(ours.loss, plain)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = logits(seed=1).requires_grad_(), logits(seed=2).requires_grad_()
    objective = L.KD() + L.DKD() + L.DIST() + L.LogitMSE()

    objective(
        Signals(logits=Logits(student)),
        Signals(logits=Logits(teacher)),
        Target(N, torch.arange(N) % C),
    ).loss.backward()

    assert teacher.grad is None
    assert student.grad is not None


def test_logits_that_are_not_computed_yet_give_the_same_loss() -> None:
    hidden, head = torch.randn(N, 3), torch.nn.Linear(3, C)
    teacher = Signals(logits=Logits(logits(seed=2)))

    lazy = L.KD()(Signals(logits=LazyLogits(hidden, head)), teacher, Target(N))
    dense = L.KD()(Signals(logits=Logits(head(hidden))), teacher, Target(N))

    torch.testing.assert_close(lazy.total, dense.total, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(dtype: torch.dtype) -> None:
    student, teacher = logits(seed=1).to(dtype), logits(seed=2).to(dtype)

    total, _, gradient = evaluate(L.KD(), student, teacher, Target(N))
    expected, _, _ = evaluate(L.KD(), student.float(), teacher.float(), Target(N))

    assert total.dtype is torch.float32
    assert torch.equal(total, expected)
    assert gradient.dtype is dtype


def test_decoupled_distillation_adds_up_to_plain_distillation() -> None:
    # KD = KL of the label against the rest + (1 - p_label) * KL among the rest (Zhao et al., eq. 6)
    student, teacher = logits(1, seed=1), logits(1, seed=2)
    target = Target(1, torch.tensor([2]))
    rest = 1 - float((teacher / 4).softmax(-1)[0, 2])

    whole, _, _ = evaluate(L.KD(), student, teacher, target)
    split, _, _ = evaluate(L.DKD(alpha=1, beta=rest), student, teacher, target)

    torch.testing.assert_close(split, whole)


@pytest.mark.parametrize(
    ("beta", "limit"), [(1e-4, L.KD(temperature=1)), (1 - 1e-4, L.ReverseKL())]
)
def test_jsd_approaches_both_divergences(beta: float, limit: L.RowTerm) -> None:
    student, teacher = logits(seed=1).double(), logits(seed=2).double()

    near, _, _ = evaluate(L.JSD(beta=beta), student, teacher, Target(N))
    end, _, _ = evaluate(limit, student, teacher, Target(N))

    torch.testing.assert_close(near / min(beta, 1 - beta), end, rtol=1e-2, atol=0)


def test_a_very_hot_distillation_compares_centred_logits() -> None:
    student, teacher = logits(seed=1).double(), logits(seed=2).double()
    student, teacher = (z - z.mean(-1, keepdim=True) for z in (student, teacher))

    hot, _, _ = evaluate(L.KD(temperature=1e4), student, teacher, Target(N))
    squares, _, _ = evaluate(L.LogitMSE(), student, teacher, Target(N))

    torch.testing.assert_close(hot, squares / (2 * C), rtol=1e-3, atol=0)
