"""The conditions that a recipe puts its data under."""

import torch

from potstill.data import (
    Conditions,
    Curriculum,
    DataSet,
    LabelNoise,
    LongTail,
    NoiseKind,
    Of,
    Pick,
    Samples,
    TargetKind,
    Transfer,
    load,
)
from potstill.errors import DataError, RecipeError
from potstill.losses import Objective, with_counts
from potstill.recipe import DataSpec, Recipe, TransferSpec
from potstill.synthesis import DataFree, Method


def conditions_of(spec: DataSpec, *, trust: bool = False) -> Conditions:
    """What `data` of a recipe says beyond its source."""
    tail, noise = spec.long_tail, spec.label_noise
    return Conditions(
        long_tail=None if tail is None else LongTail(ratio=tail.ratio, of=Of(tail.of)),
        label_noise=None
        if noise is None
        else LabelNoise(share=noise.share, kind=NoiseKind(noise.kind), of=Of(noise.of)),
        omit=spec.omit,
        transfer=None if spec.transfer is None else _transfer(spec.transfer, trust=trust),
        seed=spec.seed,
    )


def _transfer(spec: TransferSpec, *, trust: bool) -> Transfer:
    if spec.source is None:
        if spec.options or spec.limit is not None:
            given = ", ".join([*spec.options, *(["limit"] if spec.limit is not None else [])])
            raise RecipeError(f"`data.transfer` has {given} and no `source`; name the source.")
        return Transfer(weight=spec.weight, only=spec.only)
    try:
        found = load(spec.source, spec.options, trust=trust, limit=spec.limit)
    except DataError as error:
        raise DataError(
            f"`data.transfer`: {error} (What has no labels can be a part of the data: `files: "
            "{…, transfer: …}` of source hf, `x_transfer` of an archive.)"
        ) from error
    samples: Samples = found.train.concat(found.validation)
    return Transfer(
        samples=samples,
        tokens=found.tokens,
        weight=spec.weight,
        only=spec.only,
        name=found.name,
    )


def data_free_of(recipe: Recipe) -> DataFree | None:
    """How images are made from the teacher, if students learn on such.

    Raises:
        RecipeError: the recipe also names samples to learn on.
    """
    spec = recipe.distill.data_free
    if spec is None:
        return None
    if recipe.data.transfer is not None:
        raise RecipeError(
            "`distill.data_free` lets students learn on images made from the teacher and on no "
            "others; leave `data.transfer` out."
        )
    return DataFree(**{**spec.model_dump(), "method": Method(spec.method)})


def curriculum_of(recipe: Recipe) -> Curriculum | None:
    """The order of what distilled students learn on."""
    spec = recipe.distill.curriculum
    if spec is None:
        return None
    return Curriculum(**{**spec.model_dump(), "how": Pick(spec.how)})


def calibrate_of(recipe: Recipe) -> bool:
    """Whether the teacher is calibrated.

    Raises:
        RecipeError: the task is not about classes.
    """
    if recipe.teacher.calibrate and recipe.task != "classification":
        raise RecipeError(
            f"`teacher.calibrate` is for `task: classification`, and the task is {recipe.task}; "
            "leave it out."
        )
    return recipe.teacher.calibrate


def counted(objective: Objective, data: DataSet) -> Objective:
    """The objective, told how many samples of each class students learn from."""
    labels = data.lessons.labels
    if data.target_kind is not TargetKind.SINGLE_LABEL or labels is None:
        return objective
    return with_counts(objective, torch.bincount(labels, minlength=data.num_outputs).tolist())
