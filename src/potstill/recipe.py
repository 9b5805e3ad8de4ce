"""Recipes: the description of a run as values, strictly checked. No code, no torch.

A recipe is YAML or the same thing as typed Python: `Recipe(name=…, data=DataSpec(…), …)`.
Unknown keys are refused with the nearest known name.
"""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from potstill.errors import RecipeError

Options = dict[str, JsonValue]


class _Strict(BaseModel):
    """Frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class _Open(BaseModel):
    """Frozen, with free options that the named thing checks itself."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @property
    def options(self) -> Options:
        """The keys beyond the declared ones."""
        return dict(self.model_extra or {})


class SyntheticSpec(_Strict):
    """Made-up rows of a table that the teacher labels. The fields of `potstill.data.Synthetic`."""

    rows: int = Field(ge=1)
    way: Literal["smear", "munge"] = "munge"
    swap: float = Field(0.5, gt=0, le=1, description="How likely each column is changed.")
    spread: float = Field(1.0, gt=0, description="Of munge: larger stays nearer to the data.")
    seed: int = Field(0, ge=0)


class TransferSpec(_Open):
    """Unlabelled samples that distilled students learn on; further keys are the source's."""

    source: Literal["builtin", "npz", "hf", "python"] | None = Field(
        None, description="As in `data`; the data's own transfer part if left out."
    )
    weight: float = Field(
        1.0, gt=0, description="How much each counts in a loss, against a training sample."
    )
    only: bool = Field(False, description="Distilled students learn on nothing else.")
    limit: int | None = Field(None, ge=2, description="At most this many of them.")


class LongTailSpec(_Strict):
    """An exponential long tail of the training part."""

    ratio: float = Field(ge=1, description="The commonest class against the rarest.")
    of: Literal["everyone", "students"] = Field(
        "everyone", description="students: the teacher learns from all."
    )


class NoiseSpec(_Strict):
    """Wrong labels in the training part, drawn by `data.seed`."""

    share: float = Field(ge=0, lt=1, description="Of the labels of each class.")
    kind: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="To any other class, or always to the next one."
    )
    of: Literal["everyone", "students"] = Field(
        "everyone", description="students: the teacher learns from right labels."
    )


def _ratio(value: object) -> object:
    return {"ratio": value} if isinstance(value, int | float) else value


def _share(value: object) -> object:
    return {"share": value} if isinstance(value, int | float) else value


_DataSource = Literal["audio", "builtin", "coco", "hf", "npz", "pairs", "python", "text", "voc"]


class DataSpec(_Open):
    """Where samples come from; further keys are options of the source (path, columns, …)."""

    source: _DataSource = Field(
        description="audio: sounds. builtin: shipped with scikit-learn. coco, voc: pictures with "
        "boxes. hf: hub, csv, json, parquet, imagefolder. npz: arrays. pairs: texts and what is to "
        "be written for them. python: a function of yours (needs --trust). text: plain text files, "
        "for language models."
    )
    validation: float | int = Field(
        0.1, description="Share (or number) of training samples kept for selection."
    )
    test: float | int | None = Field(
        None, description="Share cut from the data when the source has no test part."
    )
    limit: int | None = Field(
        None,
        ge=2,
        description="Use at most this many rows each of training with validation, test, transfer.",
    )
    seed: int = Field(0, description="Of the splits.")
    synthetic: SyntheticSpec | None = Field(
        None, description="Of tables: rows made up from the training rows, as transfer data."
    )
    transfer: TransferSpec | None = Field(
        None, description="Unlabelled samples that distilled students learn on as well, or alone."
    )
    omit: tuple[int | str, ...] = Field(
        (), description="Classes of which students see no sample; the teacher learns them."
    )
    long_tail: Annotated[LongTailSpec | None, BeforeValidator(_ratio)] = Field(
        None, description="`long_tail: 100` is short for `long_tail: {ratio: 100}`."
    )
    label_noise: Annotated[NoiseSpec | None, BeforeValidator(_share)] = Field(
        None, description="`label_noise: 0.4` is short for `label_noise: {share: 0.4}`."
    )


