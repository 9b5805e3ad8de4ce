"""`Distiller`: a student, an objective and perhaps a teacher, trained step by step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor, nn

from potstill.losses import Objective
from potstill.losses.objective import objective_of
from potstill.protocols import EncoderDecoder, Staged, Task, Teacher, Term
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch, Signals
from potstill.train.average import MovingAverage
from potstill.train.batches import Batches
from potstill.train.growing import GrowingTeacher, State
from potstill.train.handshake import Agreement, shake_hands
from potstill.train.lesson import Assignment, Lesson
from potstill.train.pace import EXACT_PACE, Pace
from potstill.train.record import Record
from potstill.train.replaced import undrawn
from potstill.train.rollout import Rollout, Spent
from potstill.train.settings import TrainSettings, bound_weights, make_optimizer, rate_at
from potstill.train.sharing import encoded, shared_encoder

if TYPE_CHECKING:
    from potstill.runtime.progress import Progress
    from potstill.train.watch import Watch

_SILENCE = Signals()
_ROW_BITS = 32  # of a sample's word; the step's number stands above them


@dataclass(frozen=True)
class Fit:
    """What a training gave.

    Args:
        student: the trained module, with the selected weights, in eval mode, on the CPU.
        last: the weights of the last epoch (of the moving average if there is one).
        best: the weights of the best epoch; the last one's without validation.
        best_epoch: the epoch (from 1) with the best validation metric; `None` without validation.
        epochs: epochs that ran.
        steps: optimiser steps.
        seconds: wall-clock time of training and validation, over all resumptions.
        record: the lines of the log.
        rollout: what the student's own writing took, of `seconds`; `None` if it wrote nothing.
    """

    student: nn.Module
    last: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: int | None
    epochs: int
    steps: int
    seconds: float
    record: Record
    rollout: Spent | None = None


@final
class Distiller:
    """Trains a student on an objective.

    `fit` is the whole training; `step` is one optimiser step for people with their own loop:

    ```python
    objective = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()
    distiller = Distiller(student, teacher, objective=objective)
    for x, y in loader:
        distiller.step(Batch(x, y))
    ```

    Args:
        student: the module to train; trained in place.
        teacher: a source of signals; `None` trains on labels alone.
        objective: the loss; the task's supervised loss if left out.
        task: how models are called; classification if left out.
        settings: how long and how fast.
        runtime: device, precision, processes; one process on the best device if left out.
        pace: how a step is computed; exactly as the plain loop does if left out.
        rollout: puts samples into each batch that the student writes itself.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | None = None,
        *,
        objective: Objective | Term | None = None,
        task: Task | None = None,
        settings: TrainSettings | None = None,
        runtime: Runtime | None = None,
        pace: Pace = EXACT_PACE,
        rollout: Rollout | None = None,
    ) -> None:
        from potstill.tasks import Classification

        self.student, self.teacher = student, teacher
        self.task = task or Classification()
        self.objective = objective_of(objective or self.task.default_objective())
        self.settings = settings or TrainSettings()
        self.runtime = runtime or Runtime()
        self.pace, self.rollout = pace, rollout
        self.steps_done, self._total_steps = 0, 0
        self._rate: Callable[[int], float] = lambda _step: self.settings.lr
        self._lesson: Lesson | None = None
        self.shared: EncoderDecoder | None = None  # a frozen encoder that runs once for both
        self.ema: MovingAverage | None = None

    # Getting ready

    @property
    def is_ready(self) -> bool:
        """Whether the handshake has taken place."""
        return self._lesson is not None

    def prepare(self, batch: Batch) -> Agreement:
        """Shake hands over a batch and set everything up. Done by the first step if left out.

        Raises:
            HandshakeError: listing all that does not match.
        """
        self.runtime.launch()
        device = self.runtime.device
        if self.rollout is not None:
            batch = undrawn(batch)
        self.student.to(device)
        if self.teacher is not None:
            self.teacher.to(device)
        if isinstance(self.teacher, GrowingTeacher):
            self.teacher.join(self, batch)
        agreement = shake_hands(
            self.student,
            self.teacher,
            objective=self.objective,
            task=self.task,
            batch=batch.to(device),
            pieces=self.settings.accumulate * self.runtime.world_size,
        )
        self.objective = agreement.objective
        self.pace.arrange(self.student)
        rows = len(self._pieces(batch)[0])
        lesson = Lesson(self.student, self.objective, self.task, pace=self.pace, rows=rows)
        lesson.train()
        lesson.parts.to(device)
        optimizer = make_optimizer(lesson.parameters(), self.settings, fused=self.pace.fused)
        self._lesson = lesson
        self.module, self.optimizer = self.runtime.setup(lesson, optimizer)
        needs = self.objective.needs()
        self._layers, self._draws = needs.teacher_layers, needs.chance
        self.shared = shared_encoder(self.student, self.teacher)
        self._staged = [part for part in self.student.modules() if isinstance(part, Staged)]
        if self.settings.ema is not None:
            self.ema = MovingAverage(self.student, decay=self.settings.ema)
        return agreement

    def plan_steps(self, total: int) -> None:
        """Tell the schedules (rate, weights, options) how many optimiser steps there will be."""
        self._rate, self._total_steps = rate_at(self.settings, total), total
        if self.rollout is not None:
            self.rollout.plan_steps(total)
        if isinstance(self.teacher, GrowingTeacher):
            self.teacher.plan_steps(total)

    def rehearse(self, train: Batches, *, note: Callable[[str], None] = lambda _text: None) -> None:
        """Let the parts learn that are to know the teacher before the student does.

        Done by `fit`, before step one. For your own loop: call it once, after `prepare`. It draws
        nothing and is the same on all processes, so a training that is killed meanwhile begins it
        again.

        Args:
            train: what the student will learn on.
            note: told what happens.
        """
        for _, term in self.objective:
            if term.rehearsals():
                note(f"{term.name} learns from the teacher alone, epochs: {term.rehearsals()}")
                term.rehearse(self._taught(train, epochs=term.rehearsals()))

    def _taught(self, train: Batches, *, epochs: int) -> Iterator[Signals]:
        for epoch in range(epochs):
            for index in range(train.num_batches):
                yield self._teach(train.batch(epoch, index))

    @property
    def result(self) -> nn.Module:
        """The module that is being trained for: the student, or its moving average."""
        return self.student if self.ema is None else self.ema.module

    # One step

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step on a batch.

        Returns:
            `loss` and the value of each term, detached, on the device: reading them is the
            caller's synchronisation, not ours.
        """
        if self._lesson is None:
            self.prepare(batch)
        if self._total_steps:
            for part in self._staged:
                part.reach(self._share)
        batch = self._rolled_out(batch)
        self._set_rate()
        self.optimizer.zero_grad()
        figures = self._backward(batch)
        if self.settings.clip_norm is not None:
            self.runtime.clip(self.module, self.optimizer, self.settings.clip_norm)
        self.optimizer.step()
        if self.settings.max_norm is not None:
            bound_weights(self.student, self.settings.max_norm)
        if self.ema is not None:
            self.ema.update(self.student)
        self.steps_done += 1
        if isinstance(self.teacher, GrowingTeacher):
            self.teacher.grow(batch)
        return figures

    def gradients(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients of a batch, in the order of the parameters, without a step."""
        self.optimizer.zero_grad()
        loss = self._backward(batch)["loss"]
        made = [p.grad.detach().clone() for p in self.module.parameters() if p.grad is not None]
        self.optimizer.zero_grad()
        return loss, made

    def _rolled_out(self, batch: Batch) -> Batch:
        """The batch with what the student writes in it, of this process's rows."""
        if self.rollout is None:
            return batch
        if self.objective.needs().drawn:
            batch = undrawn(batch)
        rank, ranks = self.runtime.rank, self.runtime.world_size
        with self.runtime.autocast():
            return self.rollout(batch, self.student, step=self.steps_done, rank=rank, ranks=ranks)

    @property
    def _share(self) -> float:
        """Of all steps, how much is over."""
        return self.steps_done / max(self._total_steps, 1)

    def _set_rate(self) -> None:
        rate = self._rate(self.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of the whole batch, micro-batch by micro-batch, over counts known before."""
        pieces = self._pieces(self._with_chance(batch))
        if len(pieces) == 1 and self.runtime.world_size == 1:
            return self._learn(pieces[0], counts=None)
        counts = self._counts(pieces)
        figures: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces, start=1):
            with self.runtime.without_sync(self.module, enabled=number < len(pieces)):
                for name, value in self._learn(piece, counts=counts).items():
                    figures[name] = value if name not in figures else figures[name] + value
        return figures

    def _with_chance(self, batch: Batch) -> Batch:
        """The batch with a word for each sample that follows from the step and its place alone."""
        if not self._draws:
            return batch
        rows = torch.arange(len(batch), device=batch.inputs.device)
        return replace(batch, chance=rows + (self.steps_done << _ROW_BITS))

    def _pieces(self, batch: Batch) -> list[Batch]:
        rank, ranks, splits = self.runtime.rank, self.runtime.world_size, self.settings.accumulate
        if ranks * splits == 1:
            return [batch]
        size = len(batch)
        parts = ranks * splits
        bounds = [size * i // parts for i in range(parts + 1)]
        mine = [slice(bounds[i], bounds[i + 1]) for i in range(rank * splits, (rank + 1) * splits)]
        filled = [rows for rows in mine if rows.start < rows.stop]  # a last batch may be short
        return [batch.rows(rows) for rows in filled or mine[:1]]

    def _counts(self, pieces: list[Batch]) -> tuple[Tensor | int, ...]:
        each = [self.objective.counts(self.task.target(piece)) for piece in pieces]
        mine = tuple(sum(column) for column in zip(*each, strict=True))
        return self.runtime.sum_across_ranks(mine)

    def _learn(self, batch: Batch, *, counts: tuple[Tensor | int, ...] | None) -> dict[str, Tensor]:
        batch = encoded(batch, self.shared)
        trust = 1.0
        if isinstance(self.teacher, GrowingTeacher):
            trust = self.teacher.trust(self.steps_done)
        teaching = self._teach(batch)
        assigned = Assignment(batch, teaching, counts, trust=trust, share=self._share)
        loss, terms = self.module(assigned)
        self.runtime.backward(loss)
        return {"loss": loss.detach(), **terms}

    def _teach(self, batch: Batch) -> Signals:
        if self.teacher is None:
            return _SILENCE
        with self.runtime.autocast():
            return self.teacher.signals(batch, layers=self._layers)

    # Stopping and going on

    def state(self) -> State:
        """All that the next step depends on, for a checkpoint."""
        teacher = self.teacher
        return {
            "lesson": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state(),
            "steps": self.steps_done,
            "rollout": None if self.rollout is None else self.rollout.state(),
            "teacher": teacher.state() if isinstance(teacher, GrowingTeacher) else None,
        }

    def load(self, state: State) -> None:
        """Go on from what `state` gave; after `prepare`."""
        self.module.load_state_dict(cast("dict[str, Tensor]", state["lesson"]))
        self.optimizer.load_state_dict(cast("State", state["optimizer"]))
        if self.ema is not None:
            self.ema.load(cast("State", state["ema"]))
        if self.rollout is not None:
            self.rollout.load(cast("State", state["rollout"]))
        if isinstance(self.teacher, GrowingTeacher):
            self.teacher.load(cast("State", state["teacher"]))
        self.steps_done = cast("int", state["steps"])

    # The whole training

    def fit(
        self,
        train: Batches,
        validation: Batches | None = None,
        *,
        seed: int = 0,
        role: str = "distilled",
        folder: Path | None = None,
        progress: "Progress | None" = None,
        watch: "Watch | None" = None,
    ) -> Fit:
        """Train for the settings' epochs.

        Equivalent to `step` over every batch of every epoch, with validation after each, plus a
        checkpoint now and then. Called again on the same `folder` after a kill, it goes on from
        the checkpoint and ends with the same weights.

        Args:
            train: what to learn on.
            validation: what to select and stop on; without it the last epoch is the result.
            seed: of dropout and whatever else draws from torch's global random state.
            role: the name under which figures are logged.
            folder: where the run lives (`metrics.jsonl`, `checkpoints/`); `None` saves nothing.
            progress: told of every step.
            watch: told of every validation's epoch and primary metric; what it raises ends it all.

        Raises:
            HandshakeError: terms, teacher, student and data do not match.
            NonFiniteLoss: the loss became inf or NaN; the batch was saved in `folder`.
            Interrupted: Ctrl-C; the state was saved.
        """
        from potstill.train.loop import Training

        return Training(
            self,
            train,
            validation,
            seed=seed,
            role=role,
            folder=folder,
            progress=progress,
            watch=watch,
        ).run()
