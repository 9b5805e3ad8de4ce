"""Terms on maps and tokens against their papers' formulas, and what must not change them."""

import itertools

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.errors import HandshakeError, RecipeError
from potstill.functional.draws import Draws
from potstill.protocols import Term
from potstill.signals import Logits, Signals, Target

from . import map_oracles as oracles

B, D, E, SIDE = 4, 3, 5, 8


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bound(term: Term, student: Tensor, teacher: Tensor) -> Term:
    """For features named `a` and `b`, in float64, with batch norm that does not move."""
    made = term.bind(read(student, "a"), read(teacher, "b"))
    parts = made.parts()
    if parts is not None:
        parts.double().train()
    return made


def read(feature: Tensor, *names: str) -> Signals:
    return Signals(features=dict.fromkeys(names, feature))


def value(term: Term, student: Tensor, teacher: Tensor, target: Target | None = None) -> Tensor:
    target = target or Target(len(student))
    partial = term(read(student, "a"), read(teacher, "b"), target)
    return partial.total / partial.count


def same(term: Term, oracle, student: Tensor, teacher: Tensor) -> None:
    """Value and gradient by the student's feature, as the oracle has them from the matched ones."""
    leaf = student.clone().requires_grad_()
    got = value(term, leaf, teacher)
    expected = oracle(*_matched(term, leaf, teacher))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)
    assert gradients[0].any()


def _matched(term: Term, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return term.projector(student, teacher)


MAPS = [((B, D, SIDE, SIDE), (B, D, SIDE, SIDE)), ((B, D, SIDE, SIDE), (B, E, 4, 4))]


@pytest.mark.parametrize(("mine", "theirs"), MAPS, ids=["equal", "unlike"])
@pytest.mark.parametrize(
    ("term", "oracle"),
    [
        (L.PKD("a", "b"), oracles.pearson_2022),
        (L.CWD("a", "b"), lambda s, t: oracles.channel_wise_2020(s, t, 1)),
        (L.CWD("a", "b", temperature=3), lambda s, t: oracles.channel_wise_2020(s, t, 3)),
        (L.ActivationBoundaries("a", "b"), lambda s, t: oracles.boundaries_2018(s, t, 1)),
        (
            L.ActivationBoundaries("a", "b", margin=0.3),
            lambda s, t: oracles.boundaries_2018(s, t, 0.3),
        ),
        (L.FactorTransfer("a", "b"), oracles.factors_2018),
        (L.SimKD("a", "b"), lambda s, t: ((s - t) ** 2).sum() / t.numel()),
    ],
    ids=lambda value: repr(value) if isinstance(value, L.ArithmeticTerm) else "oracle",
)
def test_value_and_gradient_are_the_papers(term: Term, oracle, mine, theirs) -> None:
    if isinstance(term, L.SimKD):
        theirs = (B, D, *theirs[2:])
    student, teacher = drawn(*mine), drawn(*theirs, seed=1)

    same(bound(term, student, teacher), oracle, student, teacher)


@pytest.mark.parametrize(("mine", "theirs"), MAPS, ids=["equal", "unlike"])
def test_the_variance_of_vid_learns_along(mine, theirs) -> None:
    student, teacher = drawn(*mine), drawn(*theirs, seed=1)
    term = bound(L.VID("a", "b", variance=2.0), student, teacher)
    alpha = term.projector.spread
    torch.testing.assert_close((1 + alpha.exp()).log() + 1e-5, torch.full_like(alpha, 2.0))

    same(term, lambda s, t: oracles.variational_2019(s, t, alpha), student, teacher)

    expected = oracles.variational_2019(*_matched(term, student, teacher), alpha)
    wanted = torch.autograd.grad(expected, alpha)
    torch.testing.assert_close(torch.autograd.grad(value(term, student, teacher), alpha), wanted)


@pytest.mark.parametrize("masked", ["positions", "channels"])
def test_mgd_fills_in_what_the_draws_mask(masked: str) -> None:
    student, teacher = drawn(B, D, SIDE, SIDE), drawn(B, E, SIDE, SIDE, seed=1)
    term = bound(L.MGD("a", "b", ratio=0.4, masked=masked, seed=3), student, teacher)
    chance = torch.tensor([5, 1 << 33, 7, 8])
    shape = (1, SIDE, SIDE) if masked == "positions" else (E, 1, 1)
    keep = Draws.of(3, chance, torch.zeros_like(chance)).uniform(*shape) >= 0.4
    leaf = student.clone().requires_grad_()

    got = value(term, leaf, teacher, Target(B, chance=chance))

    network, first, last = (
        term.projector.network,
        term.projector.generation[0],
        term.projector.generation[2],
    )
    expected = sum(
        ((last(first((network(x[None]) * k).double()).clamp(min=0)) - y) ** 2).sum()
        for x, y, k in zip(leaf, teacher, keep, strict=True)
    )
    torch.testing.assert_close(got, expected / B)
    mine, theirs = (torch.autograd.grad(z, leaf)[0] for z in (got, expected / B))
    torch.testing.assert_close(mine, theirs)
    assert 0.3 < 1 - float(keep.double().mean()) < 0.55


def test_review_compares_what_was_fused_at_every_scale() -> None:
    features = [drawn(B, 4, SIDE, SIDE), drawn(B, 6, 4, 4, seed=1)]
    taught = [drawn(B, 5, SIDE, SIDE, seed=2), drawn(B, 7, 8, 8, seed=3)]
    student = Signals(features={"s1": features[0].requires_grad_(), "s2": features[1]})
    teacher = Signals(features=dict(zip(("t1", "t2"), taught, strict=True)))
    term = L.Review(("s1", "s2"), ("t1", "t2")).bind(student, teacher)
    term.parts().double()

    got = term(student, teacher, Target(B)).total / B

    fused = term.module(features, [t.shape[2:] for t in taught])
    expected = sum(oracles.hierarchical_2021(s, t) for s, t in zip(fused, taught, strict=True))
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(z, features[0], retain_graph=True)[0] for z in (got, expected)]
    torch.testing.assert_close(*gradients)


