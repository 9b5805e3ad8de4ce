"""How long a search takes, and on what it measures."""

from dataclasses import dataclass
from typing import final

from potstill.errors import RecipeError
from potstill.measure.runners import ONNX, RUNTIMES


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and on what.

    Args:
        trials: students that are trained, those given up early among them.
        minutes: no trial begins later than that; `None` for no limit.
        runtime: `onnxruntime`, `executorch` or `torch`.
        threads: of the runtime.
        epochs: of each trial; the recipe's if left out.
        storage: an Optuna storage URL; SQLite in the run folder if left out.
        seed: of what is drawn, and of the students.
    """

    trials: int = 30
    minutes: float | None = None
    runtime: str = ONNX
    threads: int = 1
    epochs: int | None = None
    storage: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise RecipeError(
                f"There is no runtime `{self.runtime}` to search for; choose {', '.join(RUNTIMES)}."
            )
        if self.trials < 1 or self.threads < 1 or (self.minutes is not None and self.minutes <= 0):
            raise RecipeError(
                "A search needs at least one trial, one thread and some time (`--trials`, "
                "`--threads`, `--minutes`)."
            )
