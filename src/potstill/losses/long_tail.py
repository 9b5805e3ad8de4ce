"""Cross entropies for data in which some classes are rare."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.losses.checks import check_number
from potstill.losses.objective import Objective, Weighted
from potstill.losses.rows import RowTerm
from potstill.losses.scheduled import with_standing
from potstill.protocols import Needs, Term

_CLASSES = Needs(
    student_logits=True,
    labels=True,
    class_labels=True,
    min_classes=2,
    kinds=frozenset({"single_label"}),
)


@dataclass(frozen=True, repr=False)
class CountingTerm(RowTerm, ABC):
    """A term that must know how many samples of each class are learnt from.

    Args:
        counts: of each class; a run fills them in where they are left out.
    """

    counts: tuple[int, ...] = ()

    def check_counts(self) -> None:
        """Counts are whole numbers of 0 or more, and some of them are more.

        Raises:
            RecipeError: they are not.
        """
        given = self.counts
        is_list = isinstance(given, Sequence) and not isinstance(given, str)
        whole = is_list and all(type(count) is int and count >= 0 for count in given)
        if not whole or (given and not sum(given)):
            raise RecipeError(
                f"`{type(self).__name__}` got counts={given!r}; give how many samples each class "
                "has, or leave them out in a run."
            )
        object.__setattr__(self, "counts", tuple(given))

    def needs(self) -> Needs:
        """Student logits and one class a row."""
        return _CLASSES

    def frequencies(self, logits_NC: Tensor) -> Tensor:
        """`[C]`, the counts in the type of the logits; classes without a sample count as one."""
        if len(self.counts) != logits_NC.shape[-1]:
            raise HandshakeError(
                f"`{self.name}` knows the counts of {len(self.counts)} classes, and there are "
                f"{logits_NC.shape[-1]}; give `counts`, one for each class."
            )
        counts = torch.tensor(self.counts, dtype=logits_NC.dtype, device=logits_NC.device)
        return counts.clamp(min=1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class LogitAdjusted(CountingTerm):
    r"""Cross entropy of logits that are moved by the log frequency of their class.

    What the student answers is then right for classes that are equally frequent.

    Formula: $-\log \mathrm{softmax}(z_s + \tau \log \pi)_y$ with $\pi_c = n_c / \sum_k n_k$.
    Shapes: student logits `[N, C]`; labels `[N]` whole numbers.
    Paper: Menon et al. 2021, arXiv:2007.07314, equation 10; with τ = 1 the balanced softmax of Ren
        et al. 2020, arXiv:2007.10740.
    Requires: one class a sample; rows without a label are skipped. No teacher.
    Related: `ClassBalanced` weighs rows instead; a correction of the output biases does after
        training what this does in it.
    Example: `KD(temperature=2) + LogitAdjusted(counts=(900, 90, 9))`

    Args:
        counts: n, how many samples of each class are learnt from; a run fills them in.
        tau: τ, 0 or more; 0 is `CrossEntropy`.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        self.check_counts()
        check_number(self, "tau", self.tau, at_least=0)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        counts_C = self.frequencies(student_NC)
        moved_NC = student_NC + self.tau * (counts_C / counts_C.sum()).log()
        return F.cross_entropy(moved_NC, labels, reduction="none")


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ClassBalanced(CountingTerm):
    r"""Cross entropy in which rows of rare classes count more, by the effective number of samples.

    Formula: $-w_y \log \mathrm{softmax}(z_s)_y$ with $w_c \propto (1 - \beta) / (1 - \beta^{n_c})$
        and $\sum_c w_c = C$.
    Shapes: student logits `[N, C]`; labels `[N]` whole numbers.
    Paper: Cui et al. 2019, arXiv:1901.05555.
    Requires: one class a sample; rows without a label are skipped. No teacher.
    Related: `LogitAdjusted` moves logits instead, and keeps the rows' weights alike.
    Example: `KD(temperature=2) + ClassBalanced(counts=(900, 90, 9))`

    Args:
        counts: n, how many samples of each class are learnt from; a run fills them in.
        beta: β, 0 up to below 1; 0 is `CrossEntropy`, near 1 the inverse frequency.
    """

    beta: float = 0.9999

    def __post_init__(self) -> None:
        self.check_counts()
        check_number(self, "beta", self.beta, at_least=0, below=1)

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        counts_C = self.frequencies(student_NC).double()
        weights_C = (1 - self.beta) / (1 - self.beta**counts_C)
        weights_C = weights_C * len(weights_C) / weights_C.sum()
        losses_N = F.cross_entropy(student_NC, labels, reduction="none")
        return losses_N * weights_C.to(losses_N)[labels]


def with_counts(objective: Objective, counts: Sequence[int]) -> Objective:
    """The same objective, its terms told how many samples of each class are learnt from."""

    def told(term: Term) -> Term:
        if isinstance(term, CountingTerm) and not term.counts:
            return replace(term, counts=tuple(counts))
        return term

    return Objective(tuple(Weighted(w, with_standing(term, told)) for w, term in objective))
