"""The right student."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from potstill.build.searching import search_of
from potstill.build.workers import work_together
from potstill.pipeline.concluding import Found, conclude
from potstill.pipeline.search_settings import Settings
from potstill.recipe import Recipe, load
from potstill.runtime.progress import Progress
from potstill.search.targets import Targets, targets_of


def search_recipe(
    recipe: Recipe | str,
    *,
    overrides: Sequence[str] = (),
    targets: Targets | Mapping[str, str | float | None] | None = None,
    settings: Settings | None = None,
    families: Sequence[str] = (),
    jobs: int = 1,
    join: bool = False,
    out: Path | str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Found | None:
    """Find the student that is best at a given cost. Called again, it goes on where it stopped.

    Equivalent to `prepare` and `work` of `search_of(load_recipe(recipe), …)`, then `conclude`.

    Args:
        recipe: a `Recipe`, the name of a shipped one, or a path: teacher, data, and a student to
            start from.
        overrides: `key.path=value`, for a name or a path.
        targets: limits by quantity (`latency_ms`, `bytes`, `parameters`, `flops`, `memory`), as
            numbers or with units (`"5ms"`, `"1MB"`); the first one is the axis of cost. Without
            any, the front of latency is looked for.
        settings: how long and on what.
        families: of students, by name; all that suit the samples if left out.
        jobs: processes that train trials.
        join: only take part in the trials of a search that another process began; gives `None`.
        out: the run folder; `runs/<name>-search` if left out.
        trust: let code that the recipe names run.
        progress: told of what happens.

    Raises:
        RecipeError: no student can meet the target, which is said before anything is trained.
        MissingExtra: Optuna is not installed.
    """
    read = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    folder = Path(out) if out is not None else Path("runs") / f"{read.name}-search"
    limits = targets if isinstance(targets, Targets) else targets_of(targets or {})
    chosen = settings or Settings()
    made = search_of(
        read,
        targets=limits,
        settings=chosen,
        only=families,
        trust=trust,
        folder=folder,
        progress=progress,
    )
    made.prepare()
    if jobs > 1 and not join:
        words = made.words() + [f"--family={name}" for name in families]
        work_together(made, jobs=jobs, words=[*words, *(["--trust"] if trust else [])])
    else:
        made.work()
    return None if join else conclude(made)
