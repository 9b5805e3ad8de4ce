"""What students will learn on, as far as it is known before a run."""

from dataclasses import replace

import torch

from potstill.data.samples import DataSet, Samples
from potstill.pipeline.experiment import Experiment, Learning
from potstill.pipeline.storing import taught_samples


def foreseen(experiment: Experiment) -> Experiment:
    """The experiment with as many samples as images will be made, if students learn on such.

    The samples are training images without labels, again and again.
    """
    wanted, data = experiment.data_free, experiment.data
    if wanted is None:
        return experiment
    rows = torch.arange(wanted.images)
    made = Samples(data.train.inputs[rows % len(data.train)], rows)
    return replace(experiment, data=replace(data, taught=made, transfer=None))


def as_taught(data: DataSet) -> DataSet:
    """Data whose training part is what distilled students learn on."""
    return replace(data, train=taught_samples(data))


def as_studied(data: DataSet) -> DataSet:
    """Data whose training part is what students without a teacher learn on."""
    return replace(data, train=data.lessons)


def as_long(learning: Learning, data: DataSet) -> Learning:
    """How students without a teacher learn: for as many steps as those with one."""
    if data.transfer is None and data.taught is None:
        return learning
    settings, mine, theirs = learning.settings, len(data.lessons), len(taught_samples(data))
    steps = settings.epochs * _batches(theirs, settings.batch_size)
    epochs = max(1, round(steps / _batches(mine, settings.batch_size)))
    return replace(learning, settings=replace(settings, epochs=epochs))


def _batches(samples: int, size: int) -> int:
    return -(-samples // min(size, samples))