def test_review_mixes_each_layer_with_the_next_deeper_mixture() -> None:
    """Equation of the attention-based fusion, position by position, in eval mode."""
    shallow, deep = drawn(2, 4, 4, 4), drawn(2, 6, 2, 2, seed=1)
    teacher = [drawn(2, 5, 4, 4, seed=2), drawn(2, 7, 2, 2, seed=3)]
    signals = Signals(features={"s1": shallow, "s2": deep})
    taught = Signals(features={"t1": teacher[0], "t2": teacher[1]})
    term = L.Review(("s1", "s2"), ("t1", "t2"), width=3).bind(signals, taught)
    fusion = term.parts().double().eval()
    first, second = fusion.layers

    results = fusion([shallow, deep], [t.shape[2:] for t in teacher])

    below = second.narrow(deep)
    torch.testing.assert_close(results[1], second.out(below))
    own, up = first.narrow(shallow), below.repeat_interleave(2, 2).repeat_interleave(2, 3)
    scores = torch.einsum(
        "oc,bchw->bohw", first.attention.weight[:, :, 0, 0], torch.cat([own, up], 1)
    )
    share = 1 / (1 + (-(scores + first.attention.bias[None, :, None, None])).exp())
    torch.testing.assert_close(results[0], first.out(own * share[:, :1] + up * share[:, 1:]))


