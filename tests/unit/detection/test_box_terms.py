"""Terms of detectors against loops over places, written from the formulas."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.signals import Places, Signals, Target
from potstill.tasks import Detection

from .scenes import detector, labels, some_batch

B, A, C, R = 3, 5, 2, 4
TERMS = [
    L.PlaceKD(),
    L.PlaceKD(temperature=3, focus="difference"),
    L.PlaceKD(focus="all"),
    L.BoxKD(),
    L.LocalizationKD(temperature=2),
]


def places(seed: int, *, exclusive: bool = False, grid: str = "g", classes: int = C) -> Places:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(B, A, 2, generator=generator) * 10
    boxes = torch.cat([low, low + 1 + 5 * torch.rand(B, A, 2, generator=generator)], dim=-1)
    return Places(
        scores_BAC=torch.randn(B, A, classes + exclusive, generator=generator).requires_grad_(),
        boxes_BA4=boxes.requires_grad_(),
        bins_BA4R=torch.randn(B, A, 4, R, generator=generator).requires_grad_(),
        reader=None,  # type: ignore[arg-type]
        grid=grid,
        exclusive=exclusive,
    )


def entropy(p: float, q: float) -> float:
    """KL of two coins."""
    p, q = torch.tensor(p).double(), torch.tensor(q).double()
    return float(p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())


@torch.no_grad()
def by_loops(term, student: Places, teacher: Places) -> float:
    """The formulas, place by place, in float64."""
    total = 0.0
    for b in range(B):
        above = below = 0.0
        for a in range(A):
            s, t = student.scores_BAC[b, a].double(), teacher.scores_BAC[b, a].double()
            weight, loss = float(t.sigmoid().max()), 0.0
            if student.exclusive:
                weight = float(1 - t.softmax(0)[-1])
            if isinstance(term, L.PlaceKD):
                tau = term.temperature
                if term.focus == "difference":
                    squash = torch.sigmoid if not student.exclusive else lambda z: z.softmax(0)
                    weight = float((squash(s) - squash(t)).abs().max())
                elif term.focus == "all":
                    weight = 1.0
                if student.exclusive:
                    p, q = (t / tau).softmax(0), (s / tau).softmax(0)
                    loss = tau**2 * float((p * (p / q).log()).sum())
                else:
                    pairs = zip((t / tau).sigmoid(), (s / tau).sigmoid(), strict=True)
                    loss = tau**2 * sum(entropy(float(p), float(q)) for p, q in pairs)
            elif isinstance(term, L.BoxKD):
                pair = (student.boxes_BA4[b, a][None], teacher.boxes_BA4[b, a][None])
                loss = 1 - generalized_box_iou(*pair).item()
            else:
                tau = term.temperature
                for e in range(4):
                    p = (teacher.bins_BA4R[b, a, e].double() / tau).softmax(0)
                    q = (student.bins_BA4R[b, a, e].double() / tau).softmax(0)
                    loss += tau**2 / 4 * float((p * (p / q).log()).sum())
            above, below = above + weight * loss, below + weight
        total += above / below
    return total


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_the_value_is_that_of_loops_over_places(term, exclusive: bool) -> None:
    student, teacher = places(0, exclusive=exclusive), places(1, exclusive=exclusive)

    said = term(Signals(places=student), Signals(places=teacher), Target(num_rows=B))

    assert said.total.item() == pytest.approx(by_loops(term, student, teacher), rel=1e-5)
    assert said.count == B


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_the_gradient_is_that_of_finite_differences_and_the_teacher_has_none(term) -> None:
    student, teacher = places(0), places(1)
    leaf = {"box_kd": student.boxes_BA4, "localization_kd": student.bins_BA4R}.get(
        term.name, student.scores_BAC
    )
    constant = getattr(term, "focus", "") == "difference"  # its weights are held constant

    total = term(Signals(places=student), Signals(places=teacher), Target(num_rows=B)).total
    (gradient,) = torch.autograd.grad(total, leaf)

    assert gradient.abs().max() > 0
    assert teacher.scores_BAC.grad is None
    place = (1, 2, *(0,) * (leaf.ndim - 2))
    step, values = 1e-3, []
    for sign in (1, -1):
        with torch.no_grad():
            leaf[place] += sign * step
            values.append(by_loops(term, student, teacher))
            leaf[place] -= sign * step
    if not constant:
        slope = (values[0] - values[1]) / (2 * step)
        assert float(gradient[place]) == pytest.approx(slope, rel=2e-2, abs=2e-4)


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_a_student_that_says_the_same_has_nothing_to_learn(term) -> None:
    same = Signals(places=places(0))

    assert term(same, same, Target(num_rows=B)).total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_pictures_that_do_not_count_are_left_out(term) -> None:
    student, teacher = Signals(places=places(0)), Signals(places=places(1))
    valid = torch.tensor([True, False, True])

    parts = [term(student, teacher, Target(num_rows=B, valid=mask)) for mask in (valid, ~valid)]

    whole = term(student, teacher, Target(num_rows=B))
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total)
    assert [int(p.count) for p in parts] == [2, 1]


def said(model, batch):
    task = Detection()
    return task.forward(model, batch), task.target(batch)


def test_the_supervised_loss_adds_up_over_pictures_and_skips_unlabelled_ones() -> None:
    model, batch = detector().eval(), some_batch()
    term = L.DetectionLoss()

    whole = term(*(s := said(model, batch))[:1], Signals(), s[1])
    parts = [term(*(s := said(model, batch.rows(slice(i, i + 1))))[:1], Signals(), s[1])
             for i in range(3)]  # fmt: skip

    torch.testing.assert_close(sum(p.total for p in parts), whole.total, rtol=1e-4, atol=1e-5)
    signals, target = said(model, batch)
    some = Target(num_rows=3, labels=target.labels, labelled=torch.tensor([True, False, False]))
    first = term(signals, Signals(), some)
    torch.testing.assert_close(first.total, parts[0].total, rtol=1e-4, atol=1e-5)
    assert int(first.count) == 1


def test_pseudo_boxes_are_the_teachers_sure_detections() -> None:
    model, batch = detector().eval(), some_batch()
    signals, target = said(model, batch)
    found = torch.zeros(3, 2, 6)
    found[..., 5] = -1
    found[0] = torch.tensor([[5, 5, 30, 40, 0.9, 0], [20, 10, 60, 50, 0.4, 1]])

    class Reader:
        def found(self, _places):
            return found

    taught = Signals(places=replace(places(1), reader=Reader()))
    value = L.PseudoBoxes(threshold=0.5)(signals, taught, target)

    expected = signals.places.losses(labels([[0, 5, 5, 30, 40]], [], []))
    torch.testing.assert_close(value.total, sum(each.sum() for each in expected.values()))


def test_other_places_bins_or_scores_are_refused() -> None:
    mine = Signals(places=places(0))
    with pytest.raises(HandshakeError, match="the student's places are g, the teacher's h"):
        L.PlaceKD().bind(mine, Signals(places=places(1, grid="h")))
    with pytest.raises(HandshakeError, match="one softmax with single sigmoids"):
        L.PlaceKD().bind(mine, Signals(places=places(1, exclusive=True)))
    with pytest.raises(HandshakeError, match="same classes, got 2 and 3"):
        L.PlaceKD().bind(mine, Signals(places=places(1, classes=3)))
    without = replace(places(1), bins_BA4R=None)
    with pytest.raises(HandshakeError, match="the teacher has none; use box_kd"):
        L.LocalizationKD().bind(mine, Signals(places=without))
    with pytest.raises(HandshakeError, match="needs a teacher that detects"):
        L.BoxKD()(mine, Signals(), Target(num_rows=B))


def test_the_binary_divergence_is_that_of_torch() -> None:
    student, teacher = places(0), places(1)
    p = teacher.scores_BAC.sigmoid()

    value = L.PlaceKD(focus="all")(
        Signals(places=student), Signals(places=teacher), Target(num_rows=B)
    )

    cross = F.binary_cross_entropy_with_logits(student.scores_BAC, p, reduction="none")
    own = F.binary_cross_entropy(p, p, reduction="none")
    torch.testing.assert_close(value.total, ((cross - own).sum(-1).mean(-1)).sum().detach(),
                               check_dtype=False, rtol=1e-4, atol=1e-5)  # fmt: skip
