"""The data that a recipe names."""

import potstill.data as data_sources
from potstill.build.conditions import conditions_of
from potstill.data import DataSet
from potstill.errors import RecipeError
from potstill.models import (
    PURPOSES,
)
from potstill.recipe import (
    Recipe,
)

_KINDS = {
    "classification": "single_label",
    "keyword": "single_label",
    "asr": "transcript",
    "causal_lm": "tokens",
    "seq2seq": "tokens",
    "tagging": "tags",
    "detection": "boxes",
}


def build_data(recipe: Recipe, *, trust: bool = False) -> DataSet:
    """The data that a recipe names."""
    spec = recipe.data
    options = spec.options
    texts = options.get("kind") == "text" or recipe.task in PURPOSES
    if texts and "tokenizer" not in options:
        options |= _tokenizer(recipe)
    kind = _KINDS.get(recipe.task, recipe.task)
    if options.get("vocabulary") == "used":
        _check_cut(recipe)
    data = data_sources.load(
        spec.source,
        options,
        target_kind=data_sources.TargetKind(kind),
        validation=spec.validation,
        test=spec.test,
        seed=spec.seed,
        limit=spec.limit,
        trust=trust,
    )
    if spec.synthetic is not None:
        asked = {**spec.synthetic.model_dump(), "way": data_sources.Way(spec.synthetic.way)}
        data = data_sources.with_synthetic(data, data_sources.Synthetic(**asked))
    return conditions_of(spec, trust=trust).apply(data)


def _check_cut(recipe: Recipe) -> None:
    """Refuse models that cannot be cut to the tokens in use."""
    models = [m.model for m in recipe.teacher.members() if m.tokenizer is None]
    for model in [*models, recipe.student.model]:
        if model.source not in ("hf", "teacher", "api"):
            raise RecipeError(
                f"`data.vocabulary: used` cuts models of source hf to the tokens of the training "
                f"texts, and `{model.name}` is of source {model.source}; leave it out."
            )


def _tokenizer(recipe: Recipe) -> dict[str, str | bool]:
    """That of the first model of Transformers, teacher before student."""
    models = [m.model for m in recipe.teacher.members()] + [recipe.student.model]
    if recipe.teacher.model is not None and recipe.teacher.tokenizer is not None:
        models = [recipe.student.model]  # the teacher's tokens are its own
    for model in models:
        if model.source == "hf" and model.name:
            return {
                "tokenizer": model.name,
                "fetch_tokenizer": model.options.get("pretrained") is True,
            }
    return {}
