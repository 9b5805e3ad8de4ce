"""One for all: logits whose target class is enhanced, at the end and at exits of the student.

Shapes: N rows, B samples, C classes.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn

from potstill.errors import HandshakeError
from potstill.features.exits import Exit, Exits
from potstill.features.layout import Layout
from potstill.features.pairing import AUTO, Trace, stages_of
from potstill.functional.divergences import is_target
from potstill.functional.reductions import keep_rows, sum_rows, upcast
from potstill.losses.checks import check_choice, check_flag, check_number
from potstill.losses.layers import Layers, feature_of, listed, names_of, not_chosen
from potstill.losses.rows import ONE_OF_MANY, RowTerm
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.runtime.seeds import seeded
from potstill.signals import LazyLogits, Logits, Partial, Signals, Target


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class OFA(RowTerm):
    r"""Soft targets whose label counts more, the surer the teacher is of it.

    Formula: $-[(1 + p_y)^\gamma - 1] \log q_y - \sum_{c \ne y} p_c \log q_c$. With
        `CrossEntropy`, which brings the 1 back, it is the paper's loss.
    Shapes: logits `[N, C]` on both sides; labels `[N]` whole numbers.
    Paper: Hao et al. 2023, arXiv:2310.19444 (OFA-KD). The authors' code raises the probabilities of
        the other classes to γ too, which `sharpen` does.
    Requires: labels of one class a row.
    Related: with γ = 1 it is `KD` at temperature 1 up to the teacher's entropy. `OFAExits` teaches
        the layers in the middle alike.
    Example: `CrossEntropy() + OFA(gamma=1.4)`

    Args:
        gamma: 1 or more.
        temperature: T of p and q, above 0; without a factor T², as in the paper.
        sharpen: raise the other classes' probabilities to γ, as the authors' code does.
    """

    gamma: float = 1.5
    temperature: float = 1.0
    sharpen: bool = False

    def __post_init__(self) -> None:
        check_number(self, "gamma", self.gamma, at_least=1)
        check_number(self, "temperature", self.temperature, above=0)
        check_flag(self, "sharpen", self.sharpen)

    def needs(self) -> Needs:
        """Logits on both sides and class labels."""
        return _needs()

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        return enhanced(
            student_NC / self.temperature,
            (teacher_NC / self.temperature).softmax(dim=-1),
            labels,
            gamma=self.gamma,
            sharpen=self.sharpen,
        )


@final
@dataclass(frozen=True, repr=False)
class OFAExits(ArithmeticTerm):
    r"""Layers of the student learn the teacher's answer through exits of their own.

    Formula: the sum over exits of $-[(1 + p_y)^\gamma - 1] \log q^\ell_y - \sum_{c \ne y} p_c \log
        q^\ell_c$, $q^\ell$ the softmax of the exit after layer ℓ: separable convolutions for maps,
        a transformer block for tokens, a hidden layer for vectors; then a linear layer.
    Shapes: layers `[B, D, H, W]`, `[B, T, D]`, `[B, D, L]` or `[B, D]`; logits of the teacher
        `[B, C]`; labels `[B]` whole numbers.
    Paper: Hao et al. 2023, arXiv:2310.19444 (OFA-KD): exits after all four stages, also between
        convolutional, attention and MLP models, whose features are not alike. The exits here are
        smaller than the authors' (one block for tokens, no merging of patches).
    Requires: labels of one class a row, and any teacher: its layers are not read.
    Related: `OFA` is the same for the last logits; the paper uses both.
    Example: `CrossEntropy() + OFA() + OFAExits()`

    Args:
        student_layers: names of modules of the student; or "auto": the ends of its stages, of a
            model of blocks four of them.
        student_layout: how to read their features; by default from their number of axes.
        gamma: 1 or more.
        temperature: T of p and q, above 0; without a factor T², as in the paper.
        sharpen: raise the other classes' probabilities to γ, as the authors' code does.
        width: features before the last layer of an exit; those of tokens keep their own number.
        seed: of the initial weights.
    """

    student_layers: Layers = AUTO
    student_layout: Layout | str | None = field(default=None, kw_only=True)
    gamma: float = field(default=1.5, kw_only=True)
    temperature: float = field(default=1.0, kw_only=True)
    sharpen: bool = field(default=False, kw_only=True)
    width: int = field(default=128, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    exits: Exits | None = field(default=None, init=False, repr=False, compare=False)

    batchwise: ClassVar[bool] = True  # exits of convolutions normalise

    def __post_init__(self) -> None:
        OFA(gamma=self.gamma, temperature=self.temperature, sharpen=self.sharpen)
        check_number(self, "width", self.width, at_least=1)
        names = names_of(self, "student_layers", self.student_layers)
        object.__setattr__(self, "student_layers", listed(names) or AUTO)
        if self.student_layout is not None:
            layout = check_choice(self, "student_layout", self.student_layout, Layout)
            object.__setattr__(self, "student_layout", layout)

    @property
    def name(self) -> str:
        """The key of the log."""
        return "ofa_exits"

    @property
    def is_open(self) -> bool:
        """Whether layers are still to be chosen."""
        return self.student_layers == AUTO

    def layers(self) -> tuple[str, ...]:
        """Their names; none while they are to be chosen."""
        return listed(self.student_layers) or ()

    def named(self, student: Trace, teacher: Trace) -> Self:
        """A copy in which `auto` has become names; the teacher's layers are not looked at.

        Raises:
            HandshakeError: nothing can be chosen.
        """
        if not self.is_open:
            return self
        return replace(self, student_layers=stages_of(replace(student, layout=self.student_layout)))

    def needs(self) -> Needs:
        """The teacher's logits, class labels and the layers."""
        return _needs(self.layers(), of_layers=True)

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with exits of its own.

        Raises:
            HandshakeError: a layer is missing, or nobody has chosen them.
        """
        if self.is_open:
            raise not_chosen(self.name)
        classes = _dense(self, teacher).shape[1]
        features = [feature_of(self, student, n, of="student") for n in self.layers()]
        with seeded(self.seed):
            made = Exits(
                Exit(each, width=self.width, classes=classes, layout=self.student_layout)
                for each in features
            )
        bound = replace(self)
        object.__setattr__(bound, "exits", made.to(features[0].device))
        return bound

    def parts(self) -> nn.Module | None:
        """The exits, once bound."""
        return self.exits

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over exits and labelled rows, and the number of these rows."""
        if self.exits is None:
            raise HandshakeError(
                "`ofa_exits` has no exits yet; call `objective.bind(student, teacher)` with one "
                "batch."
            )
        count = self.count(target)
        if target.labels is None:
            return Partial(torch.zeros(()), count)
        mask_N = target.mask(labels=True)
        labels_N = keep_rows(target.labels, mask_N)
        logits_NC = keep_rows(upcast(_dense(self, teacher).detach()), mask_N)
        p_NC = (logits_NC / self.temperature).softmax(dim=-1)
        losses = []
        for branch, layer in zip(self.exits, self.layers(), strict=True):
            read = keep_rows(feature_of(self, student, layer, of="student"), target.valid)
            q_NC = upcast(branch(read)) / self.temperature
            losses.append(enhanced(q_NC, p_NC, labels_N, gamma=self.gamma, sharpen=self.sharpen))
        return Partial(sum_rows(torch.stack(losses).sum(dim=0), mask_N), count)


