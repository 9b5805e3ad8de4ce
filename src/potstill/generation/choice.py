"""Drawing the next tokens by counters instead of a random state.

Shapes: B rows, V tokens of the vocabulary.
"""

from typing import final

import torch
from torch import Tensor

from potstill.data.draws import Draws
from potstill.generation.engine import Sampling
from potstill.store.codecs.draws import choose


@final
class Choice:
    """A logits processor of Transformers that makes the draw itself.

    It warps the scores (temperature, top-k, top-p), draws each row's token with a uniform number
    that depends on the row's key and the position alone, remembers its log-probability, and leaves
    only that token possible, so that the greedy search around it takes it.

    Args:
        sampling: how tokens are chosen; must draw.
        draws: one stream a row.
        prompt_width: positions of the (padded) prompts.
    """

    def __init__(self, sampling: Sampling, draws: Draws, *, prompt_width: int) -> None:
        assert sampling.draws, "the greedy choice needs no help"
        self._sampling, self._draws, self._width = sampling, draws, prompt_width
        self._logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`[B, V]`: 0 for the token that was drawn, -inf for the others."""
        position = input_ids.shape[1] - self._width
        logprobs_BV = warped(scores.float(), self._sampling)
        bits_B = self._draws.split(position).bits(1)
        uniform_B1 = ((bits_B >> 11) & ((1 << 53) - 1)).double() * 2.0**-53
        chosen_B1 = choose(logprobs_BV.exp(), uniform_B1)
        self._logprobs.append(logprobs_BV.gather(1, chosen_B1).squeeze(1))
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen_B1, 0.0)

    def logprobs(self) -> Tensor:
        """`[B, A]` float32: of every token that was drawn."""
        return torch.stack(self._logprobs, dim=1)


def warped(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """`[B, V]` float32: log-probabilities of the distribution that tokens are drawn from.

    The temperature comes first, then top-k, then top-p of what is left; the most probable token
    always stays (Holtzman et al. 2020, arXiv:1904.09751, §3.1).
    """
    logits_BV = logits_BV / sampling.temperature
    top_k = sampling.top_k
    if top_k is not None and top_k < logits_BV.shape[-1]:
        least_B1 = logits_BV.topk(top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if sampling.top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
        mass_BV = sorted_BV.softmax(-1)
        before_BV = mass_BV.cumsum(-1) - mass_BV
        before_BV[:, 0] = 0.0  # not a rounding error away from it
        left_out = torch.empty_like(logits_BV, dtype=torch.bool)
        left_out.scatter_(1, order_BV, before_BV >= sampling.top_p)
        logits_BV = logits_BV.masked_fill(left_out, -torch.inf)
    return logits_BV.log_softmax(-1)