class ModelSpec(_Open):
    """A model by source and name; further keys are its options."""

    source: Literal[
        "builtin",
        "timm",
        "torchvision",
        "hf",
        "file",
        "onnx",
        "sklearn",
        "python",
        "teacher",
        "api",
    ] = Field(
        "builtin",
        description="teacher: of students of texts, cut from the teacher's model. api: of teachers "
        "of language models, behind an OpenAI-compatible server.",
    )
    name: str = Field("", description="See `potstill recipes --models` for the builtin ones.")


class StepSpec(_Open):
    """One operation of an augmentation; further keys are its options."""

    op: str


class MixSpec(_Strict):
    """Mixing of samples, seen alike by teacher and student."""

    kind: Literal["mixup", "cutmix"] = "mixup"
    alpha: float = Field(1.0, gt=0)
    probability: float = Field(1.0, ge=0, le=1)


class TrainSpec(_Strict):
    """How a model is trained. The same fields and defaults as `potstill.TrainSettings`."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(128, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    max_norm: float | None = Field(None, gt=0, description="Upper bound of each unit's weights.")
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    eps: float = Field(1e-8, gt=0, description="Of Adam: larger damps weights rarely in use.")
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    patience: int | None = Field(None, ge=1)
    select: Literal["best", "last"] = "best"
    validate_every: int = Field(1, ge=1)
    checkpoint_seconds: float = Field(30.0, ge=0)


class LearnSpec(TrainSpec):
    """Training settings and what is done to the inputs meanwhile."""

    augment: tuple[StepSpec, ...] = ()
    mix: MixSpec | None = None


class TermSpec(_Open):
    """One term of the objective; further keys are its options (temperature, layers, …)."""

    term: str
    weight: float | dict[str, float | str] = Field(
        1.0,
        description="A number, or one that moves: {from: 1, to: 0, shape: linear or cosine, begin: "
        "0, until: 1}, shares of the run. So may other numbers among its options.",
    )


class ReplaySpec(_Strict):
    """What a student wrote is learnt from again. The fields of `potstill.train.Replay`."""

    capacity: int = Field(1000, ge=1, description="Samples kept.")
    rise: float = Field(0.1, ge=0, le=1, description="Of the fraction, when validation gets worse.")
    tolerance: float = Field(0.1, ge=0, description="In nats a token, until it counts as worse.")


class OnPolicySpec(_Strict):
    """A share of every batch that the student writes itself. See `potstill.train.OnPolicy`."""

    fraction: float = Field(0.5, ge=0, le=1, description="Of the samples of every batch.")
    after: float = Field(0.0, ge=0, le=1, description="Share of all steps before it begins.")
    max_new_tokens: int = Field(128, ge=1)
    temperature: float = Field(1.0, ge=0, description="0 takes the most probable token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    prompt_tokens: int | None = Field(
        None, ge=1, description="Of plain texts, how many first tokens are the prompt; 1 if empty."
    )
    replay: ReplaySpec | None = None
    engine: Literal["transformers", "vllm"] = "transformers"


class SequencesSpec(_Strict):
    """Sequence-level distillation: students learn on texts that the teacher wrote."""

    beams: int = Field(4, ge=1, description="Of the teacher's search.")
    keep: Literal["likeliest", "nearest"] = Field(
        "likeliest", description="nearest: of all beams the one nearest to the data's text."
    )
    share: float = Field(1.0, gt=0, le=1, description="Of the training texts.")
    max_wer: float | None = Field(
        None,
        ge=0,
        description="Of asr: leave out samples whose text by the teacher has a higher word error "
        "rate.",
    )


class CurriculumSpec(_Strict):
    """Easy samples first, by the teacher's confidence. The fields of `potstill.data.Curriculum`."""

    how: Literal["pick", "weigh"] = Field(
        "pick", description="Leave out what is too hard yet, or let it count less."
    )
    start: float = Field(0.3, gt=0, le=1, description="Share of the samples in the first epoch.")
    until: float = Field(0.5, gt=0, le=1, description="Share of the epochs until all are in.")
    floor: float = Field(0.1, ge=0, le=1, description="Of weigh: what a hard sample counts.")


