"""The stage `images`: what students learn on who have no data, made from the teacher."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from potstill.data.samples import Samples
from potstill.errors import RecipeError
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_with
from potstill.runtime.progress import showing
from potstill.synthesis import DataFree, make_images
from potstill.teachers.fingerprints import digest

FOLDER = "images"
"""In the run folder: one file of pixels a chunk, named by what it was made from."""


def with_images(shop: Workshop, ready: Ready) -> Experiment:
    """The experiment whose students learn on images made from the teacher, if it asks for that.

    Raises:
        RecipeError: the teacher is no single module, or the samples are no images.
    """
    experiment = shop.experiment
    wanted = experiment.data_free
    if wanted is None:
        return experiment
    if len(ready.modules) != 1:
        raise RecipeError(
            f"`distill.data_free` needs a teacher of one module with gradients, and {ready.name} "
            "is none; give one network."
        )
    key = shop.key("images", ready.teacher.fingerprint(), wanted)
    folder = shop.folder / FOLDER
    files = [folder / f"{digest(key)[:12]}-{chunk}.npz" for chunk in range(wanted.chunks)]
    shop.run(
        "images",
        depends_on=key,
        files=files,
        work=lambda: _make_all(shop, ready, wanted, files),
    )
    images = torch.cat([_read(file) for file in files])
    samples = Samples(images, _ids(shop, len(images)))
    return replace(experiment, data=replace(experiment.data, taught=samples, transfer=None))


def _make_all(
    shop: Workshop, ready: Ready, wanted: DataFree, files: list[Path]
) -> Mapping[str, object]:
    """Make what is not there yet; a chunk that an interrupted run has written is taken as it is."""
    data, module = shop.experiment.data, ready.modules[0].to(shop.runtime.device)
    normalise = data.normalise.to(shop.runtime.device)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for old in files[0].parent.glob("*.npz"):
        if old not in files:
            old.unlink()
    made = 0
    with showing(shop.progress, "images", wanted.chunks) as advance:
        for chunk, file in enumerate(files):
            if not file.exists():
                images = make_images(
                    module,
                    wanted,
                    chunk=chunk,
                    shape=data.input_shape,
                    classes=data.num_outputs,
                    standard=normalise.standard,
                )
                _write(file, images)
                made += 1
            advance(chunk + 1)
    return {"images": wanted.images, "made_now": made}


def _write(path: Path, images: torch.Tensor) -> None:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, images=images.numpy())

    write_with(path, save)


def _read(path: Path) -> torch.Tensor:
    with np.load(path, allow_pickle=False) as kept:
        return torch.from_numpy(kept["images"])


def _ids(shop: Workshop, count: int) -> torch.Tensor:
    data = shop.experiment.data
    parts = (data.train, data.validation, data.test, data.transfer)
    first = 1 + max(int(part.ids.max()) for part in parts if part is not None)
    return first + torch.arange(count)
