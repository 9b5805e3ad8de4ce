"""Terms for detectors: their own losses, and what a teacher says at the same places.

B pictures, A places, C classes, R bins, M boxes. Each picture counts as one row.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from potstill.errors import HandshakeError, need
from potstill.functional.reductions import sum_rows
from potstill.losses.checks import check_number
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Partial, Places, Signals, Target

BOXES = frozenset({"boxes"})


def places_of(term: ArithmeticTerm, signals: Signals, *, of: str) -> Places:
    """What a detector says; `HandshakeError` if it is none."""
    if signals.places is None:
        raise HandshakeError(f"`{term.name}` needs a {of} that detects; give a detector.")
    return signals.places


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class DetectionLoss(ArithmeticTerm):
    r"""The detector's own losses against the boxes of the data, picture by picture.

    Formula: $\sum_k L_k(\text{picture})$ over the losses of the student's family: quality, GIoU
        and bins of `gfl`; what torchvision and Transformers compute for theirs, called with one
        picture at a time, so that every picture weighs alike however many boxes it has.
    Shapes: labels `[B, M, 6]`; places as in `potstill.signals.Places`.
    Paper: Li et al. 2020 for `gfl`, arXiv:2006.04388; of the others, that of the detector.
    Requires: boxes; pictures without a label are skipped.
    Related: `PseudoBoxes` takes the teacher's boxes for the data's.
    Example: `DetectionLoss() + PlaceKD()`
    """

    def needs(self) -> Needs:
        """Labels that are boxes."""
        return Needs(labels=True, kinds=BOXES)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over pictures with a label, and how many they are."""
        places = places_of(self, student, of="student")
        if target.labels is None:
            return Partial(places.scores_BAC[:0].sum(), 0)
        total = sum_rows(own_losses(places, target.labels), target.mask(labels=True))
        return Partial(total, self.count(target))


def own_losses(places: Places, labels_BM6: Tensor) -> Tensor:
    """`[B]`: the sum of a detector's own losses."""
    each = list(places.losses(labels_BM6).values())
    return torch.stack(each).sum(dim=0)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class PseudoBoxes(ArithmeticTerm):
    r"""What the teacher finds is the truth: the student's own losses against its sure boxes.

    Formula: $L_\text{detection}(\text{student}, \{(b, c) : s_t(b, c) \ge \theta\})$.
    Shapes: the teacher's detections `[B, K, 6]`; any two families of detectors go together.
    Paper: Radosavovic et al. 2018, arXiv:1712.04440; Sohn et al. 2020, arXiv:2005.04757.
    Requires: a teacher that detects. No labels: unlabelled pictures teach too.
    Related: `PlaceKD` and `BoxKD` say more, to a student with the teacher's places.
    Example: `DetectionLoss() + PseudoBoxes(threshold=0.5)`

    Args:
        threshold: θ, the least score of a box that is taken for true.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "threshold", self.threshold, at_least=0, below=1)

    def needs(self) -> Needs:
        """A teacher that detects."""
        return Needs(teacher_places=True, kinds=BOXES)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over all pictures, and how many they are."""
        found_BK6 = places_of(self, teacher, of="teacher").found()
        sure_BK = (found_BK6[..., 5] >= 0) & (found_BK6[..., 4] >= self.threshold)
        classes_BK = torch.where(sure_BK, found_BK6[..., 5], -1)
        labels_BK6 = torch.cat(
            [classes_BK[..., None], found_BK6[..., :4], torch.zeros_like(classes_BK[..., None])],
            dim=-1,
        )
        losses_B = own_losses(places_of(self, student, of="student"), labels_BK6)
        return Partial(sum_rows(losses_B, target.mask(labels=False)), self.count(target))


