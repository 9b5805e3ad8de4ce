"""What it takes to build a model again: a plain record that goes into a JSON file and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Self, TypeAlias

from potstill.errors import ModelError

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

_FORMAT = 1

TAGGING = "tagging"
PURPOSES = frozenset({"causal_lm", "seq2seq", TAGGING})
"""Of models of texts that are no predictors of one row a sample; named as the task is.

Detectors (`models.detection`) have a purpose of their own.
"""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model by name: where it comes from, its options, and what goes in and out.

    Args:
        source: `builtin`, `timm`, `torchvision`, `hf`, `file` or `python`.
        name: of the model in that source; a path for `file`.
        options: the source's own; values that JSON can hold.
        input_shape: of one sample, without the batch: `(3, 32, 32)`, `(1, 180)`, `(30,)`.
        num_outputs: classes, regression values, or tokens of a vocabulary.
        purpose: what of several models by one name is meant: `causal_lm`, …; a predictor if empty.

    Raises:
        ModelError: if a size is not positive, or an option cannot be written as JSON.
    """

    source: str
    name: str
    options: Mapping[str, Json] = field(default_factory=dict)
    input_shape: tuple[int, ...]
    num_outputs: int
    purpose: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.input_shape)
        if not shape or not all(type(size) is int and size > 0 for size in shape):
            raise ModelError(
                f"The input shape {shape} is not usable; give whole numbers of at least 1, "
                "without the batch, such as (3, 32, 32)."
            )
        if type(self.num_outputs) is not int or self.num_outputs < 1:
            raise ModelError(
                f"A model cannot have {self.num_outputs!r} outputs; give the number of classes "
                "(or of regression values), at least 1."
            )
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "options", _plain(self.options, model=self.name))

    @property
    def description(self) -> str:
        """One line for people: `mlp (hidden=[800, 800]), 784 inputs, 10 outputs`."""
        options = ", ".join(f"{key}={_short(value)}" for key, value in self.options.items())
        size = "x".join(map(str, self.input_shape)) if len(self.input_shape) > 1 else ""
        origin = "" if self.source == "builtin" else f"{self.source} "
        return (
            f"{origin}{self.name}{f' ({options})' if options else ''}, "
            f"{size or prod(self.input_shape)} inputs, {self.num_outputs} outputs"
        )

    def to_json(self) -> dict[str, Json]:
        """A dictionary that `json.dump` takes and `from_json` reads."""
        return {
            "format": _FORMAT,
            "source": self.source,
            "name": self.name,
            "options": dict(self.options),
            "input_shape": list(self.input_shape),
            "num_outputs": self.num_outputs,
            **({"purpose": self.purpose} if self.purpose else {}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> Self:
        """The config that `to_json` described.

        Raises:
            ModelError: if the record was not written by `to_json`, or by a later version.
        """
        if record.get("format") != _FORMAT:
            raise ModelError(
                f"This model's config has format {record.get('format')!r} and this version of "
                f"Potstill reads format {_FORMAT}: write it again, or install a matching version."
            )
        match record:
            case {
                "source": str(source),
                "name": str(name),
                "options": Mapping() as options,
                "input_shape": list(shape),
                "num_outputs": int(num_outputs),
            } if all(isinstance(size, int) for size in shape):
                return cls(
                    source=source,
                    name=name,
                    options=options,
                    input_shape=tuple(shape),
                    num_outputs=num_outputs,
                    purpose=str(record.get("purpose", "")),
                )
        raise ModelError(
            f"This model's config has the keys {sorted(record)} and needs `source`, `name`, "
            "`options`, `input_shape` and `num_outputs`, each of its type: save the model again."
        )


def _plain(options: Mapping[str, Json], *, model: str) -> dict[str, Json]:
    """A copy as JSON would give it back: tuples are lists."""
    try:
        plain: dict[str, Json] = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The options of `{model}` cannot be written as JSON ({error}): use numbers, texts, "
            "true or false, lists and mappings."
        ) from error
    return plain


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
