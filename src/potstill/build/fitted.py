"""Students that are fitted instead of trained: what of a recipe cannot be said of them."""

from dataclasses import replace

from potstill.errors import RecipeError
from potstill.models.config import PURPOSES
from potstill.models.rule_students import fitter_of
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.fitting import parts_of

_KINDS = frozenset({"single_label", "multi_label", "regression"})


def checked(experiment: Experiment) -> Experiment:
    """The experiment; of a student that is fitted, with one pass over rows that never change.

    Raises:
        RecipeError: it is asked for what only trained students have.
        HandshakeError: a term is about more than answers row by row.
    """
    student, task = experiment.student, experiment.task
    if not student.fitted:
        return experiment
    assert student.config is not None, "made by its config"
    if task.kind not in _KINDS or task.name in PURPOSES:
        raise RecipeError(
            f"`{student.name}` is for classification, multi_label and regression, and the task is "
            f"{task.name or task.kind}; name a model of another source."
        )
    if experiment.learning.mix is not None:
        raise RecipeError(
            f"`{student.name}` is fitted on rows as they are; leave `distill.mix` out."
        )
    if fitter_of(student.config).rows == 1 and len(experiment.seeds) > 1:
        raise RecipeError(
            f"`{student.name}` with `rows: 1` is the same for each of {len(experiment.seeds)} "
            "seeds, whose spread would say nothing; give one seed (`seeds: 1`), or let each draw "
            "a share of the rows, such as `rows: 0.9`."
        )
    parts_of(experiment.objective)
    if experiment.learning.augment is not None:
        return experiment
    settings = replace(experiment.learning.settings, epochs=1)
    return replace(experiment, learning=replace(experiment.learning, settings=settings))