class DataFreeSpec(_Strict):
    """Images made from the teacher alone. The fields of `potstill.synthesis.DataFree`."""

    method: Literal["generator", "inversion"] = Field(
        "generator", description="A network that makes images is trained, or their pixels are."
    )
    images: int = Field(20_000, ge=1, description="How many are made.")
    chunks: int = Field(4, ge=1, description="In how many parts; a stopped run goes on after one.")
    steps: int = Field(300, ge=1, description="For each generator, or each batch of pixels.")
    batch_size: int = Field(128, ge=1)
    lr: float = Field(4e-3, gt=0, description="Of Adam; 0.1 suits pixels.")
    statistics: float = Field(1.0, ge=0, description="Weight of the batch norms' statistics.")
    smooth: float = Field(0.01, ge=0, description="Weight of total variation, of pixels.")
    seed: int = 0


class DistillSpec(LearnSpec):
    """How the student learns. Scratch learns alike, on labels alone."""

    on_policy: OnPolicySpec | None = Field(None, description="Of language models.")
    reduction: Literal["token", "sequence"] = Field(
        "token",
        description="Of language models: losses are means over all tokens, or every text counts "
        "alike. For all that the run trains.",
    )

    objective: tuple[TermSpec, ...] = (
        TermSpec(term="kd", weight=0.9, temperature=4.0),
        TermSpec(term="cross_entropy", weight=0.1),
    )
    sequences: SequencesSpec | None = Field(
        None, description="Of seq2seq: learn on what the teacher writes."
    )
    curriculum: CurriculumSpec | None = Field(
        None, description="Of the distilled students: easy samples first."
    )
    data_free: DataFreeSpec | None = Field(
        None, description="Learn on images made from the teacher, and on no others."
    )
    correct_bias: Literal["propose", "auto", "off"] = Field(
        "propose",
        description="Where students see classes less often than the teacher knows them: propose a "
        "correction of their output biases; auto: and ship it.",
    )


class MemberSpec(_Strict):
    """A teacher: a model, trained in the run if `train` is given."""

    model: ModelSpec
    train: LearnSpec | None = None
    label_map: tuple[int, ...] | None = Field(
        None, description="For each of the student's classes the teacher's number."
    )
    classes: tuple[int, ...] | None = Field(
        None,
        description="In an ensemble: the student's classes that this one knows, in its order; it "
        "is trained on their samples alone.",
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id, of a language model with other tokens than the student.",
    )
    markers: dict[str, str] = Field(
        default_factory=dict,
        description="Special tokens of the student, and the teacher's in their place.",
    )


class RouteSpec(_Strict):
    """Which teacher of an ensemble each sample names: by a column of tables, or by a file."""

    feature: str | int | None = Field(
        None, description="Of tables: a column, by name or by number from 0."
    )
    values: tuple[float, ...] = Field(
        (), description="The feature's value for each teacher, in order."
    )
    path: str | None = Field(
        None,
        description="A `.npy` file: for each row of the data (train, validation, test, transfer, "
        "in that order) the number of its teacher, from 0.",
    )


class LookSpec(_Strict):
    """Test-time augmentation: the mean of the teacher's answers over an input and views of it."""

    views: int = Field(8, ge=1, description="Beside the input itself.")
    augment: tuple[StepSpec, ...] = Field(min_length=1, description="What makes a view.")


class AverageSpec(_Strict):
    """The student's own moving average as teacher. See `potstill.train.MeanTeacher`."""

    decay: float = Field(0.99, gt=0, lt=1)
    ramp: float = Field(
        0.25, ge=0, le=1, description="Share of all steps in which its terms reach their weight."
    )


class PeerSpec(_Strict):
    """A student that learns beside the student, from it and for it."""

    model: ModelSpec


class TaughtSpec(LearnSpec):
    """How an assistant learns."""

    objective: tuple[TermSpec, ...] | None = Field(None, description="The student's, if left out.")


class AssistantSpec(_Strict):
    """A model between teacher and student."""

    model: ModelSpec
    distill: TaughtSpec | None = Field(None, description="As the student, if left out.")


