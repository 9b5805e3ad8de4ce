"""The task whose model gives one vector a sample, and whose truth is the teacher's vector.

Shapes: B samples of a batch, N of a set, D features of the model, E of the teacher.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torchmetrics import Metric

from potstill.functional.similarity import unit
from potstill.losses import Contrastive, Objective, weighted
from potstill.protocols import Task
from potstill.signals import Batch, Signals, Target
from potstill.tasks.predicting import call

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

COMPARED: Final = 1000
"""Texts of a set whose similarities are ranked: all pairs of them, half a million at most."""
_CHUNK = 512


@final
class Embedding(Task):
    """One vector a sample: `[B, D]`, where other tasks have logits.

    There are no labels. What validation and test data are compared with are the teacher's vectors,
    which the pipeline asks for once (`truth_from_teacher`); all figures but `cosine` compare
    similarities, so that widths and bases may differ.
    """

    kind = "embedding"
    primary = "similarity_spearman"
    higher_is_better = True
    truth_from_teacher = True

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Embeddings `[B, D]`, as logits."""
        return call(model, batch, layers)

    def target(self, batch: Batch) -> Target:
        """One row a sample."""
        return Target(num_rows=len(batch), labels=batch.labels, positions=batch.positions)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """The embeddings themselves."""
        return outputs_NC.float()

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Rank correlation of similarities, shared nearest neighbours, and the cosine.

        Called with embeddings `[N, D]` and the teacher's `[N, E]`. The cosine to the teacher's
        vector is there if the widths are the same, else it is NaN.
        """
        from torchmetrics import MetricCollection

        return MetricCollection({"likeness": _Likeness()}, compute_groups=False)

    def default_objective(self) -> Objective:
        """What a student can learn without a teacher: unsupervised SimCSE."""
        return weighted(Contrastive())


class _Likeness(Metric):
    """The figures of `Embedding.metrics`, of all that was seen since the last reset."""

    full_state_update = False
    student: list[Tensor]
    teacher: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("student", default=[], dist_reduce_fx="cat")
        self.add_state("teacher", default=[], dist_reduce_fx="cat")

    def update(self, student_ND: Tensor, teacher_NE: Tensor) -> None:
        """Keep some rows."""
        self.student.append(student_ND)
        self.teacher.append(teacher_NE)

    def compute(self) -> dict[str, Tensor]:
        """The figures."""
        student_ND, teacher_NE = torch.cat(self.student), torch.cat(self.teacher)
        found = {
            "similarity_spearman": similarity_spearman(student_ND, teacher_NE),
            "recall_at_1": recall_at_1(student_ND, teacher_NE),
        }
        if student_ND.shape == teacher_NE.shape:
            found["cosine"] = float((unit(student_ND) * unit(teacher_NE)).sum(dim=-1).mean())
        return {name: torch.tensor(value) for name, value in found.items()}


def similarity_spearman(student_ND: Tensor, teacher_NE: Tensor) -> float:
    """Spearman's correlation of the cosines of all pairs of texts, student against teacher.

    Of more than `COMPARED` texts, evenly spaced ones are taken. Ties share their mean rank; a side
    on which all pairs are alike gives 0.
    """
    count = len(student_ND)
    taken = torch.linspace(0, count - 1, min(count, COMPARED)).long()
    rows, columns = torch.triu_indices(len(taken), len(taken), offset=1)
    ranks = []
    for vectors in (student_ND, teacher_NE):
        each = unit(vectors[taken].cpu())
        rank = rankdata((each @ each.T)[rows, columns].numpy())
        ranks.append(rank - rank.mean())
    power = float(np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum()))
    return float((ranks[0] * ranks[1]).sum()) / power if power > 0 else 0.0


def recall_at_1(student_ND: Tensor, teacher_NE: Tensor) -> float:
    """Share of texts whose nearest other text is the one that the teacher finds nearest."""
    if len(student_ND) < 2:
        return 0.0
    found = [_nearest(vectors) for vectors in (student_ND, teacher_NE)]
    return float((found[0] == found[1]).double().mean())


def _nearest(vectors_ND: Tensor) -> Tensor:
    each = unit(vectors_ND)
    found = []
    for start in range(0, len(each), _CHUNK):
        cosines = each[start : start + _CHUNK] @ each.T
        places = torch.arange(len(cosines), device=each.device)
        cosines[places, places + start] = -torch.inf
        found.append(cosines.argmax(dim=1))
    return torch.cat(found)
