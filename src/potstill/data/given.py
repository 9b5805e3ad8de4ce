"""Arrays that are in memory already, as a data set."""

import numpy as np
from torch import Tensor

from potstill.data.assembly import Form, Raw, RawPart, Sizes, assemble
from potstill.data.samples import DataSet, Kind, TargetKind

Given = np.ndarray | Tensor


def from_arrays(
    inputs: Given,
    labels: Given,
    *,
    test: tuple[Given, Given] | None = None,
    kind: Kind | str | None = None,
    target_kind: TargetKind | str | None = None,
    sizes: Sizes | None = None,
    standardise: bool = True,
    sampling_rate: int | None = None,
) -> DataSet:
    """A checked data set from arrays; validation and test parts are cut where they are not given.

    Args:
        inputs: images `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, signals `[N, C, L]` or tables
            `[N, F]`.
        labels: `[N]` classes, `[N, C]` of 0 and 1, or `[N]` / `[N, O]` values.
        test: inputs and labels of the test part.
        kind: what a sample is; decided by shape and type if left out.
        target_kind: what is to be predicted; decided by the labels if left out.
        sizes: of the parts that are cut.
        standardise: whether inputs are standardised with constants of the training part.
        sampling_rate: of sounds (`kind="audio"`, `[N, 1, L]` int16), samples a second.

    Raises:
        DataError: in one sentence, what cannot be used.
    """
    parts = {"train": RawPart(_array(inputs), _array(labels))}
    if test is not None:
        parts["test"] = RawPart(_array(test[0]), _array(test[1]))
    return assemble(
        Raw(name="arrays", parts=parts, sampling_rate=sampling_rate),
        form=Form(kind=None if kind is None else Kind(kind), standardise=standardise),
        sizes=sizes or Sizes(),
        target_kind=None if target_kind is None else TargetKind(target_kind),
    )


def _array(given: Given) -> np.ndarray:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