class ChainSpec(_Strict):
    """Models between teacher and student, each taught by the one before."""

    assistants: tuple[AssistantSpec, ...] = Field((), description="In order.")
    generations: int | None = Field(
        None,
        ge=1,
        description="Instead: so many students in turn, each the teacher of the next; the last "
        "ones are the distilled students.",
    )
    direct: bool = Field(False, description="Train students of the teacher itself, to compare.")
    together: bool = Field(
        False, description="Measure the mean of all links and the student as well."
    )


class TeacherSpec(_Strict):
    """One model, an ensemble of several, the student's own average, or peers of it."""

    model: ModelSpec | None = None
    train: LearnSpec | None = None
    label_map: tuple[int, ...] | None = None
    tokenizer: str | None = Field(
        None,
        description="Folder or hub id, of a language model with other tokens than the student.",
    )
    markers: dict[str, str] = Field(
        default_factory=dict,
        description="Special tokens of the student, and the teacher's in their place.",
    )
    ensemble: tuple[MemberSpec, ...] = ()
    route: RouteSpec | None = Field(
        None, description="Of an ensemble: each sample is answered by the teacher that it names."
    )
    average: AverageSpec | None = Field(
        None, description="Instead of a model: the moving average of the student."
    )
    peers: tuple[PeerSpec, ...] = Field(
        (), description="Instead of a model: students that learn beside it (mutual learning)."
    )
    combine: Literal["probabilities", "logits"] = "probabilities"
    weights: tuple[float, ...] | None = None
    confidence: bool = False
    width: int | None = Field(
        None,
        ge=1,
        description="Of embeddings: their main directions alone, so many (PCA of training texts).",
    )
    tta: LookSpec | None = Field(None, description="Test-time augmentation of the whole teacher.")
    calibrate: bool = Field(
        False, description="Divide its logits by the temperature that suits the validation data."
    )

    def members(self) -> tuple[MemberSpec, ...]:
        """The teachers, one or several."""
        if self.model is None:
            return self.ensemble
        own = MemberSpec(
            model=self.model,
            train=self.train,
            label_map=self.label_map,
            tokenizer=self.tokenizer,
            markers=self.markers,
        )
        return (own,)


class StudentSpec(_Strict):
    """The small model."""

    model: ModelSpec
    head: Literal["own", "teacher"] = Field(
        "own",
        description="teacher: ship a projector and the teacher's classifier in place of its own, "
        "for the term simkd; results name the parameters that this adds.",
    )


class HarnessSpec(_Strict):
    """Tasks of the lm-evaluation-harness. A list of tasks is short for `{tasks: [...]}`."""

    tasks: tuple[str, ...] = Field(min_length=1)
    include: str | None = Field(None, description="Folder with definitions of tasks of your own.")
    limit: int | None = Field(None, ge=1, description="Questions of each task at most.")
    shots: int | None = Field(None, ge=0, description="Examples before each question.")
    batch_size: int = Field(16, ge=1)


def _harness_tasks(value: object) -> object:
    return {"tasks": value} if isinstance(value, list | tuple) else value


_Harness = Annotated[
    HarnessSpec | None,
    BeforeValidator(_harness_tasks, json_schema_input_type=list[str] | HarnessSpec | None),
]


class MeasureSpec(_Strict):
    """How the models are measured."""

    threads: int = Field(1, ge=1, description="Of ONNX Runtime.")
    seconds: float = Field(2.0, gt=0, description="Time spent on latency, for all models together.")
    energy: bool = Field(True, description="Estimate energy with codecarbon when it is installed.")
    country: str | None = Field(None, description="ISO code, for the carbon intensity of power.")
    prompts: int = Field(100, ge=0, description="Test prompts that language models answer.")
    hop_ms: float = Field(
        20.0, gt=0, description="Of models that hear: milliseconds of sound in a chunk of a stream."
    )
    lm_eval: _Harness = Field(
        None, description="Tasks of the lm-evaluation-harness, for language models."
    )
    pairs: Options | None = Field(
        None, description="Of embeddings: `path`, `columns` and `gold` of pairs with a similarity."
    )


class CodecSpec(_Open):
    """How rows of a signal are written; further keys are options of the codec (k, bits, …)."""

    codec: str


