"""Embeddings compared: who is like whom in a batch, and the main directions of a set of vectors.

Shapes: N texts, D features of the student, E of the teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.functional.reductions import upcast

_NEVER = torch.finfo(torch.float32).min / 2  # a softmax makes exactly 0 of it; finite, unlike -inf


def unit(vectors_ND: Tensor) -> Tensor:
    """Vectors of length 1 in float32 or better; zero stays zero, with zero gradient."""
    vectors_ND = upcast(vectors_ND)
    power_N1 = vectors_ND.square().sum(dim=-1, keepdim=True)
    alive_N1 = power_N1 > 0
    return torch.where(alive_N1, vectors_ND * torch.where(alive_N1, power_N1, 1).rsqrt(), 0)


def similarity_kl(
    student_ND: Tensor, teacher_NE: Tensor, *, scale: float, mask_N: Tensor | None
) -> Tensor:
    """KL of whom each text is like, teacher to student, `[N]`; 0 for texts that do not count.

    Each text's cosines with the others, times `scale`, are the logits of a softmax over the others.
    Texts that do not count are nobody's neighbours; a text without any other gives 0.

    Args:
        student_ND: carries gradient.
        teacher_NE: constant; its width is its own.
        scale: of the cosines, the inverse of a temperature.
        mask_N: bool, which texts count; `None` means all.
    """
    count = len(student_ND)
    others_NN = ~torch.eye(count, dtype=torch.bool, device=student_ND.device)
    if mask_N is not None:
        others_NN = others_NN & mask_N[None, :]
    logits = []
    for vectors in (student_ND, teacher_NE):
        each = unit(vectors)
        logits.append(torch.where(others_NN, scale * (each @ each.T), _NEVER))
    student_log_NN, teacher_NN = F.log_softmax(logits[0], -1), F.softmax(logits[1], -1)
    each_N = F.kl_div(student_log_NN, teacher_NN, reduction="none")
    return torch.where(others_NN, each_N, 0).sum(dim=-1)


def contrast(first_ND: Tensor, second_ND: Tensor, *, scale: float, mask_N: Tensor | None) -> Tensor:
    """InfoNCE: each text's second vector against all second vectors, `[N]`.

    Args:
        first_ND: one view of each text.
        second_ND: another view of the same texts.
        scale: of the cosines, the inverse of a temperature.
        mask_N: bool, which texts count; the others are nobody's negatives.
    """
    logits_NN = scale * (unit(first_ND) @ unit(second_ND).T)
    if mask_N is not None:
        itself_NN = torch.eye(len(first_ND), dtype=torch.bool, device=first_ND.device)
        logits_NN = torch.where(mask_N[None, :] | itself_NN, logits_NN, _NEVER)
    return F.log_softmax(logits_NN, dim=-1).diagonal().neg()


def principal_directions(vectors_ND: Tensor, width: int) -> Tensor:
    """`[D, width]`, orthonormal: where the vectors vary most about the origin.

    About the origin and not about their mean: so the products of the reduced vectors are as close
    to the products of the vectors as any such map makes them. Computed in float64; the sign of each
    direction is fixed (its largest entry is positive).
    """
    wide_ND = vectors_ND.double()
    _, vectors_DD = torch.linalg.eigh(wide_ND.T @ wide_ND)
    chosen_DW = vectors_DD.flip(1)[:, :width]
    largest_W = chosen_DW.gather(0, chosen_DW.abs().argmax(dim=0, keepdim=True)).sign()
    directions_DW: Tensor = (chosen_DW * largest_W).to(vectors_ND.dtype)
    return directions_DW
