"""How a run measures, stores and hastens."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from potstill.recipe.forms import Open, Options, Strict


class HarnessSpec(Strict):
    """Tasks of the lm-evaluation-harness. A list of tasks is short for `{tasks: [...]}`."""

    tasks: tuple[str, ...] = Field(min_length=1, description="Their names in the harness.")
    include: str | None = Field(None, description="Folder with definitions of tasks of your own.")
    limit: int | None = Field(None, ge=1, description="Questions of each task at most.")
    shots: int | None = Field(None, ge=0, description="Examples before each question.")
    batch_size: int = Field(16, ge=1, description="Questions asked at a time.")


def _harness_tasks(value: object) -> object:
    return {"tasks": value} if isinstance(value, list | tuple) else value


_Harness = Annotated[
    HarnessSpec | None,
    BeforeValidator(_harness_tasks, json_schema_input_type=list[str] | HarnessSpec | None),
]


class YearSpec(Strict):
    """What the report assumes about a year of predictions."""

    predictions_per_day: float = Field(1_000_000, gt=0, description="How many are asked for.")
    price_per_kwh: float = Field(0.30, ge=0, description="Of electricity, in `currency`.")
    currency: str = Field("EUR", description="A word beside the price.")
    carbon_g_per_kwh: float = Field(475.0, ge=0, description="World average, IEA 2019.")
    watts: float = Field(
        10.0, gt=0, description="Drawn while a model answers, where no energy was measured."
    )


class MeasureSpec(Strict):
    """How the models are measured."""

    threads: int = Field(1, ge=1, description="Of ONNX Runtime.")
    seconds: float = Field(2.0, gt=0, description="Time spent on latency, for all models together.")
    energy: bool = Field(True, description="Estimate energy with codecarbon when it is installed.")
    country: str | None = Field(None, description="ISO code, for the carbon intensity of power.")
    prompts: int = Field(100, ge=0, description="Test prompts that language models answer.")
    hop_ms: float = Field(
        20.0, gt=0, description="Of models that hear: milliseconds of sound in a chunk of a stream."
    )
    year: YearSpec = Field(
        YearSpec(), description="What the report assumes to say what a year of predictions costs."
    )
    lm_eval: _Harness = Field(
        None, description="Tasks of the lm-evaluation-harness, for language models."
    )
    pairs: Options | None = Field(
        None, description="Of embeddings: `path`, `columns` and `gold` of pairs with a similarity."
    )


class CodecSpec(Open):
    """How rows of a signal are written; further keys are options of the codec (k, bits, …)."""

    codec: str = Field(description="Its name.")


def _codec_name(value: object) -> object:
    return {"codec": value} if isinstance(value, str) else value


_Codec = Annotated[
    CodecSpec | None, BeforeValidator(_codec_name, json_schema_input_type=str | CodecSpec | None)
]


class StoreSpec(Strict):
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


class BoundsSpec(Strict):
    """How far `speed: auto` may be from exact. The fields of `potstill.runtime.fast.Bounds`."""

    agreement: float = Field(0.98, ge=0, le=1, description="Of the teacher's highest classes.")
    kl: float = Field(0.01, ge=0, description="Of the teacher's answers, mean, in nats.")
    error: float = Field(0.05, ge=0, description="Relative, of values, raw logits and features.")
    gradient: float = Field(0.99, ge=0, le=1, description="Cosine of the student's gradients.")
    loss: float = Field(0.01, ge=0, description="Relative difference of the student's loss.")


ExportName = Literal[
    "auto", "onnx", "onnx-fp16", "onnx-int8", "executorch", "torch", "safetensors", "hf"
]


class ParitySpec(Strict):
    """How far an exported file may be from the student, at one precision."""

    difference: float = Field(
        gt=0, description="Of two logits, relative to the largest logit, at most."
    )
    agreement: float = Field(ge=0, le=1, description="Share of equal decisions, at least.")


class ParitySpecs(Strict):
    """Bounds by precision; a file that breaks its bound is removed and not shipped."""

    float32: ParitySpec = Field(
        ParitySpec(difference=1e-4, agreement=0.999),
        description="difference 1e-4, agreement 0.999.",
    )
    float16: ParitySpec = Field(
        ParitySpec(difference=0.02, agreement=0.99),
        description="difference 0.02, agreement 0.99.",
    )
    int8: ParitySpec = Field(
        ParitySpec(difference=0.5, agreement=0.95),
        description="difference 0.5, agreement 0.95.",
    )
