"""Where samples come from, and what is done to them for an experiment."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from potstill.recipe.forms import Open, Strict


class SyntheticSpec(Strict):
    """Made-up rows of a table that the teacher labels. The fields of `potstill.data.Synthetic`."""

    rows: int = Field(ge=1, description="How many are made.")
    way: Literal["smear", "munge"] = Field(
        "munge",
        description="Changed columns come from any row (smear), or from the nearest one (munge).",
    )
    swap: float = Field(0.5, gt=0, le=1, description="How likely each column is changed.")
    spread: float = Field(1.0, gt=0, description="Of munge: larger stays nearer to the data.")
    seed: int = Field(0, ge=0, description="Of the draws.")


class TransferSpec(Open):
    """Unlabelled samples that distilled students learn on; further keys are the source's."""

    source: Literal["builtin", "npz", "hf", "python"] | None = Field(
        None, description="As in `data`; the data's own transfer part if left out."
    )
    weight: float = Field(
        1.0, gt=0, description="How much each counts in a loss, against a training sample."
    )
    only: bool = Field(False, description="Distilled students learn on nothing else.")
    limit: int | None = Field(None, ge=2, description="At most this many of them.")


class LongTailSpec(Strict):
    """An exponential long tail of the training part."""

    ratio: float = Field(ge=1, description="The commonest class against the rarest.")
    of: Literal["everyone", "students"] = Field(
        "everyone", description="students: the teacher learns from all."
    )


class NoiseSpec(Strict):
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


class DataSpec(Open):
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
