"""What writing is: how tokens are chosen, what is given back, and the interface of engines.

Shapes: B prompts, A new tokens of the longest continuation.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from potstill.errors import RecipeError


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a model's next tokens are chosen.

    Args:
        max_new_tokens: at most so many.
        temperature: the logits are divided by it; 0 takes the most probable token (greedy).
        top_p: draw among the most probable tokens that together have this probability.
        top_k: draw among this many; `None` among all.
        beams: of a beam search, which takes no part in chance; 1 for none.

    Raises:
        RecipeError: a value out of range, or a beam search that is to draw.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    beams: int = 1

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("beams", self.beams >= 1, "at least 1"),
        ):
            if not ok:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; it must be {expected}.")
        if self.beams > 1 and self.temperature:
            raise RecipeError(
                f"A beam search ({self.beams} beams) draws nothing, and `temperature` is "
                f"{self.temperature:g}; set `temperature: 0`, or `beams: 1`."
            )

    @property
    def draws(self) -> bool:
        """Whether chance has a part."""
        return self.temperature > 0


GREEDY = Sampling(temperature=0)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Continuations of B prompts, right-padded.

    Args:
        ids: `[B, A]` int64; of each, up to and with the token that ends it.
        lengths: `[B]` int64, at least 1.
        logprobs: `[B, A]` float32, of each token under the distribution that it was drawn from
            (temperature and filters included), 0 in the padding; `None` where nothing was drawn.
        ended: `[B]` bool, which ended by themselves and were not cut off.
    """

    ids: Tensor
    lengths: Tensor
    logprobs: Tensor | None
    ended: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def texts(self) -> list[list[int]]:
        """The tokens of each, without padding."""
        lengths = self.lengths.tolist()
        return [row[:n] for row, n in zip(self.ids.tolist(), lengths, strict=True)]


class Engine(ABC):
    """Lets a model continue prompts. Implementations differ in speed alone."""

    @abstractmethod
    def write(
        self,
        model: nn.Module,
        prompts: Sequence[Tensor],
        sampling: Sampling,
        *,
        seed: int,
        keys: Sequence[int] | None = None,
    ) -> Written:
        """Continue each prompt, without gradient, with dropout off and the mode restored.

        The tokens drawn for a prompt are a function of the model, the prompt, `seed` and its key:
        the global random state has no part, and is left as it was.

        Args:
            model: with its present weights.
            prompts: int64 tokens of each, at least one.
            sampling: how tokens are chosen.
            seed: of all draws.
            keys: the name of each prompt, so that its draws do not depend on who else is there;
                its position if left out.

        Raises:
            DataError: a prompt without tokens, or too long for the model.
            ModelError: the model cannot write.
        """
