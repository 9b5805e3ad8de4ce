"""Models of a finished run as functions of raw samples, in torch: those that were not exported."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from potstill.export.shipped import Shipped
from potstill.models import load_model
from potstill.pipeline.combining import of_classes
from potstill.pipeline.experiment import EstimatorSource, Experiment, GivenTeacher, TrainedTeacher
from potstill.protocols import Teacher
from potstill.signals import Batch

Answering = Callable[[NDArray[np.generic]], NDArray[np.generic]]
"""From raw samples `[B, …]` to what the task keeps of them: logits, values."""


def torch_models(
    experiment: Experiment,
    folder: Path,
    seeds: Mapping[str, int],
    roles: Sequence[str],
    *,
    trust: bool = False,
) -> dict[str, Answering]:
    """The models of some roles; a teacher that is fitted is fitted again, none is trained.

    Args:
        experiment: of the run, for its normalisation and its teacher.
        folder: of the run.
        seeds: which student of a role is the shipped one.
        roles: whose models are asked for.
        trust: let models that are Python code of the user's run.

    Returns:
        By role; without the roles whose models cannot be had without training, such as ensembles.
    """
    found: dict[str, Answering] = {}
    for role in roles:
        place = folder / "models" / role / f"seed-{seeds.get(role, 0)}"
        source = experiment.teacher
        if (place / "model.safetensors").is_file() and not (
            role == "teacher" and not isinstance(source, TrainedTeacher)
        ):
            found[role] = _module(experiment, load_model(place, trust=trust)[0])
        elif role == "teacher" and isinstance(source, EstimatorSource):
            fitted = source.fit(of_classes(experiment.data, source.classes))
            found[role] = _teacher(experiment, fitted)
        elif role == "teacher" and isinstance(source, GivenTeacher):
            found[role] = _teacher(experiment, source.teacher)
    return found


def _module(experiment: Experiment, module: nn.Module) -> Answering:
    shipped = Shipped(module.eval(), experiment.data.normalise.as_module())

    def answer(rows: NDArray[np.generic]) -> NDArray[np.generic]:
        with torch.inference_mode():
            outputs: NDArray[np.generic] = shipped(torch.from_numpy(rows)).numpy()
        return outputs

    return answer


def _teacher(experiment: Experiment, teacher: Teacher) -> Answering:
    asked, normalise = teacher.to(torch.device("cpu")), experiment.data.normalise

    def answer(rows: NDArray[np.generic]) -> NDArray[np.generic]:
        raw = torch.from_numpy(rows)
        batch = Batch(inputs=normalise(raw), raw=raw, ids=torch.zeros(len(raw), dtype=torch.int64))
        with torch.no_grad():
            said = asked.signals(batch)
            digested = experiment.task.digest(said, experiment.task.target(batch))
        outputs: NDArray[np.generic] = digested.numpy()
        return outputs

    return answer