def _codec_name(value: object) -> object:
    return {"codec": value} if isinstance(value, str) else value


_Codec = Annotated[
    CodecSpec | None, BeforeValidator(_codec_name, json_schema_input_type=str | CodecSpec | None)
]


class StoreSpec(_Strict):
    """Whether the teacher's answers are written once and read by every student."""

    use: Literal["auto", "on", "off"] = Field(
        "auto", description="auto: when it pays. `store: off` is short for `store: {use: off}`."
    )
    path: str | None = Field(
        None, description="A folder or an fsspec address; `store` in the run folder if left out."
    )
    views: int | None = Field(
        None, ge=1, description="With augmentation: how many views of each sample are stored."
    )
    codec: _Codec = Field(None, description="Of logits; exact float32 if left out.")
    features: _Codec = Field(None, description="The codec of features; exact float32 if left out.")


def _store_word(value: object) -> object:
    if isinstance(value, bool):  # YAML 1.1 reads `off` as false
        return {"use": "on" if value else "off"}
    if isinstance(value, str):
        return {"use": value}
    if isinstance(value, Mapping) and {"path", "codec"} & set(value):
        return {"use": "on", **value}
    return value


_Store = Annotated[
    StoreSpec,
    BeforeValidator(
        _store_word, json_schema_input_type=Literal["auto", "on", "off"] | bool | StoreSpec
    ),
]


def _seed_list(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return tuple(range(value)) if value > 0 else value
    return value


class BoundsSpec(_Strict):
    """How far `speed: auto` may be from exact. The fields of `potstill.runtime.fast.Bounds`."""

    agreement: float = Field(0.98, ge=0, le=1, description="Of the teacher's highest classes.")
    kl: float = Field(0.01, ge=0, description="Of the teacher's answers, mean, in nats.")
    error: float = Field(0.05, ge=0, description="Relative, of values, raw logits and features.")
    gradient: float = Field(0.99, ge=0, le=1, description="Cosine of the student's gradients.")
    loss: float = Field(0.01, ge=0, description="Relative difference of the student's loss.")


class Recipe(_Strict):
    """The description of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    task: Literal[
        "classification",
        "keyword",
        "multi_label",
        "regression",
        "tagging",
        "embedding",
        "asr",
        "seq2seq",
        "causal_lm",
        "detection",
    ] = "classification"
    primary: str | None = Field(
        None,
        description="The metric that selects and decides, such as balanced_accuracy for classes of "
        "unequal size; accuracy, f1_macro or rmse by the task if left out.",
    )
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        "none",
        description="How much labels of rare classes count in cross entropy, with and without the "
        "teacher: balanced by 1 / frequency, sqrt by its root.",
    )
    data: DataSpec
    teacher: TeacherSpec
    student: StudentSpec
    distill: DistillSpec = DistillSpec()
    chain: ChainSpec | None = Field(None, description="Models between teacher and student.")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seed_list)] = Field(
        (0, 1, 2), min_length=1, description="A number of seeds, or a list of them."
    )
    export: tuple[Literal["auto", "onnx", "hf"], ...] = Field(
        ("auto",), description="auto: hf (`save_pretrained`) of language models, else onnx."
    )
    measure: MeasureSpec = MeasureSpec()
    speed: Literal["auto", "exact"] = Field(
        "auto",
        description="auto: the fastest way of computing whose answers stay within `bounds`. "
        "exact: bit for bit the plain PyTorch loop.",
    )
    bounds: BoundsSpec = BoundsSpec()
    store: _Store = StoreSpec()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    track: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()

    def to_yaml(self) -> str:
        """The recipe with every default filled in."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse(content: object, *, origin: str = "the recipe") -> Recipe:
    """A checked recipe from plain values.

    Raises:
        RecipeError: naming each wrong key or value, with the nearest known name.
    """
    if not isinstance(content, Mapping):
        raise RecipeError(
            f"{origin} holds {type(content).__name__}, a mapping of keys was expected. "
            "`potstill init` writes one to start from."
        )
    try:
        recipe = Recipe.model_validate(dict(content))
    except ValidationError as error:
        lines = [_sentence(problem) for problem in error.errors()]
        head = f"{origin} is wrong in {len(lines)} place{'s' if len(lines) > 1 else ''}:"
        raise RecipeError("\n".join([head, *(f"  - {line}" for line in lines)])) from None
    _check(recipe, origin)
    return recipe


def _check(recipe: Recipe, origin: str) -> None:
    teacher = recipe.teacher
    ways = ("model", "ensemble", "average", "peers")
    given = [way for way in ways if getattr(teacher, way)]
    if len(given) != 1:
        raise RecipeError(
            f"{origin}: `teacher` needs either `model` or `ensemble` (a list of models), or one of "
            f"`average` and `peers`; {' and '.join(given) or 'none of them'} was given."
        )
    chain = recipe.chain
    if chain is not None and bool(chain.assistants) == (chain.generations is not None):
        raise RecipeError(
            f"{origin}: `chain` needs either `assistants` (a list of models) or `generations` (a "
            f"number); {'both were' if chain.assistants else 'neither was'} given."
        )
    if chain is not None and given[0] in ("average", "peers"):
        raise RecipeError(
            f"{origin}: `chain` begins with a trained teacher, and `teacher.{given[0]}` grows with "
            "the student; leave one of them out."
        )
    if len(set(recipe.seeds)) != len(recipe.seeds):
        raise RecipeError(f"{origin}: `seeds` {list(recipe.seeds)} has a seed twice.")


def _sentence(problem: Mapping[str, object]) -> str:
    where = [p for p in _tuple(problem["loc"]) if isinstance(p, str | int)]
    path = ".".join(str(p) for p in where)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(where[:-1])
        close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}."
        return f"`{path}` is not a key; {hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = "" if problem["type"] == "missing" else f" (given: {problem.get('input')!r})"
    return f"`{path}`: {message[:1].lower()}{message[1:]}{given}."


