"""How unsure an answer is."""

import math

import torch
from torch import Tensor


def relative_entropy(answers: Tensor, *, multi_label: bool = False) -> Tensor:
    """`[..., C]` logits to `[...]`: entropy over its maximum, 0 for certain and 1 for uniform.

    Of several labels a sample, the mean over the classes of the entropy of each.
    """
    if multi_label:
        p = answers.sigmoid()
        each = torch.special.entr(p) + torch.special.entr(1 - p)
        return torch.as_tensor(each.mean(-1) / math.log(2))
    total = torch.special.entr(answers.softmax(-1)).sum(-1)
    return torch.as_tensor(total / math.log(max(answers.shape[-1], 2)))
