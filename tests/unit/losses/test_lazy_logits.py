"""Logits that are not computed yet: chunks give what dense logits give, whatever the head."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from potstill import losses as L
from potstill.errors import HandshakeError, PotstillError
from potstill.signals import LazyLogits, Logits, Signals, Target

from .cases import CASES, TOLERANCE, C, Case, logits, relative

ROWS, WIDTH, TEACHER_WIDTH = 23, 4, 7
DIVERGENCES = [
    case
    for case in CASES
    if isinstance(case.term, L.DivergenceTerm) and not getattr(case.term, "standardise", False)
]
BOTH = 0.9 * L.KD(temperature=4) + 0.1 * L.CrossEntropy()


def head(width: int = WIDTH, *, seed: int = 0, bias: bool = True) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, C, bias=bias)


def hidden(width: int = WIDTH, *, seed: int = 1, rows: int = ROWS) -> Tensor:
    return 2 * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def teacher_of(states: Tensor, of: nn.Linear, *, lazy: bool) -> Signals:
    made = LazyLogits(states, of)
    return Signals(made if lazy else Logits(made.dense()))


def gradients(
    objective: L.Objective,
    states: Tensor,
    of: nn.Linear,
    teacher: Signals,
    target: Target,
    *,
    chunk_rows: int | None = None,
    lazy: bool = True,
) -> dict[str, Tensor]:
    """The loss and its gradients by hidden states and every parameter of the head."""
    states = states.detach().clone().requires_grad_()
    of.zero_grad()
    student = LazyLogits(states, of, chunk_rows=chunk_rows) if lazy else Logits(of(states))
    value = objective(Signals(student), teacher, target)
    value.loss.backward()
    found = {name: p.grad.clone() for name, p in of.named_parameters() if p.grad is not None}
    return {"loss": value.loss.detach(), "hidden": states.grad, **value.terms, **found}


def assert_alike(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        if float(value.abs().max()) > 0:
            assert relative(got[name], value) < tolerance, name
        else:
            assert not got[name].any(), name


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2 * TOLERANCE), (torch.float64, 1e-13)], ids=str
)
def test_every_row_wise_term_gives_the_dense_value_and_gradients(
    case: Case, dtype: torch.dtype, tolerance: float
) -> None:
    labels = case.make_labels(ROWS)
    if labels is not None and labels.is_floating_point():
        labels = labels.to(dtype)
    states, mine = hidden().to(dtype), head().to(dtype)
    theirs, teacher_states = head(TEACHER_WIDTH, seed=5).to(dtype), hidden(TEACHER_WIDTH).to(dtype)
    objective, target = L.weighted(case.term, 0.7), Target(ROWS, labels)

    dense = gradients(
        objective, states, mine, teacher_of(teacher_states, theirs, lazy=False), target, lazy=False
    )
    lazy = gradients(
        objective, states, mine, teacher_of(teacher_states, theirs, lazy=True), target, chunk_rows=7
    )

    assert_alike(lazy, dense, tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_of_rows_equals_autograd_and_leaves_the_logits_alone(case: Case) -> None:
    student, teacher = logits(seed=1).double(), logits(seed=2).double()
    labels = case.make_labels()
    labels = torch.empty(0) if labels is None else labels
    labels = labels.double() if labels.is_floating_point() else labels
    before = student.clone(), teacher.clone()

    losses, gradient = case.term.row_gradients(student, teacher, labels)

    leaf = student.clone().requires_grad_()
    expected = case.term.row_losses(leaf, teacher, labels)
    (by_autograd,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-11, atol=1e-13)
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize("case", DIVERGENCES, ids=str)
def test_closed_forms_stay_finite_where_classes_are_ruled_out(case: Case) -> None:
    student, teacher = logits(seed=1), logits(seed=2)
    teacher[:, 1] = float("-inf")
    teacher[0, :3] = float("-inf")
    teacher[1] += 1e4  # an offset that a softmax does not see
    teacher[2, 0] = 300  # and a teacher that is sure

    losses, gradient = case.term.row_gradients(student, teacher, torch.empty(0))

    leaf = student.clone().requires_grad_()
    expected = case.term.row_losses(leaf, teacher, torch.empty(0))
    (by_autograd,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-4, atol=1e-3)
    assert torch.isfinite(gradient).all()


def test_labels_that_cross_entropy_ignores_are_ignored_here_too() -> None:
    student, labels = logits(seed=1), torch.tensor([1, -100, 2, 0, -100, 4])

    losses, gradient = L.CrossEntropy(label_smoothing=0.1).row_gradients(
        student, torch.empty(0), labels
    )

    assert not losses[[1, 4]].any()
    assert not gradient[[1, 4]].any()
    assert gradient[[0, 2, 3, 5]].any(dim=1).all()


@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 22, 23, 1000])
def test_the_size_of_chunks_does_not_matter(chunk_rows: int) -> None:
    teacher = teacher_of(hidden(TEACHER_WIDTH), head(TEACHER_WIDTH, seed=5), lazy=True)
    target = Target(ROWS, torch.arange(ROWS) % C)

    whole = gradients(BOTH, hidden(), head(), teacher, target, chunk_rows=ROWS)
    parts = gradients(BOTH, hidden(), head(), teacher, target, chunk_rows=chunk_rows)

    assert_alike(parts, whole, TOLERANCE)


def test_blocks_within_a_chunk_do_not_matter(monkeypatch) -> None:
    teacher = teacher_of(hidden(TEACHER_WIDTH), head(TEACHER_WIDTH, seed=5), lazy=True)
    target = Target(ROWS, torch.arange(ROWS) % C)
    whole = gradients(BOTH, hidden(), head(), teacher, target, chunk_rows=10)

    monkeypatch.setitem(L.chunks._BLOCK_ELEMENTS, "cpu", 3 * C)
    blocks = gradients(BOTH, hidden(), head(), teacher, target, chunk_rows=10)

    assert_alike(blocks, whole, TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 13),
    st.booleans(),
    st.booleans(),
    st.sampled_from([BOTH, 1 * L.JSD(), L.CrossEntropy() + L.DKD(), 2 * L.DIST() + L.KD()]),
)
def test_rows_that_do_not_count_change_nothing(
    marks: list[tuple[bool, bool]],
    chunk_rows: int,
    lazy_teacher: bool,
    partly_labelled: bool,
    objective: L.Objective,
) -> None:
    rows = len(marks)
    valid, labelled = (torch.tensor(column) for column in zip(*marks, strict=True))
    states, labels = hidden(rows=rows), torch.arange(rows) % C
    target = Target(rows, labels, valid, labelled if partly_labelled else None)
    teacher_states = hidden(TEACHER_WIDTH, rows=rows)
    if all(isinstance(term, L.RowTerm) for _, term in objective):  # others get every logit
        states[~valid] = torch.nan
    teacher_states[~valid] = torch.nan
    labels[~valid] = 10**6
    theirs = head(TEACHER_WIDTH, seed=5)

    lazy = gradients(
        objective, states, head(), teacher_of(teacher_states, theirs, lazy=lazy_teacher), target,
        chunk_rows=chunk_rows,
    )  # fmt: skip
    dense = gradients(
        objective, states.nan_to_num(), head(), teacher_of(teacher_states, theirs, lazy=False),
        target, lazy=False,
    )  # fmt: skip

    for name, value in dense.items():
        torch.testing.assert_close(lazy[name], value, rtol=1e-5, atol=1e-6)


def test_the_order_of_rows_does_not_matter() -> None:
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3))
    labels, theirs = torch.arange(ROWS) % C, head(TEACHER_WIDTH, seed=5)
    states, teacher_states = hidden(), hidden(TEACHER_WIDTH)

    one = gradients(
        BOTH, states, head(), teacher_of(teacher_states, theirs, lazy=True), Target(ROWS, labels),
        chunk_rows=6,
    )  # fmt: skip
    other = gradients(
        BOTH, states[order], head(), teacher_of(teacher_states[order], theirs, lazy=True),
        Target(ROWS, labels[order]), chunk_rows=6,
    )  # fmt: skip

    other["hidden"] = other["hidden"][order.argsort()]
    assert_alike(other, one, TOLERANCE)


def test_the_head_is_computed_once_for_all_terms(monkeypatch) -> None:
    products = itertools.count()
    plain = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *a, **k: (next(products), plain(*a, **k))[1])
    objective = L.KD() + L.CrossEntropy() + L.JSD() + L.ReverseKL()

    gradients(
        objective, hidden(), head(), Signals(Logits(logits(ROWS, seed=2))),
        Target(ROWS, torch.arange(ROWS) % C),
    )  # fmt: skip

    assert next(products) == 1


def test_a_head_without_bias() -> None:
    teacher, target = Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)
    objective, mine = L.weighted(L.KD()), head(bias=False)

    lazy = gradients(objective, hidden(), mine, teacher, target, chunk_rows=4)
    dense = gradients(objective, hidden(), mine, teacher, target, lazy=False)

    assert_alike(lazy, dense, TOLERANCE)


@pytest.mark.parametrize("frozen", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient_and_costs_none(frozen: str, monkeypatch) -> None:
    mine, states = head(), hidden().requires_grad_(frozen != "hidden")
    mine.requires_grad_(frozen != "head")
    products = itertools.count()
    plain = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: (next(products), plain(*a, **k))[1])

    value = BOTH(
        Signals(LazyLogits(states, mine)),
        Signals(Logits(logits(ROWS, seed=2))),
        Target(ROWS, torch.arange(ROWS) % C),
    )
    value.loss.backward()

    assert (mine.weight.grad is None) == (frozen == "head")
    assert (states.grad is None) == (frozen == "hidden")
    assert next(products) == (0 if frozen == "hidden" else 1)


def test_nothing_is_differentiated_when_no_one_learns() -> None:
    student, teacher = LazyLogits(hidden(), head()), Signals(Logits(logits(ROWS, seed=2)))
    target = Target(ROWS, torch.arange(ROWS) % C)

    with torch.no_grad():
        silent = BOTH(Signals(student), teacher, target)
    learning = BOTH(Signals(student), teacher, target)

    assert not silent.loss.requires_grad
    assert learning.loss.requires_grad
    torch.testing.assert_close(silent.loss, learning.loss.detach(), rtol=1e-6, atol=0)


class Tied(nn.Module):
    """A language model in miniature whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embedding = nn.Embedding(C, WIDTH)
        self.block = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, C, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, *, lazy: bool) -> LazyLogits | Logits:
        made = LazyLogits(self.block(self.embedding(tokens)).tanh(), self.head, chunk_rows=4)
        return made if lazy else Logits(made.dense())


