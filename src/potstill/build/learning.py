"""How students learn: objectives, settings, stores, and what is written to be learnt."""

from collections.abc import Sequence

from potstill.data import Augment, CutMix, Mix, Mixup
from potstill.errors import RecipeError
from potstill.generation import EngineName, Sampling
from potstill.losses import Objective, create, scheduled
from potstill.losses.divergence import DivergenceTerm
from potstill.losses.objective import Weighted
from potstill.losses.ramps import Ramp, ramp_of
from potstill.pipeline.experiment import (
    Keep,
    Learning,
    Looks,
    Sequences,
    Storing,
    Use,
)
from potstill.recipe import (
    CodecSpec,
    LearnSpec,
    MixSpec,
    Recipe,
    StepSpec,
    StoreSpec,
    TermSpec,
    TrainSpec,
)
from potstill.store.codec import Codec
from potstill.store.codecs import make_codec
from potstill.train import OnPolicy, OptimizerName, Replay, ScheduleName, Select, TrainSettings


def build_objective(terms: Sequence[TermSpec]) -> Objective:
    """The weighted sum of the terms named.

    Raises:
        RecipeError: no term, or one that is unknown or wrong.
    """
    if not terms:
        raise RecipeError("`distill.objective` is empty; give at least one term, for example kd.")
    return Objective(tuple(_weighted(spec) for spec in terms))


def _weighted(spec: TermSpec) -> Weighted:
    """One term, with what moves of it."""
    weight = ramp_of(spec.weight, where=f"{spec.term}.weight") or spec.weight
    assert isinstance(weight, int | float | Ramp), "the recipe says a number or a mapping"
    moving: dict[str, Ramp] = {}
    for name, value in spec.options.items():
        ramp = ramp_of(value, where=f"{spec.term}.{name}")
        if ramp is not None:
            moving[name] = ramp
    starts = {name: ramp.start for name, ramp in moving.items()}
    term = create(spec.term, {**spec.options, **starts})
    return Weighted(weight, scheduled(term, **moving) if moving else term)


def settings_of(spec: TrainSpec) -> TrainSettings:
    """The same settings, as the trainer takes them."""
    values = {name: getattr(spec, name) for name in TrainSpec.model_fields}
    values["optimizer"] = OptimizerName(spec.optimizer)
    values["schedule"] = ScheduleName(spec.schedule)
    values["select"] = Select(spec.select)
    return TrainSettings(**values)


def learning_of(spec: LearnSpec) -> Learning:
    """Settings, augmentation and mixing."""
    return Learning(
        settings=settings_of(spec), augment=augment_of(spec.augment), mix=_mix(spec.mix)
    )


def storing_of(spec: StoreSpec, objective: Objective) -> Storing:
    """The same choices, with the codecs made.

    A codec that keeps probabilities takes the temperature of the terms, if they have one alone.
    """
    found = {t.temperature for _, t in objective if isinstance(t, DivergenceTerm)}
    temperature = found.pop() if len(found) == 1 else None
    return Storing(
        use=Use(spec.use),
        path=spec.path,
        views=spec.views,
        codec=_codec(spec.codec, temperature),
        features=_codec(spec.features, None),
    )


def _codec(spec: CodecSpec | None, temperature: float | None) -> Codec | None:
    if spec is None:
        return None
    given = spec.options.items()
    options = {key: value for key, value in given if isinstance(value, bool | int | float | str)}
    if len(options) < len(given):
        wrong = next(key for key in spec.options if key not in options)
        raise RecipeError(f"The codec option `{wrong}` is {spec.options[wrong]!r}; give a number.")
    made = make_codec(spec.codec, options)
    if temperature is None or "temperature" in options or "temperature" not in made.options():
        return made
    return make_codec(spec.codec, {**options, "temperature": temperature})


def augment_of(steps: Sequence[StepSpec]) -> Augment | None:
    """The operations in turn; `None` where there are none."""
    return Augment.parse([{"op": s.op, **s.options} for s in steps]) if steps else None


def _mix(spec: MixSpec | None) -> Mix | None:
    if spec is None:
        return None
    kind = {"mixup": Mixup, "cutmix": CutMix}[spec.kind]
    return kind(alpha=spec.alpha, probability=spec.probability)


def looks_of(recipe: Recipe) -> Looks | None:
    """Test-time augmentation of the teacher.

    Raises:
        RecipeError: students learn from mixtures, which are no samples.
    """
    spec = recipe.teacher.tta
    if spec is None:
        return None
    if recipe.distill.mix is not None:
        raise RecipeError(
            "`teacher.tta` looks at samples, and `distill.mix` makes mixtures that are none; "
            "leave one of them out."
        )
    augment = augment_of(spec.augment)
    assert augment is not None, "the recipe asks for one operation at least"
    return Looks(augment=augment, views=spec.views)


def on_policy_of(recipe: Recipe) -> OnPolicy | None:
    """What share the student writes itself.

    Raises:
        RecipeError: the task is not about language models.
    """
    spec = recipe.distill.on_policy
    if spec is None:
        return None
    if recipe.task != "causal_lm":
        raise RecipeError(
            f"`distill.on_policy` is for language models, and the task is {recipe.task}; leave it "
            "out."
        )
    replay = None if spec.replay is None else Replay(**spec.replay.model_dump())
    return OnPolicy(
        fraction=spec.fraction,
        after=spec.after,
        sampling=Sampling(
            max_new_tokens=spec.max_new_tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
        ),
        prompt_tokens=spec.prompt_tokens,
        replay=replay,
        engine=EngineName(spec.engine),
    )


def sequences_of(recipe: Recipe) -> Sequences | None:
    """Whether the teacher writes the texts to be learnt.

    Raises:
        RecipeError: the task is no translation.
    """
    spec = recipe.distill.sequences
    if spec is None:
        return None
    if recipe.task not in ("seq2seq", "asr"):
        raise RecipeError(
            "`distill.sequences` lets the teacher write texts to learn on, which is for `task: "
            f"seq2seq` and `task: asr`; this task is {recipe.task}."
        )
    if spec.max_wer is not None and recipe.task != "asr":
        raise RecipeError("`distill.sequences.max_wer` is for `task: asr`; leave it out.")
    return Sequences(beams=spec.beams, keep=Keep(spec.keep), share=spec.share, max_wer=spec.max_wer)
