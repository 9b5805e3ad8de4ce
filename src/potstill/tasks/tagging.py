"""Tagging: one row a word, scored by the entities that tags of neighbouring words make."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from potstill.losses import CrossEntropy, Objective, weighted
from potstill.protocols import Task
from potstill.signals import Batch, Signals, Target
from potstill.tasks.token_rows import digest_of_rows, token_signals, token_target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@final
class Tagging(Task):
    """A class for each word. Model: a `TokenModel`; labels `[B, L]` int64, -100 but at words.

    Args:
        classes: names of the tags, such as O, B-person, I-person; others count as entities of one
            word each, O as none.
    """

    kind = "tokens"
    name = "tagging"
    primary = "f1"
    higher_is_better = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits that are not computed yet, one row for each word."""
        return token_signals(model, batch, layers)

    def target(self, batch: Batch) -> Target:
        """The same rows, and whose they are."""
        return token_target(batch)

    def digest(self, signals: Signals, target: Target) -> Tensor:
        """`[N, 4]`: see `token_rows`, and 1 where a row is the first of its sentence."""
        figures_N3 = digest_of_rows(signals.logits, target.labels)
        assert target.samples is not None, "this task's target has them"
        first_N = torch.ones(len(figures_N3), device=figures_N3.device)
        first_N[1:] = (target.samples[1:] != target.samples[:-1]).float()
        return torch.cat([figures_N3, first_N[:, None]], dim=1)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """The digest as it is."""
        return outputs_NC

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """F1, precision and recall of entities, and the share of words tagged right."""
        from torchmetrics import MetricCollection

        from potstill.tasks.entity_metrics import EntityScore, Figure
        from potstill.tasks.token_metrics import TokenAccuracy

        return MetricCollection(
            {
                **{str(figure): EntityScore(self.classes, figure) for figure in Figure},
                "token_accuracy": TokenAccuracy(),
            },
            compute_groups=False,
        )

    def default_objective(self) -> Objective:
        """Cross entropy."""
        return weighted(CrossEntropy())