def test_gradients_of_a_tied_head_add_up() -> None:
    tokens = torch.arange(ROWS) % C
    found = []
    for lazy in (True, False):
        model = Tied()
        objective = 0.5 * L.KD(temperature=2) + L.CrossEntropy()
        teacher = Signals(Logits(logits(ROWS, seed=2)))
        objective(Signals(model(tokens, lazy=lazy)), teacher, Target(ROWS, tokens)).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters()})

    assert_alike(found[0], found[1], TOLERANCE)


def test_a_weight_that_is_computed_gets_its_gradient() -> None:
    mine = parametrizations.weight_norm(head())
    teacher, target = Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)

    lazy = gradients(L.weighted(L.KD()), hidden(), mine, teacher, target)
    dense = gradients(L.weighted(L.KD()), hidden(), mine, teacher, target, lazy=False)

    assert len(lazy) == 6  # loss, kd, hidden, bias, direction and length of the weight
    assert_alike(lazy, dense, TOLERANCE)


class Doubled(nn.Linear):
    """A head that does more than its weight says."""

    def forward(self, states: Tensor) -> Tensor:
        return 2 * super().forward(states)


def test_a_head_with_a_forward_of_its_own_takes_the_dense_way() -> None:
    mine = Doubled(WIDTH, C)
    teacher, target = Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)

    lazy = gradients(L.KD() + L.JSD(), hidden(), mine, teacher, target)
    dense = gradients(L.KD() + L.JSD(), hidden(), mine, teacher, target, lazy=False)

    assert_alike(lazy, dense, TOLERANCE)


