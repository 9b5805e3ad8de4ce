"""Teachers with other tokens: spans of several tokens join rows, equal tokens change nothing."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.signals import CommonTokens, LazyLogits, Logits, Signals, Target

from . import foreign_cases as fc
from . import oracles
from .cases import relative

TERMS = [
    (L.CrossTokenizerKD(), {"temperature": 1, "weight": 4 / 6}),
    (L.CrossTokenizerKD(temperature=2), {"temperature": 2, "weight": 4 / 6}),
    (L.CrossTokenizerKD(common_weight=1), {"temperature": 1, "weight": 1}),
    (L.CrossTokenizerKD(common_weight=0), {"temperature": 1, "weight": 0}),
    (
        L.CrossTokenizerKD(divergence="reverse_kl", temperature=1.5),
        {"temperature": 1.5, "weight": 4 / 6, "divergence": fc.reverse},
    ),
]


def logits(rows: int, classes: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, classes, generator=generator)


def evaluate(term: L.RowTerm, student: Tensor, teacher: object, target: Target | None = None):
    leaf = student.clone().requires_grad_()
    partial_ = term(Signals(Logits(leaf)), Signals(teacher), target or Target(len(leaf)))
    (gradient,) = torch.autograd.grad(partial_.total, leaf)
    return partial_.total.detach(), gradient


@pytest.mark.parametrize(("term", "options"), TERMS, ids=lambda v: repr(v)[:60])
def test_value_and_gradient_equal_the_naive_loops(term, options) -> None:
    student, teacher = logits(fc.N, fc.C, seed=1).double(), logits(fc.M, fc.V, seed=2).double()

    value, gradient = evaluate(term, student, fc.foreign(teacher))

    naive = partial(fc.total, **options)
    s, t = student.tolist(), teacher.tolist()
    assert relative(value, naive(s, t)) < 1e-9
    assert relative(gradient, oracles.gradient(naive, s, t)) < 1e-6


@pytest.mark.parametrize(("term", "options"), TERMS, ids=lambda v: repr(v)[:60])
def test_float32_is_near_enough(term, options) -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)

    value, gradient = evaluate(term, student, fc.foreign(teacher))

    exact, exact_gradient = evaluate(term, student.double(), fc.foreign(teacher.double()))
    assert relative(value, exact) < 3e-6
    assert relative(gradient, exact_gradient) < 3e-6


SAME = CommonTokens(torch.arange(5), torch.arange(5), torch.empty(0).long(), torch.empty(0).long())


@pytest.mark.parametrize(
    ("term", "plain"),
    [
        (L.CrossTokenizerKD(), L.KD(temperature=1)),
        (L.CrossTokenizerKD(temperature=3), L.KD(temperature=3)),
        (L.CrossTokenizerKD(divergence="reverse_kl"), L.ReverseKL()),
        (L.CrossTokenizerKD(divergence="jsd", temperature=2), L.JSD(temperature=2)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_with_the_same_tokens_it_is_the_plain_divergence(term, plain, lazy: bool) -> None:
    rows, head, their_head = 9, nn.Linear(3, 5), nn.Linear(4, 5)
    states, their_states = torch.randn(rows, 3), torch.randn(rows, 4)
    labels = torch.randint(5, (rows,))
    spans = [((i,), (int(y),), (i,), (int(y),)) for i, y in enumerate(labels)]
    valid = torch.arange(rows) != 4
    found = []

    for used in (term, plain):
        leaf = states.clone().requires_grad_()
        taught = LazyLogits(their_states, their_head) if lazy else Logits(their_head(their_states))
        student = LazyLogits(leaf, head, chunk_rows=4) if lazy else Logits(head(leaf))
        if used is term:
            taught = fc.foreign(taught, spans, SAME, n=rows, c=5)
        value = used(Signals(student), Signals(taught), Target(rows, labels, valid))
        found.append((value.total.detach(), *torch.autograd.grad(value.total, [leaf, head.weight])))
        assert int(value.count) == rows - 1

    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_permuted_vocabulary_is_the_same_vocabulary() -> None:
    student, teacher = logits(4, 5, seed=1), logits(4, 5, seed=2)
    order = torch.tensor([3, 0, 4, 1, 2])
    none = torch.empty(0).long()
    common = CommonTokens(torch.arange(5), order.argsort(), none, none)
    spans = [((i,), (i,), (i,), (int(order.argsort()[i]),)) for i in range(4)]

    value, gradient = evaluate(
        L.CrossTokenizerKD(), student, fc.foreign(teacher[:, order], spans, common, n=4, c=5)
    )

    expected, expected_gradient = evaluate(L.KD(temperature=1), student, Logits(teacher))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("term", "options"), TERMS, ids=lambda v: repr(v)[:60])
@pytest.mark.parametrize("chunk_rows", [1, 3, 5, 13])
def test_chunks_do_not_matter_even_within_a_span(term, options, chunk_rows: int) -> None:
    head, their_head = nn.Linear(3, fc.C), nn.Linear(4, fc.V)
    states, their_states = torch.randn(fc.N, 3), torch.randn(fc.M, 4)
    found = []

    for lazy in (True, False):
        leaf = states.clone().requires_grad_()
        student = LazyLogits(leaf, head, chunk_rows=chunk_rows) if lazy else Logits(head(leaf))
        taught = LazyLogits(their_states, their_head) if lazy else Logits(their_head(their_states))
        objective = 0.5 * term + 0.5 * L.CrossEntropy()
        target = Target(fc.N, torch.arange(fc.N) % fc.C)
        loss = objective(Signals(student), Signals(fc.foreign(taught)), target).loss
        found.append((loss.detach(), *torch.autograd.grad(loss, [leaf, head.weight, head.bias])))

    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_span_of_which_a_row_does_not_count_is_left_alone() -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)
    valid = torch.arange(fc.N) != 6  # in the middle of the fourth span

    value, gradient = evaluate(
        L.CrossTokenizerKD(), student, fc.foreign(teacher), Target(fc.N, valid=valid)
    )

    assert not gradient[6:8].any()
    assert gradient[5].any()  # its first row still has the distribution at its start
    assert torch.isfinite(value)


def test_rows_without_a_partner_have_no_loss_and_no_gradient() -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)
    for term in (L.CrossTokenizerKD(), L.ULD()):
        _, gradient = evaluate(term, student, fc.foreign(teacher))

        assert not gradient[11].any()
        assert gradient[12].any()


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_texts_may_count_differently(lazy: bool) -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)
    weights = torch.where(torch.arange(fc.N) < 8, 0.25, 2.0)  # no span crosses row 8
    leaf, head = student.clone().requires_grad_(), nn.Linear(fc.C, fc.C, bias=False)
    nn.init.eye_(head.weight)
    made = LazyLogits(leaf, head, chunk_rows=3) if lazy else Logits(leaf)

    value = L.CrossTokenizerKD()(
        Signals(made), Signals(fc.foreign(teacher)), Target(fc.N, weights=weights)
    )
    (gradient,) = torch.autograd.grad(value.total, leaf)

    _, plain = evaluate(L.CrossTokenizerKD(), student, fc.foreign(teacher))
    torch.testing.assert_close(gradient, plain * weights[:, None], rtol=1e-5, atol=1e-6)
    assert float(value.count) == pytest.approx(float(weights.sum()))


def test_without_a_common_stretch_of_text_there_is_nothing_to_learn() -> None:
    none = torch.zeros(0, 1).long()
    taught = fc.foreign(logits(fc.M, fc.V, seed=2))
    taught = replace(taught, spans=type(taught.spans)(none, none, none, none))
    for term in (L.CrossTokenizerKD(), L.ULD()):
        value, gradient = evaluate(term, logits(fc.N, fc.C, seed=1), taught)

        assert float(value) == 0
        assert not gradient.any()


def test_a_student_that_knows_all_the_teacher_says_has_no_loss() -> None:
    same = logits(5, 5, seed=1)
    spans = [((i,), (i,), (i,), (i,)) for i in range(5)]
    for term in (L.CrossTokenizerKD(), L.CrossTokenizerKD(divergence="jsd"), L.ULD()):
        value, gradient = evaluate(term, same, fc.foreign(same.clone(), spans, SAME, n=5, c=5))

        assert abs(float(value)) < 1e-6
        if not isinstance(term, L.ULD):
            assert float(gradient.abs().max()) < 1e-6


def test_teacher_logits_of_minus_infinity_are_allowed() -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)
    teacher[:, 3] = -torch.inf
    teacher[4, 0] = -torch.inf  # a later token of a span: the teacher rules the span out
    for term in (L.CrossTokenizerKD(), L.CrossTokenizerKD(divergence="reverse_kl"), L.ULD()):
        value, gradient = evaluate(term, student, fc.foreign(teacher))

        assert torch.isfinite(value), term
        assert torch.isfinite(gradient).all(), term


def test_sorted_probabilities_equal_the_naive_loops() -> None:
    student, teacher = logits(fc.N, fc.C, seed=1).double(), logits(fc.M, fc.V, seed=2).double()

    value, gradient = evaluate(L.ULD(temperature=2), student, fc.foreign(teacher))

    def naive(s, t):
        return 4 * sum(
            fc.sorted_l1(oracles.softmax(t[theirs[0]], 2), oracles.softmax(s[mine[0]], 2))
            for mine, _, theirs, _ in fc.SPANS
        )

    s, t = student.tolist(), teacher.tolist()
    assert relative(value, naive(s, t)) < 1e-9
    assert relative(gradient, oracles.gradient(naive, s, t)) < 1e-6


def test_other_terms_want_the_same_tokens_and_say_so() -> None:
    taught = fc.foreign(logits(fc.M, fc.V, seed=2))
    for term in (L.KD(), L.JSD(), L.LogitMSE(), L.DIST()):
        with pytest.raises(HandshakeError, match="got one with others; use cross_tokenizer_kd"):
            evaluate(term, logits(fc.N, fc.C, seed=1), taught)
    lazy = LazyLogits(torch.randn(fc.N, 3), nn.Linear(3, fc.C))
    with pytest.raises(HandshakeError, match="got one with others"):
        L.KD()(Signals(lazy), Signals(taught), Target(fc.N))


def test_teachers_with_the_same_tokens_need_no_wrapping() -> None:
    student, teacher = logits(4, 5, seed=1), logits(4, 5, seed=2)

    value, gradient = evaluate(L.CrossTokenizerKD(temperature=2), student, Logits(teacher))

    expected, expected_gradient = evaluate(L.KD(temperature=2), student, Logits(teacher))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_columns_that_mean_nothing_are_left_out() -> None:
    student, teacher = logits(fc.N, fc.C, seed=1), logits(fc.M, fc.V, seed=2)
    wide = torch.cat([student, 5 * torch.randn(fc.N, 3)], 1)
    head, states = nn.Linear(4, fc.C + 3), torch.randn(fc.N, 4)
    cut = LazyLogits(states, head, classes=fc.C, chunk_rows=4)
    expected = evaluate(L.CrossTokenizerKD(), student, fc.foreign(teacher))
    value = L.CrossTokenizerKD()(Signals(cut), Signals(fc.foreign(teacher)), Target(fc.N)).total
    (gradient,) = torch.autograd.grad(value, head.weight)

    narrow = evaluate(L.CrossTokenizerKD(), wide[:, : fc.C], fc.foreign(teacher))
    dense, _ = evaluate(L.CrossTokenizerKD(), head(states)[:, : fc.C].detach(), fc.foreign(teacher))

    torch.testing.assert_close(narrow, expected)
    torch.testing.assert_close(value.detach(), dense)
    assert not gradient[fc.C :].any()
    assert gradient[: fc.C].any()


def test_a_common_weight_out_of_range_is_refused() -> None:
    with pytest.raises(L.catalog.RecipeError, match="common_weight=1"):
        L.CrossTokenizerKD(common_weight=1.5)
    taught = fc.foreign(logits(fc.M, fc.V, seed=2))
    with pytest.raises(HandshakeError, match="equal shapes"):
        evaluate(L.ULD(), logits(fc.N, fc.C, seed=1), replace(taught, num_classes=7))
