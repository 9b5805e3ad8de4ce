"""The forms a student is shipped in: their names, file names, precisions and bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import final


@final
class Format(StrEnum):
    """What a recipe's `export` and `--format` may say beside `hf`."""

    ONNX = "onnx"  # float32
    ONNX_FP16 = "onnx-fp16"  # float16 inside, float32 in and out
    ONNX_INT8 = "onnx-int8"  # QDQ, static ranges
    EXECUTORCH = "executorch"  # .pte, delegated to XNNPACK
    TORCH = "torch"  # .pt2, a torch.export program
    SAFETENSORS = "safetensors"  # weights, and the config that builds the model in its header


PRECISIONS = {Format.ONNX_FP16: "float16", Format.ONNX_INT8: "int8"}
"""Of the formats that are not float32."""

_ENDINGS = {
    Format.ONNX: ".onnx",
    Format.ONNX_FP16: "-fp16.onnx",
    Format.ONNX_INT8: "-int8.onnx",
    Format.EXECUTORCH: ".pte",
    Format.TORCH: ".pt2",
    Format.SAFETENSORS: ".safetensors",
}


@final
@dataclass(frozen=True, kw_only=True)
class Bound:
    """How far a file's answers may be from the student's.

    Args:
        difference: the largest difference of two logits, relative to the largest logit.
        agreement: the smallest share of equal decisions; figures without decisions have none.
    """

    difference: float
    agreement: float


BOUNDS: Mapping[str, Bound] = {
    "float32": Bound(difference=1e-4, agreement=0.999),
    "float16": Bound(difference=0.02, agreement=0.99),
    "int8": Bound(difference=0.5, agreement=0.95),
}
"""By precision, where nothing else is asked for."""


def precision_of(form: Format) -> str:
    """`float32`, `float16` or `int8`."""
    return PRECISIONS.get(form, "float32")


def file_of(form: Format, role: str) -> str:
    """The name of a role's file: `distilled-int8.onnx`."""
    return f"{role}{_ENDINGS[form]}"
