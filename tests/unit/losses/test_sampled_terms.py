"""Terms on tokens that the student drew: their gradient is that of reverse KL, on average."""

import math

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.losses.drawn import following
from potstill.signals import LazyLogits, Logits, Signals, SparseLogits, Target

from .cases import C, logits

DTYPE = torch.float64


def said(z: Tensor, labels: Tensor, temperature: float = 1) -> Tensor:
    return (z / temperature).log_softmax(-1).gather(1, labels[:, None])[:, 0]


def gradient(term: L.RowTerm, student: Tensor, teacher: object, target: Target) -> Tensor:
    leaf = student.clone().requires_grad_()
    taught = Logits(teacher) if isinstance(teacher, Tensor) else teacher
    total = term(Signals(Logits(leaf)), Signals(taught), target).total
    return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("drift", [0.0, 0.5], ids=["on-policy", "the student has moved"])
def test_the_mean_over_tokens_is_the_gradient_of_reverse_kl(
    temperature: float, drift: float
) -> None:
    student, teacher = logits(1, seed=1).to(DTYPE), logits(1, seed=2).to(DTYPE)
    writer = student + drift * logits(1, seed=3).to(DTYPE)  # who drew the tokens
    term, every = L.SampledReverseKL(temperature=temperature), torch.arange(C)
    drawn = (writer / temperature).log_softmax(-1)[0]
    target = Target(C, every, logprobs=drawn)

    each = gradient(term, student.expand(C, C), teacher.expand(C, C), target)

    exact = gradient(L.ReverseKL(temperature=temperature), student, teacher, Target(1))
    torch.testing.assert_close(drawn.exp() @ each, exact[0], rtol=1e-9, atol=1e-12)


def test_many_draws_come_near_the_gradient_of_reverse_kl() -> None:
    draws = 20_000
    student, teacher = logits(1, seed=1).to(DTYPE), logits(1, seed=2).to(DTYPE)
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(student.softmax(-1)[0], draws, True, generator=generator)
    target = Target(draws, labels, logprobs=said(student.expand(draws, C), labels))

    each = gradient(
        L.SampledReverseKL(), student.expand(draws, C), teacher.expand(draws, C), target
    )

    exact = gradient(L.ReverseKL(), student, teacher, Target(1))[0]
    error = each.std(0) / math.sqrt(draws)
    assert ((each.mean(0) - exact).abs() < 4 * error).all()
    assert (4 * error < 0.1 * exact.abs().max()).all()  # the check can fail


def test_the_value_and_gradient_by_hand() -> None:
    student, teacher = logits(4, seed=1).to(DTYPE), logits(4, seed=2).to(DTYPE)
    labels = torch.tensor([0, 3, 2, 1])
    drawn = said(student, labels) - torch.tensor([0.0, 0.3, -0.5, 0.1], dtype=DTYPE)
    found = L.SampledReverseKL()(
        Signals(Logits(student)), Signals(Logits(teacher)), Target(4, labels, logprobs=drawn)
    )

    by_hand = 0.0
    for i, y in enumerate(labels.tolist()):
        q = math.exp(float(student[i].log_softmax(-1)[y]))
        p = math.exp(float(teacher[i].log_softmax(-1)[y]))
        by_hand -= q / math.exp(float(drawn[i])) * (math.log(p) - math.log(q))
    assert float(found.total) == pytest.approx(by_hand, rel=1e-9)
    assert int(found.count) == 4


def test_the_clip_stops_what_has_gone_far_enough() -> None:
    student, teacher = torch.zeros(2, C, dtype=DTYPE), torch.zeros(2, C, dtype=DTYPE)
    teacher[0, 0], teacher[1, 0] = 3, -3  # the teacher likes token 0 in the first row only
    labels = torch.tensor([0, 0])
    for shift, stopped in ((0.5, [True, False]), (-0.5, [False, True])):
        drawn = said(student, labels) - shift  # the ratio is exp(shift)
        slope = gradient(
            L.SampledReverseKL(clip=0.2), student, teacher, Target(2, labels, logprobs=drawn)
        )
        assert [not row.any() for row in slope] == stopped


TERMS = [L.SampledReverseKL(), L.SampledReverseKL(clip=0.2, temperature=2), L.MiniLLM(gamma=0.9)]


