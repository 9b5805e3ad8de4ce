"""`potstill init`: a commented recipe to start from."""

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.screen import say
from potstill.errors import StorageError

TEMPLATE = """\
# A Potstill recipe. `potstill plan {file}` checks it without training,
# `potstill run {file}` runs it, `potstill schema` describes every key.
name: {name}
task: classification            # or multi_label, regression

data:
  # builtin: digits, breast_cancer, wine, diabetes (inside scikit-learn)
  # npz: path with x_train, y_train and perhaps x_test, y_test, x_transfer
  # hf: a hub id, or a local folder, csv, json, parquet (`pip install 'potstill[data]'`)
  source: builtin
  name: digits
  validation: 0.15              # share of the training samples kept for selection

teacher:
  model: {{source: builtin, name: cnn}}   # builtin, timm, torchvision, hf, file, onnx, sklearn
  train:                        # leave out for a teacher that is trained already
    epochs: 30
    batch_size: 64
    lr: 3.0e-3
    augment: [{{op: jitter, pixels: 1}}]

student:
  model: {{source: builtin, name: mlp, hidden: [32]}}

distill:
  objective:                    # `potstill recipes --terms` lists the terms
    - {{term: kd, temperature: 4, weight: 0.9}}
    - {{term: cross_entropy, weight: 0.1}}
  epochs: 60
  batch_size: 64
  lr: 5.0e-3

seeds: 3                        # each trains the student with and without the teacher
export: [onnx]
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    if path.exists() and not force:
        raise StorageError(f"{path} is there already. Give another name, or --force to replace it.")
    try:
        path.write_text(TEMPLATE.format(name=path.stem, file=path), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}.") from error
    say(f"Wrote {path}. Check it with `potstill plan {path}`, run it with `potstill run {path}`.")
