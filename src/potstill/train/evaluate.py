"""Asking a trained model about a whole set."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from potstill.protocols import Task, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.train.batches import Batches


@dataclass(frozen=True)
class Answers:
    """All answers of a model on a set, on the CPU, in the order of the batches.

    Args:
        outputs: `[N, C]` float32, logits or values.
        labels: as the batches gave them.
        ids: `[N]` int64.
    """

    outputs: Tensor
    labels: Tensor
    ids: Tensor


def answers_of(source: nn.Module | Teacher, batches: Batches, task: Task) -> Answers:
    """Ask a model (in eval mode, its mode restored) or a teacher about every batch of epoch 0."""
    if isinstance(source, Teacher):
        return _collect([(b, source.signals(b)) for b in _all(batches)])
    was_training = [m for m in source.modules() if m.training]
    source.eval()
    try:
        with torch.no_grad():
            return _collect([(b, task.forward(source, b)) for b in _all(batches)])
    finally:
        for module in was_training:
            module.training = True


def _all(batches: Batches) -> list[Batch]:
    return [batches.batch(0, index) for index in range(batches.num_batches)]


def _collect(pairs: list[tuple[Batch, Signals]]) -> Answers:
    outputs, labels, ids = [], [], []
    for batch, said in pairs:
        assert isinstance(said.logits, Logits), "tasks with one row a sample give dense logits"
        assert batch.labels is not None, "sets that are scored are labelled"
        outputs.append(said.logits.values_NC.detach().float())
        labels.append(batch.labels)
        if batch.ids is not None:
            ids.append(batch.ids)
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