def test_a_teacher_head_with_a_forward_of_its_own_is_called() -> None:
    theirs, target = Doubled(WIDTH, C), Target(ROWS)

    lazy = gradients(
        L.weighted(L.KD()), hidden(), head(), teacher_of(hidden(), theirs, lazy=True), target,
        chunk_rows=5,
    )  # fmt: skip
    dense = gradients(
        L.weighted(L.KD()), hidden(), head(), teacher_of(hidden(), theirs, lazy=False), target
    )

    assert_alike(lazy, dense, TOLERANCE)


def test_micro_batches_add_up_to_the_whole() -> None:
    states, labels, teacher = hidden(), torch.arange(ROWS) % C, logits(ROWS, seed=2)
    whole = gradients(BOTH, states, head(), Signals(Logits(teacher)), Target(ROWS, labels))
    mine, parts = head(), []

    for rows in (slice(0, 5), slice(5, 17), slice(17, ROWS)):
        part = states[rows].clone().requires_grad_()
        BOTH(
            Signals(LazyLogits(part, mine, chunk_rows=3)),
            Signals(Logits(teacher[rows])),
            Target(len(part), labels[rows]),
            counts=(ROWS, torch.tensor(ROWS)),
        ).loss.backward()
        parts.append(part.grad)

    assert relative(torch.cat(parts), whole["hidden"]) < TOLERANCE
    assert relative(mine.weight.grad, whole["weight"]) < TOLERANCE


