"""On-policy samples: some rows of a batch are given to the student, who writes their answers.

Shapes: B samples, P planes (token ids, attention mask), L positions.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import final

import torch
from torch import Tensor, nn

from potstill.data.draws import Draws
from potstill.errors import DataError, RecipeError
from potstill.functional.tokens import IGNORED
from potstill.generation import Engine
from potstill.runtime.texts import MASK, PLACES
from potstill.signals import Batch
from potstill.train.on_policy import OnPolicy
from potstill.train.replaced import replaced
from potstill.train.replay import Buffer, Sample

_WHICH_ROWS, _WHICH_SAMPLES = 1, 2  # what draws are for


@dataclass
class Spent:
    """What writing took: seconds, samples and tokens written, samples used again."""

    seconds: float = 0.0
    written: int = 0
    tokens: int = 0
    replayed: int = 0


@final
class Rollout:
    """Puts on-policy samples into batches; a function of (seed, step, weights, earlier samples).

    Rows that are given to the student carry no label afterwards (`labelled` is false): what it
    wrote is nothing to imitate. Terms on logits count them.

    Args:
        settings: how much, and how.
        engine: lets the student write.
        pad: the token that fills up.
        seed: of all draws.
    """

    def __init__(self, settings: OnPolicy, engine: Engine, *, pad: int, seed: int = 0) -> None:
        self._settings, self._engine, self._pad, self._seed = settings, engine, pad, seed
        self._total = 0
        self._buffer = (
            None
            if settings.replay is None
            else Buffer(settings.replay, fraction=float(settings.fraction))
        )
        self.spent, self._epoch = Spent(), Spent()

    def plan_steps(self, total: int) -> None:
        """Say how many optimiser steps there will be."""
        self._total = total

    @property
    def fraction(self) -> float:
        """λ as it stands."""
        return self._settings.fraction if self._buffer is None else self._buffer.fraction

    def __call__(
        self, batch: Batch, student: nn.Module, *, step: int, rank: int = 0, ranks: int = 1
    ) -> Batch:
        """The batch with some of its rows replaced; the same one if there is nothing to replace.

        Every process calls this with the whole batch and gets its own share of the rows right.

        Args:
            batch: of a task with one row a token.
            student: with its present weights.
            step: number of the optimiser step, from 0.
            rank: of this process.
            ranks: processes.

        Raises:
            RecipeError: several processes and a replay.
            DataError: rows that hold several texts each.
        """
        chosen = self._chosen(len(batch), step)
        if not chosen:
            return batch
        if ranks > 1 and self._buffer is not None:
            raise RecipeError(
                f"`replay` keeps its samples in one process and {ranks} were started; leave it out."
            )
        clock = time.perf_counter()
        mine = range(len(batch) * rank // ranks, len(batch) * (rank + 1) // ranks)
        samples = self._samples(batch, student, [row for row in chosen if row in mine], step)
        made = replaced(batch, samples, pad=self._pad) if samples else batch
        seconds = time.perf_counter() - clock
        for spent in (self.spent, self._epoch):
            spent.seconds += seconds
        return made

    def _begin(self) -> int:
        return math.ceil(self._settings.after * self._total)

    def _chosen(self, size: int, step: int) -> list[int]:
        """Rows evenly spread over the batch, so that every process has its share of the work."""
        if step < self._begin():
            return []
        count = _at_step(self.fraction * size, step)
        offset = float(self._draws(step, _WHICH_ROWS).uniform(1)[0, 0])
        return [int((number + offset) * size / count) for number in range(count)]

    def _samples(
        self, batch: Batch, student: nn.Module, rows: list[int], step: int
    ) -> dict[int, Sample]:
        labels = batch.labels
        if labels is None or labels.ndim != 2 or batch.inputs.ndim != 3:
            raise DataError(
                "On-policy samples are written by language models: batches need planes of tokens "
                "and a label for each position."
            )
        if batch.inputs.shape[1] > PLACES:
            raise DataError(
                "On-policy samples need one text a row, and these rows are packed with several; "
                "read the data without packing."
            )
        starts = self._starts(batch, labels)
        rows = [row for row in rows if starts[row]]
        num_new = self._num_new(len(rows), step)
        new = self._written(batch, student, rows[:num_new], starts, step)
        old = self._replayed(rows[num_new:], step)
        if self._buffer is not None:
            for sample in new.values():
                self._buffer.add(sample)
        return {**new, **old}

    def _starts(self, batch: Batch, labels_BL: Tensor) -> list[int]:
        """Of each row the length of its prompt; 0 where the row asks for nothing."""
        asked_BL = labels_BL != IGNORED
        places_L = torch.arange(asked_BL.shape[1], device=asked_BL.device)
        before_BL = torch.nn.functional.pad(asked_BL[:, :-1], (1, 0))
        begins_BL = asked_BL & ~before_BL
        last_B = torch.where(begins_BL, places_L, -1).max(dim=1).values
        starts_B = last_B + 1  # the label at l is the token at l + 1
        if self._settings.prompt_tokens is not None:
            most_B = (batch.inputs[:, MASK] > 0).sum(-1) - 1
            given_B = torch.full_like(starts_B, self._settings.prompt_tokens).minimum(most_B)
            starts_B = torch.where(starts_B == 1, given_B.clamp(min=1), starts_B)
        return [int(start) for start in starts_B.tolist()]

    def _num_new(self, count: int, step: int) -> int:
        """How many of a step's on-policy samples are written now."""
        if self._buffer is None or not self._buffer.is_full:
            return count
        begin = self._begin()
        left = 1 - (step - begin) / max(1, self._total - begin)
        return min(count, _at_step(left * count, step))

    def _written(
        self, batch: Batch, student: nn.Module, rows: list[int], starts: list[int], step: int
    ) -> dict[int, Sample]:
        if not rows:
            return {}
        prompts = [batch.inputs[row, 0, : starts[row]].long() for row in rows]
        keys = rows if batch.ids is None else [int(batch.ids[row]) for row in rows]
        said = self._engine.write(
            student, prompts, self._settings.sampling, seed=self._word(step), keys=keys
        )
        ids, lengths = said.ids.cpu(), said.lengths.tolist()
        logprobs = None if said.logprobs is None else said.logprobs.cpu()
        for spent in (self.spent, self._epoch):
            spent.written += len(rows)
            spent.tokens += sum(lengths)
        return {
            row: Sample(
                tokens=torch.cat([prompt.cpu(), ids[place, :length]]),
                start=len(prompt),
                logprobs=None if logprobs is None else logprobs[place, :length].clone(),
            )
            for place, (row, prompt, length) in enumerate(zip(rows, prompts, lengths, strict=True))
        }

    def _replayed(self, rows: list[int], step: int) -> dict[int, Sample]:
        if not rows:
            return {}
        assert self._buffer is not None, "without a replay all samples are new"
        drawn = self._draws(step, _WHICH_SAMPLES).uniform(len(rows))[0].tolist()
        for spent in (self.spent, self._epoch):
            spent.replayed += len(rows)
        places = [int(share * len(self._buffer)) for share in drawn]
        return {row: self._buffer[place] for row, place in zip(rows, places, strict=True)}

    def _word(self, step: int) -> int:
        return (self._seed << 32) + step

    def _draws(self, step: int, purpose: int) -> Draws:
        one = torch.zeros(1, dtype=torch.int64)
        return Draws.of(self._word(step), one, one).split(purpose)

    # What the loop tells and asks

    def validated(self, loss: float) -> None:
        """Hear a validation loss, in nats a token."""
        if self._buffer is not None:
            self._buffer.validated(loss)

    def figures(self) -> dict[str, float]:
        """Of the time since the last call: the fraction, seconds, samples and tokens."""
        found = {"fraction": self.fraction, **asdict(self._epoch)}
        self._epoch = Spent()
        return found

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        buffer = None if self._buffer is None else self._buffer.state()
        return {"spent": asdict(self.spent), "epoch": asdict(self._epoch), "buffer": buffer}

    def load(self, state: Mapping[str, object]) -> None:
        """From a checkpoint."""
        spent, epoch, buffer = state["spent"], state["epoch"], state["buffer"]
        assert isinstance(spent, dict), "as `state` wrote it"
        assert isinstance(epoch, dict), "as `state` wrote it"
        self.spent, self._epoch = Spent(**spent), Spent(**epoch)
        if self._buffer is not None:
            assert isinstance(buffer, dict), "as `state` wrote it"
            self._buffer.load(buffer)


def _at_step(wanted: float, step: int) -> int:
    """A whole number a step whose mean over steps is `wanted`."""
    tiny = 1e-9  # so that 0.1 * 30 is 3
    return math.floor(wanted * (step + 1) + tiny) - math.floor(wanted * step + tiny)