@pytest.mark.parametrize("term", [*TERMS, L.MiniLLM(normalise=False)], ids=repr)
@pytest.mark.parametrize("chunk_rows", [1, 3, 9])
def test_lazy_logits_give_the_same_and_rows_not_drawn_are_left_out(term, chunk_rows) -> None:
    rows, head, states = 9, nn.Linear(3, C), torch.randn(9, 3)
    labels = torch.arange(rows) % C
    drawn = torch.full((rows,), -1.5)
    drawn[[2, 7]] = torch.nan
    valid = torch.arange(rows) != 4
    samples = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    target = Target(rows, labels, valid, logprobs=drawn, samples=samples)
    found = []
    for lazy in (True, False):
        leaf = states.clone().requires_grad_()
        student = LazyLogits(leaf, head, chunk_rows=chunk_rows) if lazy else Logits(head(leaf))
        value = (1 * term + 0.1 * L.CrossEntropy())(
            Signals(student), Signals(Logits(logits(rows, seed=2))), target
        )
        slopes = torch.autograd.grad(value.loss, [leaf, head.weight], retain_graph=True)
        found.append((value.loss.detach(), *slopes))
        alone = term(Signals(student), Signals(Logits(logits(rows, seed=2))), target)
        (only,) = torch.autograd.grad(alone.total, leaf)
        assert int(alone.count) == 6
        assert not only[[2, 4, 7]].any()
        if term.clip is None:
            assert only[[0, 1, 3, 5, 6, 8]].any(dim=1).all()

    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_teacher_that_scores_the_drawn_token_alone_will_do() -> None:
    student, teacher = logits(4, seed=1), logits(4, seed=2)
    labels = torch.tensor([0, 3, 2, 1])
    target = Target(4, labels, logprobs=said(student, labels))
    one = said(teacher, labels)
    scored = SparseLogits(labels[:, None], one[:, None], 1 - one.exp(), C, 1.0)

    torch.testing.assert_close(
        gradient(L.SampledReverseKL(), student, scored, target),
        gradient(L.SampledReverseKL(), student, teacher, target),
    )

    other = SparseLogits((labels[:, None] + 1) % C, one[:, None], 1 - one.exp(), C, 1.0)
    even = (1 - one.exp()).log() - math.log(C - 1)
    value = L.SampledReverseKL()(Signals(Logits(student)), Signals(other), target).total
    assert float(value) == pytest.approx(float((said(student, labels) - even).sum()), rel=1e-5)


def test_samples_and_other_temperatures_are_refused() -> None:
    labels, ones = torch.zeros(2).long(), torch.ones(2)
    target = Target(2, labels, logprobs=-ones)
    kept = SparseLogits(labels[:, None], -ones[:, None], 1 - (-ones).exp(), C, 2.0)
    for term in (L.SampledReverseKL(), L.MiniLLM()):
        with pytest.raises(HandshakeError):
            gradient(term, logits(2, seed=1), kept, target)
    with pytest.raises(HandshakeError, match="drawn with; train it on-policy"):
        gradient(L.MiniLLM(), logits(2, seed=1), logits(2, seed=2), Target(2, labels))


def test_what_follows_is_added_up_within_a_sample() -> None:
    gained = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    samples = torch.tensor([0, 0, 0, 3, 3, 7])
    counts = torch.tensor([True, True, True, True, True, True])

    plain = following(gained, counts, samples, 1.0, normalise=False)
    halved = following(gained, counts, samples, 0.5, normalise=False)
    shared = following(gained, counts, samples, 1.0, normalise=True)

    assert plain.tolist() == [6, 4, 0, 16, 0, 0]
    assert halved.tolist() == [2, 2, 0, 8, 0, 0]
    assert shared.tolist() == [3, 4, 0, 16, 0, 0]


def test_nothing_that_follows_is_reverse_kl() -> None:
    student, teacher = logits(4, seed=1), logits(4, seed=2)
    labels = torch.tensor([0, 3, 2, 1])
    target = Target(4, labels, logprobs=said(student, labels))  # four answers of one token

    got = gradient(L.MiniLLM(temperature=2), student, teacher, target)

    expected = gradient(L.ReverseKL(temperature=2), student, teacher, target)
    torch.testing.assert_close(got, expected)


def test_minillm_has_the_gradient_of_the_reverse_kl_of_whole_answers() -> None:
    # Answers of two tokens over three: exact KL by enumeration, against the mean over all answers.
    torch.manual_seed(0)
    first, second = torch.randn(3, dtype=DTYPE), torch.randn(3, 3, dtype=DTYPE)
    p_first, p_second = torch.randn(3, dtype=DTYPE), torch.randn(3, 3, dtype=DTYPE)
    first.requires_grad_()
    second.requires_grad_()
    log_q = (first.log_softmax(0)[:, None] + second.log_softmax(1)).flatten()
    log_p = (p_first.log_softmax(0)[:, None] + p_second.log_softmax(1)).flatten()
    exact = torch.autograd.grad((log_q.exp() * (log_q - log_p)).sum(), [first, second])

    weights, means = log_q.detach().exp(), [torch.zeros_like(first), torch.zeros_like(second)]
    for answer, weight in enumerate(weights):
        one, two = divmod(answer, 3)
        student = torch.stack([first, second[one]])
        teacher = torch.stack([p_first, p_second[one]])
        labels = torch.tensor([one, two])
        target = Target(
            2, labels, samples=torch.zeros(2).long(), logprobs=said(student.detach(), labels)
        )
        total = L.MiniLLM(normalise=False)(
            Signals(Logits(student)), Signals(Logits(teacher)), target
        ).total
        got = torch.autograd.grad(total, [first, second], allow_unused=True)
        means = [mean + weight * part for mean, part in zip(means, got, strict=True)]

    for mean, expected in zip(means, exact, strict=True):
        torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-12)