def enhanced(
    student_NC: Tensor, teacher_NC: Tensor, labels_N: Tensor, *, gamma: float, sharpen: bool
) -> Tensor:
    """`[N]`, the cross entropy with a target class that counts (1 + p)^γ - 1.

    Args:
        student_NC: logits.
        teacher_NC: probabilities.
        labels_N: int64.
        gamma: γ.
        sharpen: raise the other probabilities to γ, too.
    """
    label_NC = is_target(labels_N, student_NC.shape[-1])
    others_NC = teacher_NC**gamma if sharpen else teacher_NC
    shares_NC = torch.where(label_NC, (1 + teacher_NC) ** gamma - 1, others_NC)
    return -(shares_NC * student_NC.log_softmax(dim=-1)).sum(dim=-1)


def _needs(layers: tuple[str, ...] = (), *, of_layers: bool = False) -> Needs:
    return Needs(
        student_logits=not of_layers,
        teacher_logits=True,
        labels=True,
        class_labels=True,
        min_classes=2,
        kinds=frozenset({"single_label"}) if of_layers else ONE_OF_MANY,
        student_layers=layers,
    )


def _dense(term: ArithmeticTerm, teacher: Signals) -> Tensor:
    if not isinstance(teacher.logits, Logits | LazyLogits):
        raise HandshakeError(
            f"`{term.name}` needs the teacher's logits of all classes; give a teacher, or a store, "
            "that has them."
        )
    return teacher.logits.dense()
