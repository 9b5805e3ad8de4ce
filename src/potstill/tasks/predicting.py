"""Tasks whose model gives one row of numbers a sample: classification and regression."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.taps import tapped
from potstill.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Objective,
    SquaredError,
    weighted,
)
from potstill.protocols import Task
from potstill.signals import Batch, Logits, Signals, Target
from potstill.tasks.deciding import direction

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


def call(model: nn.Module, batch: Batch, layers: Sequence[str]) -> Signals:
    """Run a model on a batch's inputs; its output is one row of numbers a sample."""
    if not layers:
        return Signals(logits=Logits(_rows(model(batch.inputs), len(batch))))
    with tapped(model, layers) as features:
        logits = Logits(_rows(model(batch.inputs), len(batch)))
    return Signals(logits=logits, features=features)


def _rows(output: object, num_rows: int) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 2 and len(output) == num_rows:
        return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ModelError(
        f"The model answered {shape} for {num_rows} samples; a tensor [{num_rows}, outputs] was "
        "expected. Wrap the model so that it returns its logits."
    )


def _target(batch: Batch) -> Target:
    return Target(
        num_rows=len(batch),
        labels=batch.labels,
        labelled=batch.labelled,
        positions=batch.positions,
        weights=batch.weights,
    )


class Classification(Task):
    """One class a sample. Model output: logits `[B, C]`; labels: `[B]` int64 or `[B, C]` soft.

    Args:
        primary: the metric that decides: `accuracy`, or for classes of unequal size
            `balanced_accuracy` or `f1_macro`.
        class_weights: how much the labels of each class count, in the teacher's training and the
            control's; `None` for alike.
    """

    kind = "single_label"
    primary = "accuracy"
    higher_is_better = True
    class_weights: tuple[float, ...] | None = None

    def __init__(
        self, *, primary: str | None = None, class_weights: tuple[float, ...] | None = None
    ) -> None:
        if primary is not None:
            known = dict.fromkeys(("accuracy", "balanced_accuracy", "f1_macro"), True)
            self.higher_is_better = direction(primary, known, task="classification")
            self.primary = primary
        if class_weights is not None:
            self.class_weights = class_weights

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits `[B, C]`."""
        return call(model, batch, layers)

    def target(self, batch: Batch) -> Target:
        """One row a sample."""
        return _target(batch)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """Class probabilities."""
        return outputs_NC.float().softmax(-1)

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Accuracy, balanced accuracy (mean recall), macro F1; for two classes the ROC area."""
        from torchmetrics import Metric, MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassAUROC,
            MulticlassF1Score,
        )

        chosen: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(num_outputs, average="micro"),
            "balanced_accuracy": MulticlassAccuracy(num_outputs, average="macro"),
            "f1_macro": MulticlassF1Score(num_outputs, average="macro"),
        }
        if num_outputs > 10:
            chosen["top5_accuracy"] = MulticlassAccuracy(num_outputs, average="micro", top_k=5)
        if num_outputs == 2:
            chosen["auroc"] = MulticlassAUROC(num_outputs)
        return MetricCollection(chosen, compute_groups=False)

    def default_objective(self) -> Objective:
        """Cross entropy, with the class weights if there are any."""
        return weighted(CrossEntropy(class_weights=self.class_weights))


@final
class Keyword(Classification):
    """Which word a window of sound holds: `Classification`, of sounds."""

    name = "keyword"


@final
class MultiLabel(Task):
    """Any number of labels a sample. Model output: logits `[B, C]`; labels: `[B, C]` of 0 and 1.

    Args:
        primary: the metric that decides: `f1_macro`, `accuracy` or `average_precision`.
    """

    kind = "multi_label"
    primary = "f1_macro"
    higher_is_better = True

    def __init__(self, *, primary: str | None = None) -> None:
        if primary is not None:
            known = dict.fromkeys(("f1_macro", "accuracy", "average_precision"), True)
            self.higher_is_better = direction(primary, known, task="multi_label")
            self.primary = primary

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits `[B, C]`, one sigmoid each."""
        return call(model, batch, layers)

    def target(self, batch: Batch) -> Target:
        """One row a sample."""
        return _target(batch)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """Label probabilities."""
        return outputs_NC.float().sigmoid()

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Macro F1 at 0.5, accuracy per label, mean average precision."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import (
            MultilabelAccuracy,
            MultilabelAveragePrecision,
            MultilabelF1Score,
        )

        return MetricCollection(
            {
                "f1_macro": MultilabelF1Score(num_outputs, average="macro"),
                "accuracy": MultilabelAccuracy(num_outputs, average="micro"),
                "average_precision": MultilabelAveragePrecision(num_outputs),
            },
            compute_groups=False,
        )

    def default_objective(self) -> Objective:
        """Binary cross entropy, summed over labels."""
        return weighted(BinaryCrossEntropy())


@final
class Regression(Task):
    """Numbers. Model output and labels: `[B, O]`.

    Args:
        primary: the metric that decides: `rmse`, `mae` or `r2`.
    """

    kind = "regression"
    primary = "rmse"
    higher_is_better = False

    def __init__(self, *, primary: str | None = None) -> None:
        if primary is not None:
            known = {"rmse": False, "mae": False, "r2": True}
            self.higher_is_better = direction(primary, known, task="regression")
            self.primary = primary

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Values `[B, O]`."""
        return call(model, batch, layers)

    def target(self, batch: Batch) -> Target:
        """One row a sample."""
        return _target(batch)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """The values themselves."""
        return outputs_NC.float()

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Root mean squared error, mean absolute error, R²."""
        from torchmetrics import MetricCollection
        from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

        return MetricCollection(
            {
                "rmse": MeanSquaredError(squared=False, num_outputs=1),
                "mae": MeanAbsoluteError(),
                "r2": R2Score(),
            },
            compute_groups=False,
        )

    def default_objective(self) -> Objective:
        """Squared error to the labels."""
        return weighted(SquaredError())
