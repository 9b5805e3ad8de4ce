"""The models of a run on the tasks of the lm-evaluation-harness, if the experiment names any."""

from collections.abc import Mapping
from typing import final

from torch import nn

from potstill.pipeline.examining import can_write
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.teachers import CrossTokenizer


@final
class Harnessed:
    """What each model scored, by its name in the run.

    Args:
        shop: the run.
        ready: its teacher, which may have a tokenizer of its own.
    """

    def __init__(self, shop: Workshop, ready: Ready) -> None:
        self._shop, self._ready = shop, ready
        self._found: dict[str, dict[str, float]] = {}

    def ask(self, name: str, module: nn.Module) -> None:
        """Note a model's scores; nothing without tasks, or of a model that is none of language."""
        shop, harness = self._shop, self._shop.experiment.measuring.lm_eval
        if harness is None or not can_write(module):
            return
        assert shop.experiment.data.tokens is not None, "data of language have a tokenizer"
        tokenizer = shop.experiment.data.tokens.tokenizer
        teacher = self._ready.teacher
        if name.startswith("teacher") and isinstance(teacher, CrossTokenizer):
            if teacher.tokenizer is None:
                return
            tokenizer = teacher.tokenizer
        shop.progress.note(f"asking {name} the tasks of lm-eval")
        self._found[name] = harness.scores(module.to(shop.runtime.device), tokenizer)

    def beside(self, more: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        """Other scores by model, and these."""
        names = dict.fromkeys([*more, *self._found])
        return {name: {**more.get(name, {}), **self._found.get(name, {})} for name in names}