def test_the_outer_gradient_scales_and_a_graph_can_be_used_twice() -> None:
    states, mine = hidden().requires_grad_(), head()
    value = L.weighted(L.KD())(
        Signals(LazyLogits(states, mine)), Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)
    )

    value.loss.backward(retain_graph=True)
    once = mine.weight.grad.clone()
    (3 * value.loss).backward(retain_graph=True)
    value.loss.backward()

    torch.testing.assert_close(mine.weight.grad, 5 * once, rtol=1e-6, atol=0)
    (0 * mine.weight.grad).add_(1)  # what was handed out is the caller's


def test_the_same_hidden_states_may_be_used_by_two_objectives() -> None:
    states, mine = hidden().requires_grad_(), head()
    teacher, target = Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)
    student = Signals(LazyLogits(states, mine))

    (L.KD()(student, teacher, target).total + L.JSD()(student, teacher, target).total).backward()

    expected = gradients(L.KD() + L.JSD(), hidden(), head(), teacher, target)
    assert relative(mine.weight.grad / ROWS, expected["weight"]) < TOLERANCE
    assert relative(states.grad / ROWS, expected["hidden"]) < TOLERANCE


def test_second_derivatives_are_refused_with_a_sentence() -> None:
    states = hidden().requires_grad_()
    total = L.KD()(
        Signals(LazyLogits(states, head())), Signals(Logits(logits(ROWS, seed=2))), Target(ROWS)
    ).total

    with pytest.raises(PotstillError, match="first derivatives only"):
        torch.autograd.grad(total, states, create_graph=True)


@pytest.mark.parametrize("marks", [torch.zeros(ROWS, dtype=torch.bool), None], ids=["mask", "none"])
def test_a_batch_without_anything_to_count_gives_zero_and_can_go_backward(marks) -> None:
    labels = None if marks is None else torch.arange(ROWS) % C
    target = Target(ROWS, labels, labelled=marks)

    found = gradients(L.weighted(L.CrossEntropy()), hidden(), head(), Signals(), target)

    assert found.keys() == {"loss", "cross_entropy", "hidden", "weight", "bias"}
    assert not any(value.any() for value in found.values())


def test_shapes_that_do_not_match_are_refused_before_anything_is_computed() -> None:
    teacher = Signals(LazyLogits(hidden(), nn.Linear(WIDTH, C + 2)))

    with pytest.raises(HandshakeError, match=r"\[23, 5\] from the student and \[23, 7\]"):
        BOTH(Signals(LazyLogits(hidden(), head())), teacher, Target(ROWS, torch.arange(ROWS) % C))


def test_a_term_that_compares_rows_gets_dense_logits() -> None:
    teacher, target = Signals(Logits(logits(ROWS, seed=2))), Target(ROWS, torch.arange(ROWS) % C)
    objective = 2 * L.DIST() + L.CrossEntropy() + 0.5 * L.KD()

    lazy = gradients(objective, hidden(), head(), teacher, target, chunk_rows=4)
    dense = gradients(objective, hidden(), head(), teacher, target, lazy=False)

    assert_alike(lazy, dense, TOLERANCE)
