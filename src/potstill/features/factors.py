"""What maps boil down to: paraphraser and translator of factor transfer.

Shapes: B samples, E features of the teacher, F = rate · E of a factor, positions behind them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from potstill.features.layout import Layout
from potstill.features.mapped import Mapped, conv, norm
from potstill.functional.reductions import upcast
from potstill.runtime.seeds import seeded

_SLOPE = 0.1  # of the leaky ReLUs


@final
class Factors(Mapped):
    """A translator of the student's feature, and a paraphraser of the teacher's that is frozen.

    Both end in F features. The paraphraser learns in `rehearse`, by itself.

    Args:
        student: the student's feature for one batch.
        teacher: the teacher's feature for the same batch.
        rate: F / E.
        student_layout: see `Matcher`.
        teacher_layout: see `Matcher`.
        seed: of the initial weights.
    """

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        rate: float,
        student_layout: Layout | str | None = None,
        teacher_layout: Layout | str | None = None,
        seed: int = 0,
    ) -> None:
        def translator(num_student: int, num_teacher: int, rank: int) -> nn.Module:
            return _narrowing(rank, num_student, _factor(num_teacher, rate), normalised=True)

        super().__init__(
            student,
            teacher,
            translator,
            student_layout=student_layout,
            teacher_layout=teacher_layout,
            seed=seed,
        )
        self._like = torch.zeros(1, *student.shape[1:], device=student.device)
        small = _factor(self.width, rate)
        with seeded(seed + 1):
            paraphraser = _narrowing(self.rank, self.width, small, normalised=False)
            decoder = _widening(self.rank, small, self.width)
        self.paraphraser = paraphraser.to(student.device).requires_grad_(False)
        self.decoder = decoder.to(student.device).requires_grad_(False)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of both, `[B, F, *positions]`; the teacher's without gradient."""
        student, teacher = super().forward(student, teacher)
        with torch.no_grad():
            return student, upcast(self.paraphraser(teacher))

    @contextmanager
    def rehearsing(self, *, lr: float) -> Iterator[Callable[[Tensor], Tensor]]:
        """Within, what is given learns from a batch of the teacher's feature and gives its loss.

        The paraphraser learns to say again what it read; afterwards it is frozen again.

        Args:
            lr: of Adam.
        """
        learnt = [*self.paraphraser.parameters(), *self.decoder.parameters()]
        optimizer = torch.optim.Adam(learnt, lr=lr)

        def learn(teacher: Tensor) -> Tensor:
            read = self._read(teacher.detach())
            with torch.enable_grad():
                loss: Tensor = (self.decoder(self.paraphraser(read)) - read).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach()

        for parameter in learnt:
            parameter.requires_grad_(True)
        try:
            yield learn
        finally:
            for parameter in learnt:
                parameter.requires_grad_(False).grad = None

    def _read(self, teacher: Tensor) -> Tensor:
        """The teacher's feature as it meets the student's: with the same positions."""
        _, read = self.arranged(self._like.expand(len(teacher), *self._like.shape[1:]), teacher)
        return read


def _factor(width: int, rate: float) -> int:
    return max(1, int(width * rate))


def _narrowing(rank: int, num_in: int, num_out: int, *, normalised: bool) -> nn.Sequential:
    """Three convolutions of 3; the second changes the number of features."""
    return _stack(rank, ((num_in, num_in), (num_in, num_out), (num_out, num_out)), normalised)


def _widening(rank: int, num_in: int, num_out: int) -> nn.Sequential:
    layers = _stack(rank, ((num_in, num_in), (num_in, num_out), (num_out, num_out)), False)
    return layers[:-1]  # what is to be said again may be below 0


def _stack(rank: int, widths: Iterable[tuple[int, int]], normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for num_in, num_out in widths:
        layers.append(conv(rank, num_in, num_out, kernel=3))
        layers += [norm(rank, num_out)] if normalised else []
        layers.append(nn.LeakyReLU(_SLOPE))
    return nn.Sequential(*layers)