def test_vitkd_mimics_shallow_layers_and_generates_masked_patches() -> None:
    shallow, deep = drawn(B, 17, 4), drawn(B, 17, 4, seed=1)  # a class token and 4 by 4 patches
    taught = [drawn(B, 17, 6, seed=2), drawn(B, 17, 6, seed=3)]
    student = Signals(features={"s1": shallow.requires_grad_(), "s2": deep.requires_grad_()})
    teacher = Signals(features=dict(zip(("t1", "t2"), taught, strict=True)))
    term = L.ViTKD(("s1", "s2"), ("t1", "t2"), alpha=0.2, beta=0.3, ratio=0.25)
    term = term.bind(student, teacher)
    made = term.parts().double()
    torch.nn.init.normal_(made.mask_token)
    chance = torch.tensor([4, 5, 6, 7])

    got = term(student, teacher, Target(B, chance=chance)).total / B

    order = Draws.of(0, chance, torch.zeros_like(chance)).uniform(16).argsort(dim=1)
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        linear = made.align[0]
        s = torch.einsum("ed,td->te", linear.weight[:, :, 0, 0], shallow[b, 1:]) + linear.bias
        expected = expected + 0.2 * ((s - taught[0][b, 1:]) ** 2).sum()
        linear = made.align[1]
        s = torch.einsum("ed,td->te", linear.weight[:, :, 0, 0], deep[b, 1:]) + linear.bias
        hidden = order[b, 12:]  # 12 of 16 patches are kept
        rows = torch.stack(
            [made.mask_token[0, :, 0, 0] if p in hidden else s[p] for p in range(16)]
        )
        filled = made.generation(rows.T.reshape(1, 6, 4, 4))[0].flatten(1).T
        wrong = ((filled - taught[1][b, 1:]) ** 2).sum(1)
        expected = expected + 0.3 / 0.25 * wrong[hidden].sum()
    torch.testing.assert_close(got, expected / B)
    for leaf in (shallow, deep):
        mine, theirs = (
            torch.autograd.grad(z, leaf, retain_graph=True)[0] for z in (got, expected / B)
        )
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("gamma", [1, 1.5])
def test_ofa_counts_the_label_more(gamma: float) -> None:
    student, teacher = drawn(6, 4).requires_grad_(), drawn(6, 4, seed=1)
    labels = torch.tensor([0, 1, 2, 3, 1, 1])
    signals = Signals(logits=Logits(student)), Signals(logits=Logits(teacher))

    partial = L.OFA(gamma=gamma)(*signals, Target(6, labels=labels))

    expected = oracles.one_for_all_2023(student, teacher, labels, gamma)
    torch.testing.assert_close(partial.total / 6, expected)
    mine, theirs = (torch.autograd.grad(z, student)[0] for z in (partial.total / 6, expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("shape", [(D, SIDE, SIDE), (9, 8), (7,)], ids=["map", "tokens", "vector"])
def test_exits_of_any_kind_of_layer_learn_the_teachers_answer(shape: tuple[int, ...]) -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    student = read(drawn(6, *shape, dtype=torch.float32), "a")
    teacher = Signals(logits=Logits(drawn(6, 3, seed=1, dtype=torch.float32)))
    labelled = torch.tensor([1, 1, 0, 1, 1, 1]).bool()
    target = Target(6, labels=labels, labelled=labelled)
    term = L.OFAExits(("a",), width=16).bind(student, teacher)

    first = term(student, teacher, target)
    optimizer = torch.optim.Adam(term.parts().parameters(), lr=1e-2)
    for _ in range(15):
        loss = term(student, teacher, target).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert int(first.count) == 5
    assert float(loss.detach()) < 0.9 * float(first.total.detach())
    alone = L.OFA()(Signals(logits=Logits(term.exits[0](student.features["a"]))), teacher, target)
    torch.testing.assert_close(alone.total, term(student, teacher, target).total)


TERMS = [
    L.PKD("a", "b"),
    L.CWD("a", "b"),
    L.MGD("a", "b"),
    L.VID("a", "b"),
    L.ActivationBoundaries("a", "b"),
    L.FactorTransfer("a", "b"),
    L.Review(("a",), ("b",)),
    L.ViTKD(("a", "a"), ("b", "b")),
]


@pytest.mark.parametrize("term", [t for t in TERMS if not t.batchwise], ids=repr)
@pytest.mark.parametrize("splits", [[3, 5], [1, 1, 6]], ids=str)
def test_splitting_a_step_changes_nothing(term: Term, splits: list[int]) -> None:
    student, teacher = drawn(8, D, 4, 4), drawn(8, E, 4, 4, seed=1)
    term = bound(term, student, teacher)
    chance, valid = torch.arange(8) + (9 << 32), torch.tensor([1, 0, 1, 1, 1, 1, 0, 1]).bool()
    leaf = student.requires_grad_()

    def total(rows: slice) -> Tensor:
        target = Target(len(valid[rows]), valid=valid[rows], chance=chance[rows])
        return term(read(leaf[rows], "a"), read(teacher[rows], "b"), target).total

    whole = torch.autograd.grad(total(slice(None)), leaf)[0]
    edges = [0, *torch.tensor(splits).cumsum(0).tolist()]
    parts = sum(total(slice(a, b)) for a, b in itertools.pairwise(edges))
    torch.testing.assert_close(torch.autograd.grad(parts, leaf)[0], whole)


@pytest.mark.parametrize("term", [t for t in TERMS if t.batchwise], ids=repr)
def test_the_order_of_samples_changes_nothing(term: Term) -> None:
    student, teacher = drawn(8, D, 4, 4), drawn(8, E, 4, 4, seed=1)
    term, order = bound(term, student, teacher), torch.randperm(8)

    torch.testing.assert_close(
        value(term, student, teacher), value(term, student[order], teacher[order])
    )


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_garbage_in_rows_that_do_not_count_goes_nowhere(term: Term) -> None:
    student, teacher = drawn(4, D, 4, 4), drawn(4, E, 4, 4, seed=1)
    term = bound(term, student, teacher)
    student[3], teacher[3] = float("nan"), float("inf")
    leaf = student.requires_grad_()

    total = term(
        read(leaf, "a"), read(teacher, "b"), Target(4, valid=torch.tensor([1, 1, 1, 0]).bool())
    ).total
    total.backward()

    assert torch.isfinite(total)
    assert not leaf.grad[3].any()
    assert torch.isfinite(leaf.grad[:3]).all()
    assert all(torch.isfinite(p.grad).all() for p in term.parts().parameters() if p.requires_grad)


@pytest.mark.parametrize("term", [t for t in TERMS if isinstance(t, L.FeatureTerm)], ids=repr)
def test_padding_of_texts_does_not_count(term: Term) -> None:
    """As many tokens of padding as you like, and whatever stands in them."""
    student, teacher = drawn(3, 6, D), drawn(3, 6, D, seed=1)
    there = torch.arange(6) < torch.tensor([[6], [4], [2]])
    term = bound(term, student, teacher)
    parts = term.parts()
    if parts is not None:  # neighbours of padding see zeros or garbage through a convolution
        if any(isinstance(m, torch.nn.Conv1d) and m.kernel_size[0] > 1 for m in parts.modules()):
            return
        parts.eval()
    other = (
        torch.where(there[..., None], student, 7.0),
        torch.where(there[..., None], teacher, -2.0),
    )

    first = value(term, student, teacher, Target(3, positions=there))
    second = value(term, *other, Target(3, positions=there))

    torch.testing.assert_close(first, second)
    assert not torch.equal(first, value(term, student, teacher))


@pytest.mark.parametrize("term", [L.PKD("a", "b"), L.CWD("a", "b")], ids=repr)
def test_pkd_and_cwd_vanish_at_the_teacher_and_map_nothing_between_equal_widths(term: Term) -> None:
    teacher = drawn(3, D, 4, 4)
    term = bound(term, drawn(3, D, 8, 8), teacher)

    leaf = (2 * teacher + 1 if isinstance(term, L.PKD) else teacher + 5).requires_grad_()
    loss = value(term, leaf, teacher)

    assert term.parts() is None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert float(torch.autograd.grad(loss, leaf)[0].abs().max()) < 1e-9


def test_a_constant_channel_has_no_correlation_and_no_gradient() -> None:
    student, teacher = drawn(2, 2, 3, 3), drawn(2, 2, 3, 3, seed=1)
    student[:, 0] = 1.5
    leaf = student.requires_grad_()

    loss = value(bound(L.PKD("a", "b"), student, teacher), leaf, teacher)

    gradient = torch.autograd.grad(loss, leaf)[0]
    assert torch.isfinite(gradient).all()
    assert not gradient[:, 0].any()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: L.VID("a", "b", project=False), "always learns"),
        (lambda: L.MGD("a", "b", ratio=1), "ratio=1"),
        (lambda: L.MGD("a", "b", masked="rows"), '"positions", "channels"'),
        (lambda: L.CWD("a", "b", temperature=0), "temperature=0"),
        (lambda: L.FactorTransfer("a", "b", paraphraser_epochs=1.5), "whole number"),
        (lambda: L.Review(("a",), ("b", "c")), "1 layers of the student and 2"),
        (lambda: L.ViTKD(("a",), ("b",)), "2 or more"),
        (lambda: L.Review(3, ("b",)), "a list of names"),
        (lambda: L.OFAExits(()), "list of names"),
        (lambda: L.OFA(gamma=0.5), "at least 1"),
    ],
)
def test_options_that_cannot_teach_are_refused(make, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()


@pytest.mark.parametrize(
    ("term", "mine", "theirs", "says"),
    [
        (L.CWD("a", "b"), (2, 3), (2, 3), "before the pooling"),
        (L.SimKD("a", "b"), (2, 3, 4, 4), (2, 5, 4, 4), "head: teacher"),
        (L.ViTKD(("a", "a"), ("b", "b")), (2, 16, 4), (2, 9, 4), "patch by patch"),
    ],
)
def test_layers_that_do_not_suit_are_refused_when_bound(term, mine, theirs, says: str) -> None:
    with pytest.raises(HandshakeError, match=says):
        term.bind(read(drawn(*mine), "a"), read(drawn(*theirs), "b"))


@pytest.mark.parametrize("term", [L.VID("a", "b"), L.Review(("a",), ("b",)), L.OFAExits(("a",))])
def test_what_learns_must_be_bound_first(term: Term) -> None:
    signals = Signals(features={"a": drawn(2, 3, 4, 4)}, logits=Logits(drawn(2, 3)))
    taught = Signals(features={"b": drawn(2, 3, 4, 4)}, logits=Logits(drawn(2, 3)))

    with pytest.raises(HandshakeError, match=r"call `objective\.bind"):
        term(signals, taught, Target(2, labels=torch.tensor([0, 1])))
