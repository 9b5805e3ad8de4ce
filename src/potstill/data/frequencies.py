"""How often classes are: of labels, of a teacher's answers, and how far two answers lie apart."""

import torch
from torch import Tensor

from potstill.data.samples import Samples
from potstill.errors import DataError


def class_frequencies(samples: Samples, num_classes: int) -> Tensor:
    """`[C]` float64, the share of each class among the labelled samples; they add up to 1.

    Raises:
        DataError: nothing is labelled with one class a sample.
    """
    labels = samples.labels
    if labels is None or labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(
            "Class frequencies are of samples with one class each, and these have none; give "
            "labelled data of a classification."
        )
    chosen = labels[samples.label_mask()]
    counts = torch.bincount(chosen, minlength=num_classes).double()
    return counts / counts.sum().clamp(min=1)


def distance(p_C: Tensor, q_C: Tensor) -> float:
    """Total variation, half the sum of the differences: from 0 for equal to 1 for apart."""
    return float((p_C - q_C).abs().sum() / 2)
