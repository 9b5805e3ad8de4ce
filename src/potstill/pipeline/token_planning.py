"""What `plan` says about language models besides: tokens, vocabulary, memory by part."""

from collections.abc import Sequence
from typing import Any, cast, final

from torch import Tensor, nn

from potstill.functional.tokens import IGNORED
from potstill.losses.chunks import rows_at_once
from potstill.measure.size import saved_bytes, weight_bytes
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.storing import rows_a_sample, taught_samples
from potstill.protocols import TokenModel
from potstill.signals import Batch

_FLOAT = 4


@final
class States(nn.Module):
    """A model of tokens up to its head, whose logits are never held."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, L, D]`."""
        return cast("TokenModel", self.model).states(Batch(inputs=inputs))


def activation_bytes(student: nn.Module, inputs: Tensor) -> int:
    """What the backward pass of one sample keeps; of models of tokens, without the logits."""
    if isinstance(student, TokenModel):
        return saved_bytes(States(student), inputs)
    return saved_bytes(student, inputs)


def token_notes(
    experiment: Experiment,
    *,
    student: nn.Module,
    teachers: Sequence[nn.Module],
    batch: Batch,
    step_ms: tuple[float, float],
) -> tuple[str, ...]:
    """Sentences with numbers; none for tasks with one row a sample.

    Args:
        experiment: what is planned.
        student: a new one.
        teachers: the modules that teach.
        batch: the first of the training.
        step_ms: of the control and of the distilled student.
    """
    if experiment.task.kind != "tokens" or not isinstance(student, TokenModel):
        return ()
    settings = experiment.learning.settings
    assert batch.labels is not None, "data of tokens are labelled"
    asked = int((batch.labels != IGNORED).sum())
    samples = taught_samples(experiment.data)
    tokens = round(rows_a_sample(samples) * len(samples))
    each = [f"{asked / ms * 1000:,.0f}" for ms in step_ms]
    heads = [cast("Any", m).head.out_features for m in (*teachers, student)]
    buffer = 2 * _FLOAT * student.head.out_features
    rows = rows_at_once(
        asked // settings.accumulate, bytes_per_row=buffer, whole_bytes=asked * buffer // 2
    )
    parts = {
        "teacher": sum(weight_bytes(m) for m in teachers),
        "student, gradients and optimiser": 4 * weight_bytes(student),
        "a chunk of logits of both": rows * buffer,
        "logits if they were held": asked // settings.accumulate * buffer,
    }
    listed = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in parts.items())
    return (
        (
            f"{tokens:,} tokens are asked for in an epoch, {asked:,} in the first step; "
            f"{each[0]} a second without the teacher, {each[1]} with it."
        ),
        (
            f"The tokenizer has {experiment.data.num_outputs:,} tokens; heads have "
            f"{', '.join(f'{h:,}' for h in heads)} (teacher, student)."
        ),
        f"Memory beside activations, in float32: {listed}.",
    )
