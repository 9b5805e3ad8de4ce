"""The loop: epochs over batches, validation, selection, stopping, checkpoints, resumption."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor

from potstill.errors import Interrupted, NonFiniteLoss
from potstill.runtime.files import write_with
from potstill.runtime.progress import Progress, Silent, showing
from potstill.runtime.seeds import random_state, restore_random_state, seed_everything
from potstill.train.batches import Batches
from potstill.train.checkpoint import Checkpoint, State
from potstill.train.evaluate import answers_of, score
from potstill.train.guard import FiniteGuard, StopRequest, has_finite_weights, listening
from potstill.train.pace import as_written
from potstill.train.record import Means, Record
from potstill.train.settings import Select
from potstill.train.watch import Watch

if TYPE_CHECKING:
    from potstill.train.distiller import Distiller, Fit

Weights = dict[str, Tensor]


@final
class Training:
    """One `Distiller.fit`: its position, its best so far, and what it needs to go on."""

    def __init__(
        self,
        distiller: "Distiller",
        train: Batches,
        validation: Batches | None,
        *,
        seed: int,
        role: str,
        folder: Path | None,
        progress: Progress | None,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self._distiller, self._train, self._validation = distiller, train, validation
        self._settings, self._task = distiller.settings, distiller.task
        self._seed, self._role, self._folder = seed, role, folder
        self._progress = progress or Silent()
        name = f"{role}-{seed}.pt"
        self._checkpoint = Checkpoint(
            None if folder is None else folder / "checkpoints" / name,
            seconds=self._settings.checkpoint_seconds,
        )
        self._record = Record(role=role, seed=seed)
        self._means = Means()
        self._epoch = self._index = 0
        self._best: tuple[float, int, Weights] | None = None
        self._improved = 0  # the last epoch that was better than all before
        self._stopped_early = False
        self._seconds = 0.0
        self._clock = 0.0

    @property
    def _total(self) -> int:
        return self._settings.epochs * self._train.num_batches

    def run(self) -> "Fit":
        """Train from the start, or from the checkpoint if there is one."""
        seed_everything(self._seed + 1_000_003 * self._distiller.runtime.rank)
        if not self._distiller.is_ready:
            self._distiller.prepare(self._train.batch(0, 0))
        self._distiller.plan_steps(self._total)
        if self._folder is not None and self._distiller.runtime.rank == 0:
            log = self._folder / "metrics.jsonl"
            self._record = Record(role=self._role, seed=self._seed, path=log)
        self._guard = FiniteGuard(self._distiller.runtime.device)
        state = self._checkpoint.load()
        self._clock = time.monotonic()
        if state is not None:
            self._restore(state)
        else:
            self._record.restore([])
            self._distiller.rehearse(self._train, note=self._note)
        title, done = f"{self._role}, seed {self._seed}", self._distiller.steps_done
        with showing(self._progress, title, self._total, done), listening() as stop:
            self._epochs(stop)
        return self._fit()

    def _epochs(self, stop: StopRequest) -> None:
        while self._epoch < self._settings.epochs and not self._stopped_early:
            self._steps(stop)
            self._end_epoch()

    def _steps(self, stop: StopRequest) -> None:
        distiller = self._distiller
        for index in range(self._index, self._train.num_batches):
            figures = distiller.step(self._train.batch(self._epoch, index))
            self._guard.see(figures["loss"], distiller.steps_done - 1)
            self._means.add(figures)
            self._index = index + 1
            self._progress.advance(distiller.steps_done)
            if stop.asked:
                self._interrupt()
            if self._checkpoint.is_due():
                self._save()

    def _end_epoch(self) -> None:
        self._check_finite()
        self._epoch, self._index = self._epoch + 1, 0
        figures = self._means.take()
        loss = figures.pop("loss")
        rate = float(self._distiller.optimizer.param_groups[0]["lr"])
        rollout = self._distiller.rollout
        written = {} if rollout is None else {"rollout": rollout.figures()}
        self._log("train", loss=loss, terms=figures, lr=rate, **written)
        last = self._epoch == self._settings.epochs
        if self._validation is not None and (
            last or not self._epoch % self._settings.validate_every
        ):
            self._validate(self._validation)

    def _validate(self, validation: Batches) -> None:
        answers = answers_of(self._distiller.result, validation, self._task)
        metrics = score(answers, self._task)
        self._log("validation", metrics=metrics)
        value = metrics[self._task.primary]
        if self._distiller.rollout is not None:
            self._distiller.rollout.validated(metrics["nll"])
        if self._best is None or self._is_better(value, self._best[0]):
            self._improved = self._epoch
        if self._best is None or not self._is_better(self._best[0], value):
            self._best = (value, self._epoch, self._weights())  # of equals, the one trained longer
        patience = self._settings.patience
        self._stopped_early = patience is not None and self._epoch - self._improved >= patience
        if self._watch is not None:
            self._watch(self._epoch, value)

    def _is_better(self, value: float, than: float) -> bool:
        return value > than if self._task.higher_is_better else value < than

    def _log(self, split: str, **figures: object) -> None:
        steps, seconds = self._distiller.steps_done, round(self._elapsed(), 3)
        self._record.add(epoch=self._epoch, step=steps, split=split, seconds=seconds, **figures)
        plain = figures.get("metrics") or {"loss": figures.get("loss")}
        assert isinstance(plain, dict), "metrics are a mapping"
        prefix = f"{self._role}-{self._seed}/{split}"
        self._distiller.runtime.log({f"{prefix}/{k}": v for k, v in plain.items()}, steps)
        if split == "validation":
            shown = ", ".join(f"{k} {v:.4f}" for k, v in plain.items())
            self._progress.note(f"{self._role} seed {self._seed} epoch {self._epoch}: {shown}")

    def _note(self, text: str) -> None:
        self._progress.note(f"{self._role}, seed {self._seed}: {text}")

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._clock

    def _weights(self) -> Weights:
        state = self._distiller.result.state_dict()
        plain = torch.contiguous_format  # whatever layout the student trains in
        return {n: v.detach().cpu().clone(memory_format=plain) for n, v in state.items()}

    def _fit(self) -> "Fit":
        from potstill.train.distiller import Fit

        last = self._weights()
        chosen = last
        if self._best is not None and self._settings.select is Select.BEST:
            chosen = self._best[2]
        student = self._distiller.student
        student.load_state_dict(chosen)
        as_written(student)
        return Fit(
            student=student.cpu().eval(),
            last=last,
            best=last if self._best is None else self._best[2],
            best_epoch=None if self._best is None else self._best[1],
            epochs=self._epoch,
            steps=self._distiller.steps_done,
            seconds=self._elapsed(),
            record=self._record,
            rollout=None if self._distiller.rollout is None else self._distiller.rollout.spent,
        )

    # Stopping and going on

    def _interrupt(self) -> None:
        self._check_finite()
        self._save()
        where = "" if self._folder is None else f" The state is saved in {self._folder}."
        raise Interrupted(
            f"Stopped at step {self._distiller.steps_done} of {self._total} "
            f"({self._role}, seed {self._seed}).{where} Run the same command again to go on."
        )

    def _check_finite(self) -> None:
        step = self._guard.first_bad()
        if step is None and has_finite_weights(self._distiller.student):
            return
        if step is None:  # the loss was finite and its gradient was not
            step = self._distiller.steps_done - 1
        epoch, index = divmod(step, self._train.num_batches)
        saved = ""
        if self._folder is not None:
            path = self._folder / f"bad-batch-{self._role}-{self._seed}.pt"
            batch = self._train.batch(epoch, index).to("cpu")
            content = {"inputs": batch.inputs, "labels": batch.labels, "ids": batch.ids}
            write_with(path, lambda temporary: torch.save(content, temporary))
            saved = f" The batch was saved to {path}."
        raise NonFiniteLoss(
            f"The loss or its gradient became inf or NaN at step {step + 1} of {self._total} "
            f"(epoch {epoch + 1}, batch {index + 1}; {self._role}, seed {self._seed}).{saved} "
            f"Try a lower learning rate than {self._settings.lr:g}, or clip_norm."
        )

    def _save(self) -> None:
        self._check_finite()
        distiller = self._distiller
        if distiller.runtime.rank:
            return
        self._checkpoint.save(
            {
                "format": 1,
                **distiller.state(),
                "precision": distiller.runtime.precision_state(),
                "random": random_state(),
                "epoch": self._epoch,
                "index": self._index,
                "best": self._best,
                "improved": self._improved,
                "stopped_early": self._stopped_early,
                "seconds": self._elapsed(),
                "means": self._means.state(),
                "lines": self._record.lines,
            }
        )

    def _restore(self, state: State) -> None:
        distiller = self._distiller
        distiller.load(state)
        distiller.runtime.restore_precision(cast("State", state["precision"]))
        self._epoch, self._index = cast("int", state["epoch"]), cast("int", state["index"])
        self._best = cast("tuple[float, int, Weights] | None", state["best"])
        self._improved = cast("int", state["improved"])
        self._stopped_early = cast("bool", state["stopped_early"])
        self._seconds = cast("float", state["seconds"])
        self._means.load(cast("State", state["means"]), distiller.runtime.device)
        self._record.restore(cast("list[dict[str, object]]", state["lines"]))
        restore_random_state(cast("dict[str, Tensor | list[Tensor]]", state["random"]))
