"""How sure the teacher is of what it teaches, for curricula: asked once, kept in the run folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from potstill.data.curriculum import ranks
from potstill.data.samples import Samples
from potstill.errors import RecipeError
from potstill.pipeline.experiment import Learning
from potstill.pipeline.storing import taught_samples
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.files import write_with
from potstill.train.evaluate import answers_of

FILE = "confidence.npz"


def with_ease(shop: Workshop, teacher: Teacher) -> Learning:
    """The students' learning, with the ranks of what they learn on if they follow a curriculum.

    Raises:
        RecipeError: the task is not about one class a sample.
    """
    learning = shop.experiment.learning
    if learning.curriculum is None:
        return learning
    if shop.experiment.task.kind != "single_label":
        raise RecipeError(
            "A curriculum goes by the teacher's highest probability, which needs one class a "
            f"sample; the task is {shop.experiment.task.kind}."
        )
    samples, path = taught_samples(shop.experiment.data), shop.folder / FILE

    def work() -> dict[str, object]:
        unasked = Samples(samples.inputs, samples.ids, torch.zeros(len(samples), dtype=torch.int64))
        outputs = answers_of(teacher, shop.feed(unasked), shop.experiment.task).outputs
        confidence = outputs.softmax(-1).max(-1).values

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez_compressed(file, ids=samples.ids.numpy(), confidence=confidence.numpy())

        write_with(path, save)
        return {"mean": float(confidence.mean())}

    key = shop.key("ease", teacher.fingerprint(), len(samples), shop.experiment.data_free)
    shop.run("ease", depends_on=key, files=[path], work=work)
    with np.load(path, allow_pickle=False) as kept:
        rank_N = ranks(torch.from_numpy(kept["confidence"]))
    return replace(learning, ranks=rank_N)
