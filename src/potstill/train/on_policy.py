"""How much of what a student learns on it writes itself, and how it writes."""

from dataclasses import dataclass, field
from typing import final

from potstill.errors import RecipeError
from potstill.generation import EngineName, Sampling
from potstill.train.replay import Replay


@final
@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """Some samples of every batch are written by the student (GKD, Agarwal et al. 2024).

    arXiv:2306.13649, without its coin: λ is a share of each batch.

    Args:
        fraction: λ, of the samples of every batch, so that steps take equally long. Where λB is
            no whole number, steps differ by one sample. With `replay` it is where λ starts.
        after: share of all steps that pass before the first on-policy sample.
        sampling: how the student writes.
        prompt_tokens: of texts without a question, how many first tokens are the prompt; of
            samples with an answer, the prompt is what stands before the (last) answer.
        replay: what is written is used again; `None` for never.
        engine: what lets the student write.

    Raises:
        RecipeError: a value out of range.
    """

    fraction: float = 0.5
    after: float = 0.0
    sampling: Sampling = field(default_factory=Sampling)
    prompt_tokens: int | None = None
    replay: Replay | None = None
    engine: EngineName = EngineName.TRANSFORMERS

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("fraction", 0 <= self.fraction <= 1, "from 0 to 1"),
            ("after", 0 <= self.after <= 1, "a share of all steps, from 0 to 1"),
            ("prompt_tokens", self.prompt_tokens is None or self.prompt_tokens >= 1, "at least 1"),
        ):
            if not ok:
                raise RecipeError(f"`{name}` is {getattr(self, name)!r}; it must be {expected}.")
