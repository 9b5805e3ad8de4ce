"""Students trained for int8 in folders: weights any loader reads, and the ranges beside them."""

from dataclasses import fields
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.errors import ModelError
from potstill.models import load_model, save_model
from potstill.models.config import ModelConfig
from potstill.models.sources import build
from potstill.models.weights import fit_weights, read_weights
from potstill.runtime.files import read_json, write_json, write_with

RANGES, SETTINGS = "ranges.safetensors", "quantised.json"


def save_quantised(student: FakeQuantised, config: ModelConfig, folder: Path) -> Path:
    """Write a student to a folder that `load_quantised` reads, and return it.

    `model.safetensors` and `config.json` hold the trained weights in float32 as `save_model`
    writes them, so that `load_model` gives the float model; `ranges.safetensors` the scales and
    ranges, `quantised.json` how they were made.

    Raises:
        StorageError: the folder cannot be written to.
    """
    plain = build(config, trust=True)
    fit_weights(plain, student.weights(), origin="the student", num_outputs=config.num_outputs)
    save_model(plain, config, folder)
    ranges = {name: value.contiguous().clone() for name, value in student.ranges().items()}
    write_with(folder / RANGES, lambda path: save_file(ranges, path))
    write_json(folder / SETTINGS, {"int8": student.how.to_json(), "layers": list(student.layers)})
    return folder


def load_quantised(
    folder: Path, *, example: Tensor | None = None, trust: bool = False
) -> tuple[FakeQuantised, ModelConfig]:
    """The student that `save_quantised` wrote, in eval mode on the CPU, and its config.

    Args:
        folder: written by `save_quantised`.
        example: `[B, ...]`, samples as the model takes them; drawn at random if left out.
        trust: allow a model that is Python code.

    Raises:
        ModelError: a file is missing or damaged, or does not fit.
    """
    settings = read_json(folder / SETTINGS).get("int8")
    names = {field.name for field in fields(Int8)}
    if not isinstance(settings, dict) or set(settings) != names:
        raise ModelError(
            f"{folder / SETTINGS} does not say how the model was quantised; it needs {names}."
        )
    model, config = load_model(folder, trust=trust)
    if example is None:
        draws = torch.Generator().manual_seed(0)
        example = torch.randn(2, *config.input_shape, generator=draws)
    how = Int8(**cast("dict[str, bool]", settings))  # type: ignore[arg-type]
    student = FakeQuantised(model, example, how=how)
    student.restore(student.weights(), read_weights(folder / RANGES))
    return student.eval(), config
