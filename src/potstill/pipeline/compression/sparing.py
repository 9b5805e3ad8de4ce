"""Layers that 8 bits hurt, and the file in which they stay in float32."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.compress.qat import calibrated
from potstill.compress.sensitivity import Sensitivity, sensitivity
from potstill.compress.weight import Precision
from potstill.errors import ModelError
from potstill.measure.size import file_bytes
from potstill.pipeline.compression.files import write_model
from potstill.pipeline.compression.plan import SLACK
from potstill.pipeline.compression.scoring import Filed, asked, behind, primary_of
from potstill.pipeline.compression.squeezing import Job, Piece

_CALIBRATED = 8  # batches


def sensitivity_of(job: Job, piece: Piece, *, bound: float) -> Sensitivity | None:
    """What each layer of a piece costs in 8 bits, on validation data; `None` if it has no grid.

    Args:
        job: whose.
        piece: in float32.
        bound: by how much the metric may be worse than in float32.
    """
    shop = job.shop
    student = felt(job, piece)
    if student is None:
        return None
    feed = shop.feed(shop.experiment.data.validation)
    return sensitivity(
        student.to(shop.runtime.device), feed, task=shop.experiment.task, bound=bound
    )


def felt(job: Job, piece: Piece) -> FakeQuantised | None:
    """The piece with ranges seen on training rows; `None` where its graph cannot be captured."""
    if job.shop.experiment.data.normalise.tokens:
        return None
    try:
        return ranged(job, piece.module)
    except ModelError:
        return None


def ranged(job: Job, module: nn.Module) -> FakeQuantised:
    """A model that rounds as 8 bits would, its ranges seen on training rows.

    Raises:
        ModelError: its graph cannot be captured.
    """
    e = job.shop.experiment
    feed = e.learning.feed(e.data.lessons, e.data, seed=0, device="cpu")
    how = Int8(skip=job.bench.options.skip)
    return calibrated(module, feed, how=how, count=_CALIBRATED)


def spared(job: Job, found: Filed, path: Path, *, bound: float) -> Filed:
    """The file with its worst layers in float32, if it is better and small enough; or as it was."""
    shop, options = job.shop, job.bench.options
    table = sensitivity_of(job, found.piece, bound=bound)
    if table is None or not table.skip:
        return found
    skip = (*options.skip, *table.skip)
    draft = path.with_name(f"spared-{path.name}")
    write_model(
        shop,
        found.piece.module,
        draft,
        precision=Precision.INT8,
        rows=options.rows,
        skip=skip,
    )
    value = primary_of(shop, asked(shop, draft))
    large = not job.way.keeps_shape and file_bytes(draft) > job.plan.target * SLACK
    if large or behind(shop, value, found.validation) >= 0:
        draft.unlink()
        return found
    draft.replace(path)
    return replace(found, validation=value, trained=False, kept=table.skip)
