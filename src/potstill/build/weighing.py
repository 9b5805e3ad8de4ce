"""The task that a recipe of one row a sample names: what decides, and how much classes count."""

from dataclasses import replace

import torch

from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.losses import CrossEntropy, ExitCrossEntropy, Objective
from potstill.losses.objective import Weighted
from potstill.losses.scheduled import with_standing
from potstill.protocols import Task, Term
from potstill.recipe import Recipe
from potstill.tasks import Classification, Keyword, MultiLabel, Regression

_OF_CLASSES = {"classification": Classification, "keyword": Keyword}
_POWERS = {"balanced": 1.0, "sqrt": 0.5}


def predicting_task(recipe: Recipe, data: DataSet) -> Task:
    """Classification (of one or several labels) or regression."""
    if recipe.task in _OF_CLASSES:
        make = _OF_CLASSES[recipe.task]
        return make(primary=recipe.primary, class_weights=class_weights(recipe, data))
    if recipe.class_weights != "none":
        raise RecipeError(
            f"`class_weights: {recipe.class_weights}` is for classification, and the task is "
            f"{recipe.task}; leave it out."
        )
    return {"multi_label": MultiLabel, "regression": Regression}[recipe.task](
        primary=recipe.primary
    )


def refuse_weighing(recipe: Recipe) -> None:
    """Tasks that have one way to be scored take no other.

    Raises:
        RecipeError: the recipe asks for one.
    """
    for key, usual in (("primary", None), ("class_weights", "none")):
        if getattr(recipe, key) != usual:
            raise RecipeError(
                f"`{key}` is for classification, multi_label and regression, and the task is "
                f"{recipe.task}; leave it out."
            )


def class_weights(recipe: Recipe, data: DataSet) -> tuple[float, ...] | None:
    """By the frequencies of the training labels; their mean over the training rows is 1.

    With n rows of C classes, n_c of class c, `balanced` is n / (C n_c) (King and Zeng 2001,
    doi:10.1093/oxfordjournals.pan.a004868); `sqrt` is its root, scaled. A class without a row
    gets 0.
    """
    if recipe.class_weights == "none":
        return None
    labels = data.train.labels
    assert labels is not None, "training data are labelled"
    counts = torch.bincount(labels, minlength=data.num_outputs).double()
    raw = torch.where(counts > 0, counts.clamp(min=1) ** -_POWERS[recipe.class_weights], 0.0)
    weights = raw * (counts.sum() / (raw * counts).sum())
    return tuple(round(float(weight), 6) for weight in weights)


def weighed(objective: Objective, task: Task) -> Objective:
    """The objective with the task's class weights in every cross entropy that has none."""
    weights = task.class_weights if isinstance(task, Classification) else None
    if weights is None:
        return objective

    def heavier(term: Term) -> Term:
        if isinstance(term, CrossEntropy | ExitCrossEntropy) and term.class_weights is None:
            return replace(term, class_weights=weights)
        return term

    return Objective(tuple(Weighted(w, with_standing(term, heavier)) for w, term in objective))
