"""Tasks whose truth is the teacher: its answers become the labels of what is scored."""

from dataclasses import replace

import torch

from potstill.data.samples import Samples
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.signals import Logits


def refer_to(shop: Workshop, teacher: Teacher) -> None:
    """Let the validation and test data carry the teacher's answers, `[N, E]` float32, as labels.

    The teacher is asked in the batches that the models are asked in, so its own answers are met
    exactly. Stages from here on depend on it.
    """
    data = shop.experiment.data
    told = replace(
        data,
        validation=_answered(shop, teacher, data.validation),
        test=_answered(shop, teacher, data.test),
    )
    shop.experiment = replace(shop.experiment, data=told)
    shop.data_key = f"{shop.data_key} {teacher.fingerprint()}"


def _answered(shop: Workshop, teacher: Teacher, samples: Samples) -> Samples:
    answers = []
    for batch in shop.feed(samples).epoch(0):
        said = teacher.signals(batch).logits
        assert isinstance(said, Logits), "tasks with one row a sample have dense rows"
        answers.append(said.values_NC.float().cpu())
    return Samples(samples.inputs, samples.ids, torch.cat(answers))
