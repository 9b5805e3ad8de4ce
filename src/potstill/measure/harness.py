"""Language models on the tasks of EleutherAI's lm-evaluation-harness, when it is installed.

Potstill names the tasks and hands over models and tokenizers; questions, prompts, answers and their
scores are the harness's own (Gao et al., github.com/EleutherAI/lm-evaluation-harness).
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from torch import nn

from potstill.errors import RecipeError, need
from potstill.generation.hugging import writer_in
from potstill.runtime.modes import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFIX = "lm_eval"
"""What the names of its figures begin with: `lm_eval arc_easy acc`."""


@final
@dataclass(frozen=True, kw_only=True)
class Harness:
    """Which tasks, and how much of them.

    Args:
        tasks: names of tasks or groups.
        include: a folder with definitions of tasks of one's own (yaml files).
        limit: questions of each task at most; `None` for all.
        shots: examples before each question; `None` for what the task says.
        batch_size: questions that are asked together.
    """

    tasks: tuple[str, ...]
    include: str | None = None
    limit: int | None = None
    shots: int | None = None
    batch_size: int = 16

    def check(self) -> None:
        """Find the tasks, before anything is trained.

        Raises:
            MissingExtra: the harness is not installed.
            RecipeError: a task is unknown, or the folder is missing.
        """
        if self.include is not None and not Path(self.include).is_dir():
            raise RecipeError(
                f"`measure.lm_eval.include` is {self.include!r}, and there is no such folder; name "
                "one with yaml files of tasks."
            )
        known = self._manager.all_tasks
        unknown = [name for name in self.tasks if name not in known]
        if unknown:
            raise RecipeError(
                f"The lm-evaluation-harness has no task `{unknown[0]}`; `lm-eval ls tasks` lists "
                "them, and `measure.lm_eval.include` names a folder with tasks of your own."
            )

    def scores(self, model: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
        """The model's figures, by `lm_eval TASK METRIC`; standard errors are left out.

        Args:
            model: a language model of Transformers, or one that holds one; on its device.
            tokenizer: its own.
        """
        evaluator = _needed("lm_eval.evaluator")
        hugging = _needed("lm_eval.models.huggingface")
        with _hushed(), evaluating(model):
            asked = hugging.HFLM(
                pretrained=writer_in(model),
                tokenizer=tokenizer,
                backend="causal",
                batch_size=self.batch_size,
            )
            found = evaluator.simple_evaluate(
                model=asked,
                tasks=list(self.tasks),
                num_fewshot=self.shots,
                limit=self.limit,
                bootstrap_iters=0,
                log_samples=False,
                task_manager=self._manager,
                random_seed=None,  # torch and NumPy are left as they are
                numpy_random_seed=None,
                torch_random_seed=None,
            )
        return dict(_figures(found["results"]))

    @cached_property
    def _manager(self) -> Any:  # noqa: ANN401  of a library that is an extra
        """Of the folder alone if it has all that is asked for, which is much quicker."""
        manager = _needed("lm_eval.tasks").TaskManager
        with _hushed():
            if self.include is not None:
                mine = manager(include_path=self.include, include_defaults=False)
                if set(self.tasks) <= set(mine.all_tasks):
                    return mine
            return manager(include_path=self.include)


def _needed(module: str) -> Any:  # noqa: ANN401  of a library that is an extra
    with _hushed():
        return need(module, extra="harness")


def _figures(results: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, float]]:
    """Metrics come as `acc,none`: the name and the filter of the answers."""
    for task, figures in results.items():
        for key, value in figures.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            named = metric if chosen == "none" else f"{metric} {chosen}"
            yield f"{PREFIX} {task} {named}", float(value)


@contextmanager
def _hushed() -> Iterator[None]:
    """The harness logs and warns a lot about itself; errors are still raised."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
