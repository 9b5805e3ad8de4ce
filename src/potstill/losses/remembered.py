"""The learnable and remembering parts of contrastive terms.

Shapes: B samples, D features of the student, E of the teacher, M candidates.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from potstill.features.heads import Head
from potstill.features.memory import Memory
from potstill.functional.contrast import candidate_kl, choice_contrast, noise_contrast
from potstill.functional.similarity import unit


@final
class Contrast(nn.Module):
    """Both models' vectors in one space, and the queues of either side.

    Args:
        student_width: D.
        teacher_width: E.
        dim: of the common space.
        queue: vectors kept on either side.
        temperature: of the cosines.
        samples: of the data set; `None` sets the ratio by the first batch.
        choice: a softmax over the candidates instead of a yes or no for each.
        seed: of the linear maps.
    """

    mean_powers: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        dim: int,
        queue: int,
        temperature: float,
        samples: int | None,
        choice: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.student_head = Head(student_width, dim, seed=seed)
        self.teacher_head = Head(teacher_width, dim, seed=seed + 1)
        self.memories = nn.ModuleList([Memory(queue, dim), Memory(queue, dim)] if queue else [])
        self.register_buffer("mean_powers", torch.full((2,), -1.0))  # of the first batch, by side
        self._temperature, self._samples, self._choice = temperature, samples, choice

    def forward(self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None) -> Tensor:
        """The losses of both sides together, `[B]`; then the batch is remembered."""
        mine, theirs = unit(self.student_head(student_BD)), unit(self.teacher_head(teacher_BE))
        losses_B = self._side(mine, theirs, mask_B, 0) + self._side(theirs, mine, mask_B, 1)
        for memory, vectors in zip(self.memories, (mine, theirs), strict=False):
            assert isinstance(memory, Memory), "as it was made"
            memory.put(vectors.detach(), mask_B)
        return losses_B

    def describe(self) -> str:
        """Where both sides meet."""
        kept = f", queue of {self.memories[0].places}" if len(self.memories) else ""
        return f"{self.student_head.describe()}, the teacher's {self.teacher_head.describe()}{kept}"

    def _side(
        self, anchors_BC: Tensor, others_BC: Tensor, mask_B: Tensor | None, side: int
    ) -> Tensor:
        """Anchors of one model (0: the student) among vectors of the other one."""
        candidates_MC, alive_M = others_BC, _all_of(others_BC, mask_B)
        if len(self.memories):
            memory = self.memories[1 - side]
            assert isinstance(memory, Memory), "as it was made"
            kept_KC, filled_K = memory.read()
            candidates_MC = torch.cat([others_BC, kept_KC.to(others_BC.dtype)])
            alive_M = torch.cat([alive_M, filled_K])
        scores_BM = anchors_BC @ candidates_MC.T / self._temperature
        own_BM = torch.zeros_like(scores_BM, dtype=torch.bool)
        own_BM.fill_diagonal_(True)
        noise_BM = alive_M & ~own_BM
        if self._choice:
            return choice_contrast(scores_BM, own_BM, noise_BM)
        log_ratio = self._log_ratio(scores_BM.detach(), own_BM | noise_BM, mask_B, side)
        log_number_B1 = noise_BM.sum(dim=1, keepdim=True).clamp(min=1).to(scores_BM.dtype).log()
        return noise_contrast(scores_BM, own_BM, noise_BM, log_ratio=log_ratio + log_number_B1)

    @torch.no_grad()
    def _log_ratio(
        self, scores_BM: Tensor, seen_BM: Tensor, mask_B: Tensor | None, side: int
    ) -> Tensor:
        """The ratio for one other vector."""
        if self._samples is not None:
            return scores_BM.new_tensor(-math.log(self._samples))
        if mask_B is not None:
            seen_BM = seen_BM & mask_B[:, None]
        powers = torch.where(seen_BM, scores_BM.exp(), 0).sum() / seen_BM.sum().clamp(min=1)
        kept = self.mean_powers[side].to(powers.dtype)
        found = torch.where(kept > 0, kept, powers)
        if self.training:
            self.mean_powers[side] = found.to(self.mean_powers.dtype)
        return found.clamp(min=torch.finfo(found.dtype).tiny).log()


@final
class Likeness(nn.Module):
    """A queue of the teacher's vectors, and what brings the student's to their width.

    Args:
        student_width: D.
        teacher_width: E.
        queue: vectors kept.
        temperatures: of the student's and of the teacher's cosines.
        seed: of the projector.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        queue: int,
        temperatures: tuple[float, float],
        seed: int,
    ) -> None:
        super().__init__()
        same = student_width == teacher_width
        self.projector = None if same else Head(student_width, teacher_width, seed=seed)
        self.memory = Memory(queue, teacher_width) if queue else None
        self._temperatures = temperatures

    def forward(self, student_BD: Tensor, teacher_BE: Tensor, mask_B: Tensor | None) -> Tensor:
        """The divergence of each sample, `[B]`; then the batch is remembered."""
        mine_BE = unit(student_BD if self.projector is None else self.projector(student_BD))
        theirs_BE = unit(teacher_BE)
        candidates_ME, alive_M = theirs_BE, _all_of(theirs_BE, mask_B)
        if self.memory is not None:
            kept_KE, filled_K = self.memory.read()
            candidates_ME = torch.cat([theirs_BE, kept_KE.to(theirs_BE.dtype)])
            alive_M = torch.cat([alive_M, filled_K])
            self.memory.put(theirs_BE, mask_B)
        scores = [each @ candidates_ME.T for each in (mine_BE, theirs_BE)]
        student_BM, teacher_BM = (
            each / temperature for each, temperature in zip(scores, self._temperatures, strict=True)
        )
        return candidate_kl(student_BM, teacher_BM, alive_M.expand_as(student_BM))

    def describe(self) -> str:
        """Projector and queue."""
        first = "no projector" if self.projector is None else self.projector.describe()
        return first if self.memory is None else f"{first}, queue of {self.memory.places}"


def _all_of(rows: Tensor, mask_B: Tensor | None) -> Tensor:
    return torch.ones(len(rows), dtype=torch.bool, device=rows.device) if mask_B is None else mask_B
