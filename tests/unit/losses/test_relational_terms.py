"""Terms that compare samples or statistics: values, gradients, and what must not change them."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.errors import HandshakeError, RecipeError
from potstill.functional import relational
from potstill.signals import Signals, Target

from . import relation_oracles as oracles

B, D, E = 5, 4, 6


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def signals(*features: Tensor, names: str = "abc") -> Signals:
    return Signals(features=dict(zip(names, features, strict=False)))


def evaluate(term, student, teacher, target=None) -> tuple[Tensor, list[Tensor]]:
    """The objective's value and the gradients by each of the student's features."""
    students = [each.clone().requires_grad_() for each in student]
    target = target or Target(len(students[0]))
    value = (1 * term)(signals(*students), signals(*teacher), target).loss
    return value.detach(), list(torch.autograd.grad(value, students))


VECTORS = [
    (L.CorrelationCongruence("a", "a"), oracles.correlation_congruence),
    (L.RkdDistance("a", "a"), oracles.rkd_distance),
    (L.RkdAngle("a", "a"), oracles.rkd_angle),
    (L.PKT("a", "a"), oracles.pkt),
    (L.SimilarityPreserving("a", "a"), oracles.similarity_preserving),
]
MAPS = [
    (L.SimilarityPreserving("a", "a"), oracles.similarity_preserving),
    (L.AttentionTransfer("a", "a"), oracles.attention_transfer),
    (L.NST("a", "a"), oracles.nst),
]
NAMES = [term.name for term, _ in VECTORS]


@pytest.mark.parametrize(("term", "oracle"), VECTORS, ids=NAMES)
def test_terms_on_vectors_equal_the_naive_loops(term, oracle) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)

    value, (gradient,) = evaluate(term, [student], [teacher])

    leaf = student.clone().requires_grad_()
    expected = oracle(leaf, teacher)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("term", "oracle"), MAPS, ids=[term.name for term, _ in MAPS])
def test_terms_on_maps_equal_the_naive_loops(term, oracle) -> None:
    student, teacher = draw(3, 2, 2, 3, seed=1), draw(3, 4, 2, 3, seed=2)

    value, (gradient,) = evaluate(term, [student], [teacher])

    leaf = student.clone().requires_grad_()
    expected = oracle(leaf, teacher)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-10)


def test_flow_equals_the_naive_loops_over_three_layers() -> None:
    students = [draw(3, c, 2, 2, seed=c) for c in (2, 3, 4)]
    teachers = [draw(3, c, 2, 2, seed=9 + c) for c in (2, 3, 4)]
    names = ("a", "b", "c")

    value, gradients = evaluate(L.FSP(names, names), students, teachers)

    leaves = [each.clone().requires_grad_() for each in students]
    expected = oracles.fsp(leaves, teachers)
    torch.testing.assert_close(value, expected.detach())
    for found, right in zip(gradients, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(found, right)


def test_flow_pools_the_larger_map_by_its_maxima() -> None:
    layers = [draw(2, 2, 4, 4, seed=1), draw(2, 2, 2, 2, seed=2)]
    teachers = [draw(2, 2, 2, 2, seed=3), draw(2, 2, 2, 2, seed=4)]
    cells = layers[0].reshape(2, 2, 2, 2, 2, 2).amax(dim=(3, 5))

    value, _ = evaluate(L.FSP(("a", "b"), ("a", "b")), layers, teachers)
    expected, _ = evaluate(L.FSP(("a", "b"), ("a", "b")), [cells, layers[1]], teachers)

    torch.testing.assert_close(value, expected)


def test_flow_between_unequal_widths_learns_a_map_for_each_layer() -> None:
    student = signals(draw(2, 2, 4, 4, seed=1).float(), draw(2, 3, 2, 2, seed=2).float())
    teacher = signals(draw(2, 5, 8, 8, seed=3).float(), draw(2, 3, 4, 4, seed=4).float())
    term = L.FSP(("a", "b"), ("a", "b"))
    with pytest.raises(HandshakeError, match="no projector yet from 2 features to 5"):
        term(student, teacher, Target(2))

    bound = term.bind(student, teacher)
    bound(student, teacher, Target(2)).total.backward()

    assert [p.grad.abs().sum() > 0 for p in bound.parts().parameters()] == [True, True]
    lines = list(bound.describe(student, teacher))
    assert lines[0].endswith("linear 2 → 5")
    assert lines[1].endswith("no projector")
    with pytest.raises(HandshakeError, match="name two or more"):
        L.FSP("a", "a").bind(student, teacher)


def test_srd_equals_the_naive_loops() -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    term = L.SRD("a", "a").bind(signals(student), signals(teacher))
    term.parts().double()

    value, (gradient,) = evaluate(term, [student], [teacher])

    leaf = student.clone().requires_grad_()
    expected = oracles.srd(leaf, teacher, term.heads[0].weight.detach())
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, expected_gradient)
    with pytest.raises(HandshakeError, match="no learnable parts yet"):
        L.SRD("a", "a")(signals(student), signals(teacher), Target(B))


@pytest.mark.parametrize("term", [term for term, _ in VECTORS], ids=NAMES)
def test_rows_that_do_not_count_are_nobodys_partners(term) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    expected, (expected_gradient,) = evaluate(term, [student[:3]], [teacher[:3]])
    student[3:], teacher[3:] = float("nan"), float("inf")
    valid = torch.tensor([True, True, True, False, False])

    value, (gradient,) = evaluate(term, [student], [teacher], Target(B, valid=valid))

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:3], expected_gradient)
    assert not gradient[3:].any()


@pytest.mark.parametrize("term", [term for term, _ in VECTORS], ids=NAMES)
def test_order_width_and_basis_of_the_teacher_change_nothing(term) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    order = torch.tensor([3, 1, 4, 0, 2])
    turn, _ = torch.linalg.qr(draw(E, E, seed=3))

    value, (gradient,) = evaluate(term, [student], [teacher])
    mixed, (mixed_gradient,) = evaluate(term, [student[order]], [(teacher @ turn)[order]])
    same, (flat,) = evaluate(term, [teacher @ turn], [teacher])

    torch.testing.assert_close(mixed, value)
    torch.testing.assert_close(mixed_gradient, gradient[order])
    assert float(same) < 1e-12
    assert float(flat.abs().max()) < 1e-5


@pytest.mark.parametrize("term", [L.RkdDistance("a", "a"), L.RkdAngle("a", "a")], ids=repr)
def test_relational_distillation_knows_no_scale_and_no_origin(term) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)

    value, _ = evaluate(term, [student], [teacher])
    moved, _ = evaluate(term, [3 * student + 7], [teacher / 5 - 1])

    torch.testing.assert_close(moved, value)


@pytest.mark.parametrize("term", [term for term, _ in VECTORS], ids=NAMES)
def test_equal_samples_leave_the_gradient_finite(term) -> None:
    student, teacher = torch.ones(B, D).double(), draw(B, E, seed=2)

    value, (gradient,) = evaluate(term, [student], [teacher])

    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("valid", [None, torch.tensor([True, False, True, True, True])], ids=str)
def test_angles_of_many_samples_are_looked_at_in_parts(monkeypatch, valid) -> None:
    student, teacher = draw(B, D, seed=1), draw(B, E, seed=2)
    target = Target(B, valid=valid)
    whole, (expected,) = evaluate(L.RkdAngle("a", "a"), [student], [teacher], target)
    monkeypatch.setattr(relational, "_ELEMENTS", 2 * B * E)

    value, (gradient,) = evaluate(L.RkdAngle("a", "a"), [student], [teacher], target)

    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("term", [term for term, _ in MAPS[1:]], ids=repr)
@pytest.mark.parametrize("splits", [[4], [1, 3]], ids=str)
def test_splitting_a_step_does_not_change_terms_on_single_samples(term, splits) -> None:
    student, teacher = draw(4, 2, 4, 4, seed=1), draw(4, 3, 2, 2, seed=2)
    valid = torch.tensor([True, False, True, True])
    whole = term(signals(student), signals(teacher), Target(4, valid=valid))

    edges = [0, *torch.tensor(splits).cumsum(0).tolist()]
    parts = [
        term(signals(student[a:b]), signals(teacher[a:b]), Target(b - a, valid=valid[a:b]))
        for a, b in pairwise(edges)
    ]

    torch.testing.assert_close(sum(p.total for p in parts), whole.total)
    assert sum(int(p.count) for p in parts) == int(whole.count) == 3


@pytest.mark.parametrize("term", [term for term, _ in MAPS[1:]], ids=repr)
def test_maps_meet_on_the_smaller_grid_and_tokens_meet_maps(term) -> None:
    large, small = draw(3, 2, 4, 4, seed=1), draw(3, 5, 2, 2, seed=2)
    tokens = small.flatten(2).movedim(1, 2)
    with_class = torch.cat([torch.full((3, 1, 5), 9.0).double(), tokens], 1)

    expected, _ = evaluate(term, [large], [small])
    by_tokens, _ = evaluate(term, [large], [with_class])

    assert float(expected) > 0
    torch.testing.assert_close(by_tokens, expected)


@pytest.mark.parametrize(
    "term",
    [L.AttentionTransfer("a", "a"), L.NST("a", "a"), L.PKT("a", "a"),
     L.AttentionTransfer("a", "a", form="squared")],
    ids=repr,
)  # fmt: skip
def test_padding_of_texts_does_not_count(term) -> None:
    student, teacher = draw(3, 4, 2, seed=1), draw(3, 4, 5, seed=2)  # tokens [B, T, D]
    expected, (expected_gradient,) = evaluate(term, [student], [teacher])
    padded = [torch.cat([x, torch.full((3, 2, x.shape[2]), 5.0).double()], 1)
              for x in (student, teacher)]  # fmt: skip
    positions = torch.arange(6).expand(3, 6) < 4

    value, (gradient,) = evaluate(term, [padded[0]], [padded[1]], Target(3, positions=positions))

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:, :4], expected_gradient)
    assert not gradient[:, 4:].any()


def test_maps_and_tokens_are_averaged_into_vectors() -> None:
    student, teacher = draw(B, D, 3, 3, seed=1), draw(B, 7, E, seed=2)

    value, _ = evaluate(L.PKT("a", "a"), [student], [teacher])
    expected, _ = evaluate(L.PKT("a", "a"), [student.mean((2, 3))], [teacher.mean(1)])

    torch.testing.assert_close(value, expected)


def test_pairs_add_up() -> None:
    student, teacher = [draw(B, D, seed=n) for n in (1, 2)], [draw(B, E, seed=n) for n in (3, 4)]

    both, _ = evaluate(L.RkdDistance(("a", "b"), ("a", "b")), student, teacher)
    one = L.RkdDistance("a", "a")(signals(*student), signals(*teacher), Target(B))
    two = L.RkdDistance("b", "b")(signals(*student), signals(*teacher), Target(B))

    torch.testing.assert_close(both, (one.total + two.total) / B)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: L.RkdDistance(delta=0), "delta=0"),
        (lambda: L.NST(degree=1.5), "degree=1.5; give a whole number of 1"),
        (lambda: L.AttentionTransfer(form="mean"), 'one of "norm", "squared"'),
        (lambda: L.CRD(queue=-1), "queue=-1"),
        (lambda: L.CRD(samples=0), "samples=0"),
        (lambda: L.QueueSimilarity(temperature=0), "temperature=0"),
        (lambda: L.PKT(("a", "b"), "a"), "2 layers of the student and 1 of the teacher"),
        (lambda: L.PKT([], "a"), "give the name of a layer"),
    ],
)
def test_options_that_cannot_teach_are_refused(make, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()


def test_shapes_that_cannot_teach_are_refused() -> None:
    vectors = signals(draw(1, D, seed=1)), signals(draw(1, E, seed=2))
    with pytest.raises(HandshakeError, match="this batch has one"):
        L.PKT("a", "a").bind(*vectors)
    with pytest.raises(HandshakeError, match="reads maps or tokens, and `a` gives"):
        L.AttentionTransfer("a", "a").bind(*vectors)
