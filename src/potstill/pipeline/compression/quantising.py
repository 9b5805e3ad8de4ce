"""The file of a piece: in float32, in 8 bits after training, or trained once more for 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import nn

from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.compress.qat import calibrated
from potstill.compress.quantised_files import save_quantised
from potstill.compress.weight import Precision
from potstill.errors import ModelError
from potstill.pipeline.compression.files import InFile, write_model
from potstill.pipeline.compression.options import Quantised
from potstill.pipeline.compression.plan import precision_of
from potstill.pipeline.compression.squeezing import Job, Piece, made_of, trained
from potstill.pipeline.experiment import MadeModel
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.teachers.fingerprints import module_digest
from potstill.train.evaluate import answers_of, score

WORTH = 0.002
"""What plain rounding may cost of the metric, relatively, before `auto` trains for 8 bits."""

_RATE = 0.1  # of the run's own: weights that are trained already move little
_CALIBRATED = 8  # batches on which training for 8 bits begins


@final
@dataclass(frozen=True, kw_only=True)
class Filed:
    """A file, the piece it was made of, and what 8 bits did to it.

    Args:
        piece: with what its trainings took.
        validation: the primary metric of the file's own answers.
        lost: of the metric, by rounding after training; positive is worse, `None` in float32.
        trained: whether it was trained for 8 bits.
    """

    piece: Piece
    validation: float
    lost: float | None = None
    trained: bool = False

    def to_json(self) -> dict[str, object]:
        """What `compress.json` says of it."""
        return {"lost_by_rounding": self.lost, "trained_for_int8": self.trained}


def filed(job: Job, piece: Piece, path: Path) -> Filed:
    """Write the file of a piece; the ways of quantising are tried in the order of their cost."""
    shop, options = job.shop, job.bench.options
    precision = precision_of(job.way)
    write_model(shop, piece.module, path, precision=precision, rows=options.rows, skip=options.skip)
    value = primary_of(shop, asked(shop, path))
    if precision is Precision.FLOAT32:
        return Filed(piece=piece, validation=value)
    whole = primary_of(shop, piece.module)
    lost = (whole - value) * (1 if shop.experiment.task.higher_is_better else -1)
    wanted = options.quantised is Quantised.TRAINING or (
        options.quantised is Quantised.AUTO and lost > WORTH * abs(whole)
    )
    found = Filed(piece=piece, validation=value, lost=lost)
    if not wanted or shop.experiment.data.normalise.tokens:
        return found
    return _trained_for_int8(job, found, path)


def _trained_for_int8(job: Job, found: Filed, path: Path) -> Filed:
    """The same model after some epochs that feel the rounding; kept only if the file is better."""
    shop, options = job.shop, job.bench.options
    epochs = options.shares(job.epochs, stages=options.steps + 1)[0]
    try:
        made = _felt(job, found.piece)
        piece = trained(job, found.piece, made, epochs, "int8", rate=_RATE)
        student = piece.module
        assert isinstance(student, FakeQuantised), "as it was made"
        whole = student.converted()
    except ModelError as error:
        shop.warn(f"`{job.way}` is not trained for 8 bits: {error}")
        return found
    draft = path.with_name(f"trained-{path.name}")
    write_model(shop, whole, draft, precision=Precision.FLOAT32, rows=options.rows)
    value = primary_of(shop, asked(shop, draft))
    higher = shop.experiment.task.higher_is_better
    if options.quantised is Quantised.AUTO and (value < found.validation) is higher:
        draft.unlink()
        return found
    draft.replace(path)
    if found.piece.config is not None:
        save_quantised(student, found.piece.config, path.parent)
    kept = replace_module(piece, found.piece.module)
    return Filed(piece=kept, validation=value, lost=found.lost, trained=True)


def _felt(job: Job, piece: Piece) -> MadeModel:
    """The piece as a student that rounds as 8 bits would, its ranges seen on training rows."""
    e = job.shop.experiment
    feed = e.learning.feed(e.data.lessons, e.data, seed=0, device="cpu")
    how = Int8(skip=job.bench.options.skip)
    plain = made_of(piece.module, None, name=f"{job.way}, int8")

    def make(_seed: int) -> nn.Module:
        module = plain.make(0).requires_grad_(True)
        return calibrated(module, feed, how=how, count=_CALIBRATED).train()

    return replace(plain, make=make, key=f"{how} {module_digest(piece.module)}")


def replace_module(piece: Piece, module: nn.Module) -> Piece:
    """The same trainings, another module: the float one that sizes are counted of."""
    return replace(piece, module=module)


def asked(shop: Workshop, path: Path) -> Teacher:
    """A file, to be asked about batches of the run."""
    return InFile(path, texts=shop.experiment.data.normalise.tokens)


def primary_of(shop: Workshop, source: nn.Module | Teacher) -> float:
    """The metric that selects, on validation data."""
    e = shop.experiment
    if isinstance(source, nn.Module):
        source.to(shop.runtime.device)
    found = score(answers_of(source, shop.feed(e.data.validation), e.task), e.task)
    return found[e.task.primary]


def tests_of(shop: Workshop, source: nn.Module | Teacher) -> Mapping[str, float]:
    """All metrics on the test data."""
    e = shop.experiment
    with torch.no_grad():
        return score(answers_of(source, shop.feed(e.data.test), e.task), e.task)
