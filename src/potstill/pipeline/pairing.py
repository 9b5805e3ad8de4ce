"""The models of a run beside people's judgement: how they rank pairs by similarity."""

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.train.evaluate import answers_of

FIGURE = "sts_spearman"


def gold_spearman(vectors_MD: Tensor, gold_N: Tensor) -> float:
    """Spearman's correlation of the cosines of N pairs with their gold similarities.

    Cosines are compared to six digits, so that sentences that are the same share a rank.

    Args:
        vectors_MD: `[2N, D]`, of the first sentences and then of the second ones.
        gold_N: on any scale.
    """
    first_ND, second_ND = vectors_MD.double().chunk(2)
    cosines_N = F.cosine_similarity(first_ND, second_ND, dim=-1)
    cosines_N = cosines_N.round(decimals=6)
    if float(cosines_N.max() - cosines_N.min()) == 0:
        return 0.0
    return float(spearmanr(cosines_N.numpy(), gold_N.numpy()).statistic)


@final
class Paired:
    """Each model's figure, by its name in the run; nothing if the experiment has no pairs."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._found: dict[str, float] = {}

    def ask(self, name: str, source: nn.Module | Teacher) -> None:
        """Note how a model ranks the pairs."""
        pairs = self._shop.experiment.measuring.pairs
        if pairs is None:
            return
        feed = self._shop.feed(pairs.texts)
        answers = answers_of(source, feed, self._shop.experiment.task)
        order = torch.argsort(answers.ids)
        self._found[name] = gold_spearman(answers.outputs[order], pairs.gold_N)

    def beside(self, more: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        """Other figures by model, and this one."""
        found = {name: {FIGURE: value} for name, value in self._found.items()}
        names = dict.fromkeys([*more, *found])
        return {name: {**more.get(name, {}), **found.get(name, {})} for name in names}