def _tuple(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, tuple) else ()


def _fields_at(path: Sequence[str | int]) -> list[str]:
    """The keys that the recipe knows at a path."""
    model: object = Recipe
    for step in path:
        if isinstance(step, int) or not isinstance(model, type) or not issubclass(model, BaseModel):
            continue
        field = model.model_fields.get(step)
        model = _model_in(field.annotation) if field is not None else model
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    return []


def _model_in(annotation: object) -> object:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


# Reading


def shipped() -> dict[str, str]:
    """The recipes that ship with Potstill: name → YAML text."""
    folder = resources.files("potstill.recipes")
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
    }


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by the name of a shipped one or by path, with `key.path=value` overrides."""
    known = shipped()
    path = Path(name_or_path)
    if name_or_path in known:
        text, origin = known[name_or_path], f"the recipe {name_or_path!r}"
    elif path.is_file():
        text, origin = _read(path), str(path)
    else:
        close = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise RecipeError(
            f"There is no recipe or file called {name_or_path!r}. {hint}"
            f"Shipped recipes: {', '.join(known)}. `potstill init` writes one of your own."
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(content, dict):
        for override in overrides:
            _override(content, override)
    return parse(content, origin=origin)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as a recipe: {error}") from error


def _override(content: dict[str, object], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(
            f"The override {text!r} has no `=`; write for example `distill.epochs=5`."
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of the override {text!r} is not valid YAML.") from error
    if isinstance(parsed, str):
        parsed = _number(parsed)
    *parents, last = key.split(".")
    place: object = content
    for parent in parents:
        place = _child(place, parent, text)
    _put(place, last, parsed, text)


def _number(text: str) -> str | float:
    """`1e-3` is a number to people, if not to YAML 1.1."""
    try:
        return float(text)
    except ValueError:
        return text


def _child(place: object, step: str, text: str) -> object:
    if isinstance(place, dict):
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    if isinstance(place, list) and step.isdigit() and int(step) < len(place):
        return place[int(step)]
    raise RecipeError(f"The override {text!r} names {step!r}, and there is no such place.")


def _put(place: object, last: str, value: object, text: str) -> None:
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise RecipeError(f"The override {text!r} names {last!r}, and there is no such place.")


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of recipes, for editors."""
    return Recipe.model_json_schema()
