"""Choosing the pace of a student's steps: by measured time, and by gradients that agree."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from potstill.losses import Objective
from potstill.protocols import Offers, Task, Teacher
from potstill.runtime.fabric import Precision, Runtime
from potstill.runtime.fast import (
    Bounds,
    Choice,
    Difference,
    Machine,
    Memory,
    Prior,
    Ready,
    Work,
    choose,
)
from potstill.runtime.seeds import seeded
from potstill.signals import Batch, Signals
from potstill.teachers.fast import architecture
from potstill.teachers.fingerprints import digest
from potstill.train.distiller import Distiller
from potstill.train.pace import EXACT_PACE, Pace
from potstill.train.settings import TrainSettings

Gradients = tuple[Tensor, list[Tensor]]
"""The loss of a batch and the gradients of all weights."""


@dataclass(frozen=True, kw_only=True)
class Stint:
    """A training that is planned.

    Args:
        student: with the weights that it starts from; it is not changed.
        teacher: the exact one, if there is one.
        objective: not bound yet.
        task: how the student is called.
        settings: of the training.
        runtime: where it takes place.
        batches: the first two real batches, of full size.
        steps: how many are planned.
        bounds: how far the gradient may be from the exact one.
        memory: of earlier runs.
        name: for the table.
    """

    student: nn.Module
    teacher: Teacher | None
    objective: Objective
    task: Task
    settings: TrainSettings
    runtime: Runtime
    batches: Sequence[Batch]
    steps: int
    bounds: Bounds = field(default_factory=Bounds)
    memory: Memory = field(default_factory=Memory)
    name: str = "student"


def choose_pace(stint: Stint) -> tuple[Choice, Pace]:
    """The fastest pace whose gradients agree and whose cost is earned back."""
    measured = _Measured(stint)
    choice, ready = choose(
        Work(
            role=stint.name,
            key=measured.key,
            answers=digest([repr(stint.bounds)]),
            steps=stint.steps,
        ),
        Ready(value=EXACT_PACE, run=measured.run_exact, difference=Difference),
        [_Candidate(pace, prior, measured.ready) for pace, prior in measured.paces()],
        bounds=stint.bounds,
        memory=stint.memory,
    )
    return choice, ready.value


def pace_named(name: str) -> Pace:
    """The pace with this name."""
    words = name.split(" + ")
    return Pace(
        channels_last="channels_last" in words,
        bf16="bf16" in words,
        compiled="compiled" in words,
        fused="fused optimiser" in words,
    )


@final
@dataclass(frozen=True)
class _Candidate:
    pace: Pace
    prior: Prior
    make: Callable[[Pace], Ready[Pace]]

    @property
    def name(self) -> str:
        return self.pace.name

    def prepare(self) -> Ready[Pace]:
        return self.make(self.pace)


@final
class _Measured:
    """A stint with the exact gradients of its first batches."""

    def __init__(self, stint: Stint) -> None:
        self._stint = stint
        self._machine = Machine.here(stint.runtime.device)
        self._teacher = None if stint.teacher is None else _Recited(stint.teacher)

    @property
    def key(self) -> str:
        """Of model, shapes, objective and machine."""
        stint, first = self._stint, self._stint.batches[0].inputs
        settings = stint.settings
        how = f"{settings.optimizer} {settings.accumulate} {settings.ema} {stint.runtime.precision}"
        parts = [architecture(stint.student), repr(stint.objective), how, self._machine.key]
        return digest(["student", f"{tuple(first.shape)} {first.dtype}", *parts])

    def paces(self) -> list[tuple[Pace, Prior]]:
        """What may be tried for this student on this machine, and what to expect of it."""
        student = self._stint.student
        images = any(isinstance(m, nn.Conv2d) for m in student.modules())
        leaves = sum(not list(m.children()) for m in student.modules())
        cheap, slow = 0.05, 12.0 + 0.6 * leaves
        fused = self._stint.runtime.precision is not Precision.FP16
        half = 1.8 if self._machine.bf16 or self._machine.device == "cuda" else 0.6
        free = self._stint.runtime.precision is Precision.FP32  # to choose the arithmetic
        layout = 1.1 if images else 1.0
        made = [
            (Pace(channels_last=images, fused=fused), Prior(cheap, 1.05 * layout)),
            (
                Pace(channels_last=images, fused=fused, compiled=True),
                Prior(slow, 1.4 * layout),
            ),
        ]
        if free:
            made += [
                (Pace(channels_last=images, fused=fused, bf16=True), Prior(cheap, half * layout)),
                (
                    Pace(channels_last=images, fused=fused, bf16=True, compiled=True),
                    Prior(slow, 1.6 * half * layout),
                ),
            ]
        moves = self._stint.objective.moves  # every new number would be compiled anew
        made = [(pace, prior) for pace, prior in made if not (moves and pace.compiled)]
        return [(pace, prior) for pace, prior in made if pace != EXACT_PACE]

    @cached_property
    def exact(self) -> tuple[Ready[Pace], list[Gradients]]:
        """The exact pace with its gradients; made when it is first needed."""
        return self._made(EXACT_PACE)

    def run_exact(self, number: int) -> object:
        """A step at the exact pace."""
        return self.exact[0].run(number)

    def ready(self, pace: Pace) -> Ready[Pace]:
        """A student of its own at this pace, its gradients compared before its first step."""
        _, exact = self.exact
        made, gradients = self._made(pace)
        return replace(made, difference=lambda: _difference(exact, gradients))

    def _made(self, pace: Pace) -> tuple[Ready[Pace], list[Gradients]]:
        stint = self._stint
        distiller = Distiller(
            deepcopy(stint.student),
            self._teacher,
            objective=stint.objective,
            task=stint.task,
            settings=stint.settings,
            runtime=stint.runtime,
            pace=pace,
        )
        with seeded(0):
            distiller.prepare(stint.batches[0])
            gradients = [distiller.gradients(batch) for batch in stint.batches]

        def run(number: int) -> None:
            with seeded(number):
                figures = distiller.step(stint.batches[number % len(stint.batches)])
            if figures["loss"].is_cuda:
                torch.cuda.synchronize()

        return Ready(value=pace, run=run, difference=Difference), gradients


def _difference(exact: Sequence[Gradients], fast: Sequence[Gradients]) -> Difference:
    """The worst cosine and the worst relative difference of the loss, over the batches."""
    pairs = list(zip(exact, fast, strict=True))
    return Difference(
        gradient=min(_cosine(_flat(mine[1]), _flat(theirs[1])) for mine, theirs in pairs),
        loss=max(float(abs(a[0] - b[0]) / abs(a[0]).clamp_min(1e-12)) for a, b in pairs),
    )


def _cosine(exact: Tensor, fast: Tensor) -> float:
    norms = torch.linalg.vector_norm(exact) * torch.linalg.vector_norm(fast)
    return float(exact @ fast / norms.clamp_min(1e-30))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.double().flatten() for t in tensors])


@final
class _Recited(Teacher):
    """A teacher's answers to a few batches and their parts, given again at no cost."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._said: dict[tuple[int, int], Signals] = {}

    def offers(self) -> Offers:
        return self._teacher.offers()

    def fingerprint(self) -> str:
        return self._teacher.fingerprint()

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        key = (batch.inputs.data_ptr(), len(batch))
        if key not in self._said:
            self._said[key] = self._teacher.signals(batch, layers=layers)
        return self._said[key]
