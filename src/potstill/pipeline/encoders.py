"""The models of a run about embeddings: the teacher as it is, students made from it or by name."""

import functools
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from potstill.data import DataSet
from potstill.data.feed import Feed
from potstill.errors import RecipeError
from potstill.models import ModelConfig, create_model, shrunken_config, with_kept, without_kept
from potstill.models.config import Json
from potstill.models.sentence import embedding_width
from potstill.models.sentence_static import StaticEncoder, turned
from potstill.pipeline.experiment import GivenTeacher, MadeModel
from potstill.pipeline.workshop import TEXT_BATCH
from potstill.protocols import Task, Teacher
from potstill.teachers import ModuleTeacher
from potstill.teachers.reduced import Reduced, directions_of

SEEN = 2000
"""Training texts, at most, whose embeddings give a teacher's main directions."""


SMOOTHING = 1e-3
"""a of the weights a / (a + p) of tokens (Arora et al. 2017, who tried 1e-4 to 1e-3)."""


def encoder_config(
    source: str, name: str, options: Mapping[str, Json], *, data: DataSet
) -> ModelConfig:
    """The config of an encoder by name, with the width of its embeddings as number of outputs.

    Raises:
        RecipeError: a source whose width is unknown, and no `num_outputs`.
    """
    given = dict(options)
    outputs = given.pop("num_outputs", None)
    if source == "hf":
        kept = None if data.tokens is None else data.tokens.kept
        given = {"pooling": "auto", **with_kept(given, kept)}
    config = ModelConfig(
        source=source,
        name=name,
        options=given,
        input_shape=data.input_shape,
        num_outputs=outputs if isinstance(outputs, int) else 1,
    )
    if source == "hf":
        return replace(config, num_outputs=embedding_width(config))
    if not isinstance(outputs, int):
        raise RecipeError(
            f"The width of the embeddings of `{name}` (source {source}) is not known before it is "
            "made; give it as `num_outputs`."
        )
    return config


def encoder_teacher(
    config: ModelConfig, *, data: DataSet, task: Task, width: int | None, trust: bool
) -> GivenTeacher:
    """A teacher of embeddings that is ready, its vectors reduced to `width` if that is given."""
    module = create_model(config, trust=trust)
    teacher: Teacher = ModuleTeacher(module, task)
    whole, kept = without_kept(config)
    description = whole.description
    if kept is not None:
        description = f"{description}, read at the {len(kept):,} tokens in use"
    if width is not None:
        teacher = Reduced(teacher, _directions(teacher, data, width))
        description = f"{description}, {width} main directions"
    return GivenTeacher(
        teacher=teacher, name=config.name, description=description, module=module, config=config
    )


def encoder_student(
    teacher: ModelConfig,
    options: Mapping[str, Json],
    *,
    data: DataSet,
    told: Teacher,
    trust: bool,
) -> MadeModel:
    """A student made from a teacher of embeddings.

    Static students are made once, for all seeds alike; where the teacher is reduced to a width,
    those of that width lie in the teacher's directions from the start.
    """
    given = dict(options)
    static = given.get("make") == "static"
    width = given.get("width")
    directions: Tensor | None = None
    weights: Tensor | None = None
    if static:
        given["frame"] = _frame(data)
        if "sif" not in given:  # how rare tokens are is counted, not guessed from their places
            given["sif"] = 0
            weights = _rarity(data)
        if isinstance(told, Reduced) and told.directions_ED.shape[1] == width:
            directions = told.directions_ED
            del given["width"]
    outputs = width if isinstance(width, int) and "width" in given else teacher.num_outputs
    config = replace(shrunken_config(teacher, given), num_outputs=outputs)
    model = MadeModel(
        make=lambda seed: create_model(config, seed=seed, trust=trust),
        name=config.name,
        description=config.description,
        key=repr(config.to_json()),
        config=config,
    )
    return _once(model, directions, weights) if static else model


def _once(model: MadeModel, directions: Tensor | None, weights: Tensor | None) -> MadeModel:
    @functools.cache
    def first() -> nn.Module:
        made = model.make(0)
        assert isinstance(made, StaticEncoder), "`make: static` makes one"
        if weights is not None:
            with torch.no_grad():
                rows = min(len(weights), len(made.embedding.weight))
                made.embedding.weight[:rows].mul_(weights[:rows, None])
        return made if directions is None else turned(made, directions)

    made = replace(model, make=lambda _seed: deepcopy(first()))
    if directions is None or model.config is None:
        return made
    width = directions.shape[1]
    return replace(
        made,
        description=f"{model.description}, in the teacher's {width} directions",
        key=f"{model.key} {width} {float(directions.double().abs().sum())!r}",
        config=replace(model.config, num_outputs=width),
    )


def _rarity(data: DataSet) -> Tensor:
    """`[V]`: a / (a + p), p the share of a token among those of the training texts."""
    assert data.tokens is not None, "`_frame` asked"
    planes_NPL = data.train.inputs
    seen = planes_NPL[:, 0][planes_NPL[:, 1] > 0].long()
    counts_V = torch.bincount(seen, minlength=data.tokens.size).float()
    return SMOOTHING / (SMOOTHING + counts_V / counts_V.sum())


def _directions(teacher: Teacher, data: DataSet, width: int) -> Tensor:
    count = min(SEEN, len(data.train))
    taken = torch.linspace(0, len(data.train) - 1, count).long()
    feed = Feed(
        samples=data.train.rows(taken),
        batch_size=min(TEXT_BATCH, count),
        seed=0,
        normalise=data.normalise,
        shuffle=False,
    )
    return directions_of(teacher, feed.epoch(0), width)


def _frame(data: DataSet) -> list[Json]:
    if data.tokens is None:
        raise RecipeError(
            "A static student has a vector for each token: use it with data of `kind: text`."
        )
    return list(data.tokens.frame())
