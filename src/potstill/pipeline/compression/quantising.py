"""The file of a piece: in float32, in 8 bits after training, or trained once more for 8 bits."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.compress.quantised_files import save_quantised
from potstill.compress.weight import Precision
from potstill.errors import ModelError
from potstill.pipeline.compression.files import write_model
from potstill.pipeline.compression.options import Quantised
from potstill.pipeline.compression.plan import precision_of
from potstill.pipeline.compression.scoring import Filed, asked, behind, primary_of
from potstill.pipeline.compression.sparing import ranged, spared
from potstill.pipeline.compression.squeezing import Job, Piece, made_of, trained
from potstill.pipeline.experiment import MadeModel
from potstill.teachers.fingerprints import module_digest

WORTH = 0.002
"""What plain rounding may cost of the metric, relatively, before `auto` trains for 8 bits."""

RATE = 0.1  # of the run's own: weights that are trained already move little


def filed(job: Job, piece: Piece, path: Path) -> Filed:
    """Write the file of a piece; the ways of quantising are tried in the order of their cost."""
    shop, options = job.shop, job.bench.options
    precision = precision_of(job.way)
    write_model(shop, piece.module, path, precision=precision, rows=options.rows, skip=options.skip)
    value = primary_of(shop, asked(shop, path))
    if precision is Precision.FLOAT32:
        return Filed(piece=piece, validation=value)
    whole = primary_of(shop, piece.module)
    lost, bound = behind(shop, value, whole), WORTH * abs(whole)
    wanted = options.quantised is Quantised.TRAINING or (
        options.quantised is Quantised.AUTO and lost > bound
    )
    found = Filed(piece=piece, validation=value, lost=lost)
    if not wanted or shop.experiment.data.normalise.tokens:
        return found
    found = _trained_quantised(job, found, path)
    left = behind(shop, found.validation, whole)
    if options.quantised is Quantised.AUTO and left > bound:
        return spared(job, found, path, bound=bound)
    return found


def _trained_quantised(job: Job, found: Filed, path: Path) -> Filed:
    """The same model after some epochs that feel the rounding; kept only if the file is better."""
    shop, options = job.shop, job.bench.options
    epochs = options.shares(job.epochs, stages=options.steps + 1)[0]
    try:
        made = _felt(job, found.piece)
        piece = trained(job, found.piece, made, epochs, "int8", rate=RATE)
        student = piece.module
        assert isinstance(student, FakeQuantised), "as it was made"
        whole = student.converted()
    except ModelError as error:
        shop.warn(f"`{job.way}` is not trained for 8 bits: {error}")
        return found
    draft = path.with_name(f"trained-{path.name}")
    write_model(shop, whole, draft, precision=Precision.FLOAT32, rows=options.rows)
    value = primary_of(shop, asked(shop, draft))
    if options.quantised is Quantised.AUTO and behind(shop, value, found.validation) >= 0:
        draft.unlink()
        return found
    draft.replace(path)
    if found.piece.config is not None:
        save_quantised(student, found.piece.config, path.parent)
    spent = replace(piece, module=found.piece.module)  # sizes are counted of the float one
    return Filed(piece=spent, validation=value, lost=found.lost, trained=True)


def _felt(job: Job, piece: Piece) -> MadeModel:
    """The piece as a student that rounds as 8 bits would, its ranges seen on training rows."""
    how = Int8(skip=job.bench.options.skip)
    plain = made_of(piece.module, None, name=f"{job.way}, int8")

    def make(_seed: int) -> nn.Module:
        return ranged(job, plain.make(0).requires_grad_(True)).train()

    return replace(plain, make=make, key=f"{how} {module_digest(piece.module)}")
