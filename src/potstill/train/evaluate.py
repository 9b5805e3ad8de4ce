"""Asking a trained model about a whole set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from potstill.protocols import Task, Teacher
from potstill.signals import Batch, Signals
from potstill.train.batches import Batches


@dataclass(frozen=True)
class Answers:
    """All answers of a model on a set, on the CPU, in the order of the batches.

    Args:
        outputs: `[N, K]` float32, what the task keeps of each row (`Task.digest`): logits, values.
        labels: of the rows.
        ids: `[N]` int64, the sample that a row is about.
    """

    outputs: Tensor
    labels: Tensor
    ids: Tensor


def answers_of(source: nn.Module | Teacher, batches: Batches, task: Task) -> Answers:
    """Ask a model (in eval mode, its mode restored) or a teacher about every batch of epoch 0."""
    if isinstance(source, Teacher):
        return _collect(source.signals, batches, task)
    was_training = [m for m in source.modules() if m.training]
    source.eval()
    try:
        with torch.no_grad():
            return _collect(lambda batch: task.forward(source, batch), batches, task)
    finally:
        for module in was_training:
            module.training = True


def _collect(ask: Callable[[Batch], Signals], batches: Batches, task: Task) -> Answers:
    outputs, labels, ids = [], [], []
    for index in range(batches.num_batches):
        batch = batches.batch(0, index)
        target = task.target(batch)
        assert target.labels is not None, "sets that are scored are labelled"
        outputs.append(task.digest(ask(batch), target))
        labels.append(target.labels)
        if batch.ids is not None:
            by_sample = target.samples is None or task.digests_samples
            ids.append(batch.ids if by_sample else batch.ids[target.samples])
    return Answers(
        outputs=torch.cat(outputs).cpu(),
        labels=torch.cat(labels).cpu(),
        ids=torch.cat(ids).cpu() if ids else torch.arange(sum(map(len, outputs))),
    )


def score(answers: Answers, task: Task) -> dict[str, float]:
    """The task's metrics of some answers."""
    metrics = task.metrics(answers.outputs.shape[-1])
    labels = answers.labels
    if task.kind == "multi_label":
        labels = labels.to(torch.int64)
    values = metrics(task.scores(answers.outputs), labels)
    return {name: float(value) for name, value in values.items()}
