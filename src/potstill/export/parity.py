"""The proof that an exported file answers as the student does, on real samples."""

from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import DataError, ExportError
from potstill.export.opened import Opened, open_artefact
from potstill.export.shipped import Shipped
from potstill.runtime.modes import evaluating
from potstill.runtime.texts import are_texts, by_row, trimmed

BATCH_SIZES = (1, 7, 64)
SMALLEST_SCALE = 1e-3  # logits below this are not looked at relatively
SINGLE_ROWS = 16  # rows that are run one by one; each batch size starts from the first row


class Parity(TypedDict):
    """`parity.json`. Differences are of logits; `relative` is the largest one over `scale`."""

    format: int
    max_difference: float
    mean_difference: float
    scale: float
    relative: float
    limit: float
    agreement: float | None
    min_agreement: float
    rows: int
    batch_sizes: list[int]
    engine: str
    version: str


def check_parity(
    model: nn.Module,
    path: Path,
    inputs: Tensor,
    *,
    normalise: nn.Module | None = None,
    kind: str = "single_label",
    max_difference: float = 1e-4,
    min_agreement: float = 0.999,
) -> Parity:
    """Run an exported file and the model it came from on the same samples, and compare.

    The file is run with batches of 1 (the first 16 rows), 7 and 64. The difference is relative to
    the scale of the logits: `max |file - model| / max |model|` (the divisor is at least 0.001).

    Args:
        model: the student, in torch; left as it was found; compared in float32 on the CPU.
        path: the file, of any kind that `open_artefact` opens.
        inputs: `[N, ...]`, real samples as the file takes them.
        normalise: what `export_onnx` was given.
        kind: of the targets. `single_label` compares the most likely class, `multi_label` every
            decision at a logit of zero, `regression` only the values.
        max_difference: the largest relative difference allowed.
        min_agreement: the smallest share of equal decisions allowed.

    Returns:
        The figures, for `parity.json`.

    Raises:
        ExportError: the file is missing, cannot be run, or answers differently. The caller removes
            it.
        DataError: there are no samples.
    """
    if len(inputs) == 0:
        raise DataError("Parity needs samples, got none; pass some rows of the test data.")
    rows = inputs.detach().cpu()
    expected = _answers_of_model(Shipped(model, normalise), rows)
    opened = open_artefact(path)
    if not opened.normalises and normalise is not None:
        rows = normalise(rows)
    answers = _answers_of_file(opened, path, rows.contiguous().numpy())
    differences, agreeing = [], []
    for size, got in answers.items():
        reference = expected[: len(got)]
        if got.shape != reference.shape:
            raise ExportError(
                f"{path} returns {got.shape} in batches of {size} and the model "
                f"{reference.shape}; export it again."
            )
        differences.append(np.abs(got - reference).ravel())
        if kind != "boxes":  # boxes and scores beside each other: no row has a decision
            agreeing.append(_agreement(got, reference, kind))
    difference = np.nan_to_num(np.concatenate(differences), nan=np.inf)
    scale = max(SMALLEST_SCALE, float(np.abs(expected).max()))
    parity = Parity(
        format=1,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        scale=scale,
        relative=float(difference.max()) / scale,
        limit=max_difference,
        agreement=None if kind in ("regression", "boxes") else min(agreeing),
        min_agreement=min_agreement,
        rows=len(inputs),
        batch_sizes=list(BATCH_SIZES),
        engine=opened.engine,
        version=opened.version,
    )
    _accept(parity, path)
    return parity


def _accept(parity: Parity, path: Path) -> None:
    if not parity["relative"] <= parity["limit"]:
        raise ExportError(
            f"{path} does not answer as the student does: logits differ by up to "
            f"{parity['relative']:.2g} of their scale on {parity['rows']} samples, and "
            f"{parity['limit']:.2g} is allowed; do not ship it, and try another `opset`."
        )
    agreement = parity["agreement"]
    if agreement is not None and agreement < parity["min_agreement"]:
        raise ExportError(
            f"{path} decides as the student does on {agreement:.2%} of {parity['rows']} samples "
            f"only, and {parity['min_agreement']:.2%} is needed; do not ship it."
        )


def _agreement(got: NDArray[np.float32], expected: NDArray[np.float32], kind: str) -> float:
    if kind == "multi_label":
        return float(np.mean((got > 0) == (expected > 0)))
    return float(np.mean(got.argmax(axis=-1) == expected.argmax(axis=-1)))


def _answers_of_model(shipped: Shipped, rows: Tensor) -> NDArray[np.float32]:
    with evaluating(shipped), torch.no_grad():
        parts = torch.split(rows, max(BATCH_SIZES))
        answers = [by_row(shipped(part).numpy(), part.numpy()) for part in parts]
    values: NDArray[np.float32] = np.concatenate(answers)
    if not np.isfinite(values).all():
        raise ExportError(
            "The student itself answers with inf or NaN on real samples; train it again before "
            "exporting it."
        )
    return values


def _answers_of_file(
    opened: Opened, path: Path, rows: NDArray[np.generic]
) -> dict[int, NDArray[np.float32]]:
    """The answers to the rows (one by one: to the first of them), by size of batch."""
    answers = {}
    for size in BATCH_SIZES:
        part = rows[:SINGLE_ROWS] if size == 1 else rows
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        if are_texts(rows):  # as they come in use: each batch of its own length
            batches = [trimmed(batch) for batch in batches]
        try:
            answers[size] = np.concatenate([by_row(opened.answer(b), b) for b in batches])
        except Exception as error:  # runtimes have no public root of their exceptions
            raise ExportError(
                f"{path} cannot be run on a batch of {size} "
                f"({str(error).strip().splitlines()[0][:300]}); export it again."
            ) from error
    return answers
