"""How the models of a finished run are squeezed (`potstill compress`)."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from potstill.recipe.forms import Strict

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20}
WayName = Literal[
    "distil",
    "prune",
    "quantise",
    "prune+quantise",
    "distil+prune",
    "distil+quantise",
    "distil+prune+quantise",
    "distil+sparse",
    "distil+2:4",
]


def bytes_in(value: object) -> object:
    """`250kB`, `1.5 MB`, `1MiB` as bytes; what is no text stays as it is.

    Raises:
        ValueError: a text that is no size.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2].upper() not in _UNITS:
        raise ValueError(f"{value!r} is no size; write for example 250kB, 1.5MB or 100000")
    return round(float(found[1]) * _UNITS[found[2].upper()])


def _list(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


class CompressSpec(Strict):
    """How the models of a finished run are squeezed to one size."""

    to: Annotated[
        int | None, BeforeValidator(bytes_in, json_schema_input_type=int | str | None)
    ] = Field(None, gt=0, description="Bytes of the file, such as 250kB or 1MB.")
    ratio: float | None = Field(
        None, gt=1, description="The same, as how many times smaller than the teacher's file."
    )
    ways: Annotated[
        tuple[WayName, ...],
        BeforeValidator(_list, json_schema_input_type=tuple[WayName, ...] | str),
    ] = Field(
        (
            "distil",
            "prune",
            "quantise",
            "distil+prune",
            "distil+quantise",
            "distil+prune+quantise",
        ),
        min_length=1,
        description="Which are compared, each with and without the teacher.",
    )
    epochs: int | None = Field(
        None, ge=1, description="Of training in each way; those of `distill` if left out."
    )
    steps: int = Field(3, ge=1, description="In how many steps channels go, training after each.")
    importance: Literal["magnitude", "taylor", "activation"] = Field(
        "magnitude", description="By what channels are compared; the least go first."
    )
    round_to: int = Field(8, ge=1, description="Channels that stay come in multiples of this.")
    quantised: Literal["auto", "after", "training"] = Field(
        "auto",
        description="after training, with ranges seen on training rows; in training that feels the "
        "rounding; auto trains where rounding costs over 0.2 % of the metric.",
    )
    rows: int = Field(256, ge=1, description="Training samples on which ranges are seen.")
    skip: tuple[str, ...] = Field((), description="Layers that stay in float32, and without zeros.")
    sparsity: float = Field(
        0.8, gt=0, lt=1, description="Of distil+sparse: share of zeros in each layer."
    )
    group: int = Field(
        32, ge=2, description="Of language models in 4 bits: inputs that share a scale."
    )
