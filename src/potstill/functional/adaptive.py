"""The adaptive mixture of forward and reverse KL, by where the student is still wrong.

Shapes: N rows, C classes. Student arguments carry gradient, teacher arguments are constants.
"""

import torch
from torch import Tensor

from potstill.functional.closed_forms import kl_gradient, reverse_kl_gradient
from potstill.functional.divergences import kl, reverse_kl


def head_share(student_NC: Tensor, teacher_NC: Tensor, *, head: float) -> Tensor:
    """`[N]`, the head's share of Σ |p - q|; a half where p and q are equal. Without gradient.

    The head is the smallest set of the teacher's likeliest classes that has at least the mass
    `head`, with all classes as likely as its last one: so the order of classes does not matter.

    Args:
        student_NC: q.
        teacher_NC: p.
        head: strictly between 0 and 1.
    """
    student_NC = student_NC.detach()
    sorted_NC = teacher_NC.sort(dim=-1, descending=True).values
    last_N1 = (sorted_NC.cumsum(dim=-1) < head).sum(dim=-1, keepdim=True)
    least_N1 = sorted_NC.gather(1, last_N1.clamp_(max=sorted_NC.shape[-1] - 1))
    apart_NC = (teacher_NC - student_NC).abs()
    all_N = apart_NC.sum(dim=-1)
    head_N = apart_NC.masked_fill_(teacher_NC < least_N1, 0).sum(dim=-1)
    return torch.where(all_N > 0, head_N / all_N, 0.5)


def adaptive_kl(student_log_NC: Tensor, teacher_log_NC: Tensor, *, head: float) -> Tensor:
    """`share * KL(p ‖ q) + (1 - share) * KL(q ‖ p)` with the share of `head_share`, `[N]`."""
    teacher_NC = teacher_log_NC.exp()
    share_N = head_share(student_log_NC.exp(), teacher_NC, head=head)
    forward_N = kl(student_log_NC, teacher_NC)
    return share_N * forward_N + (1 - share_N) * reverse_kl(student_log_NC, teacher_log_NC)


def adaptive_kl_gradient(
    student_NC: Tensor, teacher_NC: Tensor, *, head: float
) -> tuple[Tensor, Tensor]:
    """Values `[N]` and gradients `[N, C]` by the student's logits, as in `closed_forms`."""
    share_N = head_share(student_NC.softmax(dim=-1), teacher_NC.softmax(dim=-1), head=head)
    forward_N, gradient_NC = kl_gradient(student_NC.clone(), teacher_NC.clone())
    reverse_N, reverse_NC = reverse_kl_gradient(student_NC, teacher_NC)
    gradient_NC.mul_(share_N[:, None])
    gradient_NC.add_(reverse_NC.mul_((1 - share_N)[:, None]))
    return share_N * forward_N + (1 - share_N) * reverse_N, gradient_NC