@dataclass(frozen=True, repr=False)
class PlaceTerm(ArithmeticTerm):
    """A term that compares two detectors place by place, where the teacher sees something.

    A subclass gives `place_losses`. A picture's value is the mean over its places, weighted by
    `weights`: by default how sure the teacher is that anything is there.
    """

    kinds: ClassVar[frozenset[str]] = BOXES

    @abstractmethod
    def place_losses(self, student: Places, teacher: Places) -> Tensor:
        """The loss at each place, `[B, A]`."""

    def weights(self, student: Places, teacher: Places) -> Tensor:
        """`[B, A]`, constant and not negative."""
        return teacher.presence()

    def unlike(self, student: Places, teacher: Places) -> str:
        """What beyond the places does not match; empty if all does."""
        return ""

    def needs(self) -> Needs:
        """A teacher that detects, on the student's places."""
        return Needs(teacher_places=True, kinds=BOXES)

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """The term itself, once the places are known to be the same.

        Raises:
            HandshakeError: they are not.
        """
        mine, theirs = (
            places_of(self, student, of="student"),
            places_of(self, teacher, of="teacher"),
        )
        if mine.scores_BAC.shape[1] != theirs.scores_BAC.shape[1] or mine.grid != theirs.grid:
            raise HandshakeError(
                f"`{self.name}` compares place by place, and the student's places are "
                f"{mine.grid or mine.scores_BAC.shape[1]}, the teacher's "
                f"{theirs.grid or theirs.scores_BAC.shape[1]}; use pseudo_boxes or terms on maps, "
                "or detectors of one family."
            )
        if problem := self.unlike(mine, theirs):
            raise HandshakeError(f"`{self.name}` {problem}")
        return self

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over pictures of their weighted means, and how many they are."""
        mine, theirs = (
            places_of(self, student, of="student"),
            places_of(self, teacher, of="teacher"),
        )
        losses_BA = self.place_losses(mine, theirs).float()
        weights_BA = self.weights(mine, theirs).detach().float()
        total_B = weights_BA.sum(dim=1).clamp(min=1e-6)
        losses_B = (losses_BA * weights_BA).sum(dim=1) / total_B
        return Partial(sum_rows(losses_B, target.mask(labels=False)), self.count(target))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class BoxKD(PlaceTerm):
    r"""The student's box at each place overlaps the teacher's, most where the teacher is sure.

    Formula: $\sum_a w_a (1 - \mathrm{GIoU}(b_s^a, b_t^a)) / \sum_a w_a$, with
        $w_a = \max_c p_t^a(c)$, the teacher's highest class probability there.
    Shapes: boxes `[B, A, 4]`, the same places on both sides.
    Paper: Rezatofighi et al. 2019 for GIoU, arXiv:1902.09630; Yang et al. 2023 for the overlap with
        the teacher's boxes as a target, arXiv:2308.14286.
    Requires: a teacher that detects, with the student's places. No labels.
    Related: `LocalizationKD` compares distributions of the sides, where heads give them.
    Example: `DetectionLoss() + PlaceKD() + 2 * BoxKD()`
    """

    def place_losses(self, student: Places, teacher: Places) -> Tensor:
        """As in `PlaceTerm`."""
        ops = need("torchvision.ops", extra="detection")
        losses: Tensor = ops.generalized_box_iou_loss(
            student.boxes_BA4.float(), teacher.boxes_BA4.detach().float(), reduction="none"
        )
        return losses


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class LocalizationKD(PlaceTerm):
    r"""Localisation distillation: the teacher's doubt about each side of a box is learnt too.

    Formula: $\tau^2 \sum_a w_a \frac{1}{4} \sum_e \mathrm{KL}(p_t^{a,e} \| p_s^{a,e}) / \sum_a w_a$
        over the four sides e, distributions over R bins at temperature τ, and
        $w_a = \max_c p_t^a(c)$.
    Shapes: bins `[B, A, 4, R]`, the same places on both sides.
    Paper: Zheng et al. 2022, arXiv:2102.12252 (there the regions are chosen by the data's boxes).
    Requires: two detectors with distributions of distances (`gfl`) and the same places. No labels.
    Related: `BoxKD` compares the boxes themselves.
    Example: `DetectionLoss() + PlaceKD() + 0.25 * LocalizationKD(temperature=10)`

    Args:
        temperature: τ of both softmaxes.
    """

    temperature: float = 10.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)

    def unlike(self, student: Places, teacher: Places) -> str:
        """Bins that are missing or of another number."""
        for who, places in (("student", student), ("teacher", teacher)):
            if places.bins_BA4R is None:
                return f"needs distributions of distances and the {who} has none; use box_kd."
        return ""

    def place_losses(self, student: Places, teacher: Places) -> Tensor:
        """As in `PlaceTerm`."""
        assert student.bins_BA4R is not None
        assert teacher.bins_BA4R is not None
        said = (student.bins_BA4R.float() / self.temperature).log_softmax(-1)
        taught = (teacher.bins_BA4R.detach().float() / self.temperature).log_softmax(-1)
        divergence_BA4 = (taught.exp() * (taught - said)).sum(dim=-1)
        return self.temperature**2 * divergence_BA4.mean(dim=-1)
