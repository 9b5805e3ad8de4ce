"""From dense logits to what codecs keep of them: distributions, a few rows at a time.

N rows · C classes · K kept classes. Work stays on the device of the values; results are on the CPU.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.errors import StoreError
from potstill.store.codecs.layout import Whole

_CHUNK = {"cpu": 1 << 20}  # numbers worked on at once: on a CPU what its cache holds
_CHUNK_ELSEWHERE = 1 << 26
_MANY_CLASSES = 1 << 14  # from here on the largest are sought in two steps
_BLOCK = 64


class Best(NamedTuple):
    """The most probable classes of each row, best first.

    Args:
        ids_NK: int64.
        logprobs_NK: float32; -inf for classes that the row rules out.
        tail_N: float64, the mass of all others.
    """

    ids_NK: Whole
    logprobs_NK: NDArray[np.float32]
    tail_N: NDArray[np.float64]


def check_rows(values: Tensor, codec: str, *, ruled_out: bool) -> None:
    """Refuse what no codec can give back.

    Args:
        values: `[N, *row shape]`.
        codec: its name, for the sentence.
        ruled_out: whether -inf is allowed, in rows that have a finite value too.

    Raises:
        StoreError: NaN, infinite values, rows of no values.
    """
    if not values.is_floating_point() or values.ndim < 2 or 0 in values.shape[1:]:
        raise StoreError(
            f"The codec `{codec}` stores rows of floating-point numbers and got {values.dtype} of "
            f"shape {list(values.shape)}; give `[rows, *shape of a row]`, no dimension empty."
        )
    if len(values) == 0:
        return
    flat = values.detach().flatten(1)
    worst = flat.amax(1).float()  # NaN if there is one
    if not ruled_out:
        worst = torch.where(worst.isfinite(), flat.amin(1).float(), worst)
    bad = ~worst.isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        raise StoreError(
            f"The codec `{codec}` cannot store row {row} of this batch: it has the value "
            f"{float(worst[row])}; look for the cause in the teacher (its precision, its inputs)."
        )


def distributions(
    logits_NC: Tensor, temperature: float, *, log: bool
) -> Iterator[tuple[slice, Tensor]]:
    """Softmax (or its logarithm) of some rows at a time, float32.

    The tensor is overwritten by the next one. A row's numbers do not depend on its neighbours.
    """
    num_rows, num_classes = logits_NC.shape
    most = _CHUNK.get(logits_NC.device.type, _CHUNK_ELSEWHERE)
    step = max(1, most // num_classes)
    out = torch.empty(min(step, num_rows), num_classes, device=logits_NC.device)
    softmax = torch.log_softmax if log else torch.softmax
    for begin in range(0, num_rows, step):
        rows = slice(begin, min(begin + step, num_rows))
        scaled = logits_NC[rows].detach().float()
        scaled = scaled if temperature == 1 else scaled / temperature
        yield rows, softmax(scaled, -1, out=out[: len(scaled)])


def best_classes(logits_NC: Tensor, k: int, temperature: float) -> Best:
    """The k most probable classes of each row (all, if there are fewer).

    Args:
        logits_NC: checked; any float dtype, any device.
        k: at least 1.
        temperature: logits are divided by it first.
    """
    num_rows, num_classes = logits_NC.shape
    k = min(k, num_classes)
    ids_NK = torch.empty(num_rows, k, dtype=torch.int64)
    logprobs_NK = torch.empty(num_rows, k)
    for rows, logprobs_nC in distributions(logits_NC, temperature, log=True):
        logprobs, ids = _largest(logprobs_nC, k)
        logprobs_NK[rows], ids_NK[rows] = logprobs.cpu(), ids.cpu()
    kept_N = logprobs_NK.double().exp().sum(1).numpy()
    tail_N = np.zeros(num_rows) if k == num_classes else np.clip(1 - kept_N, 0, 1)
    return Best(ids_NK.numpy(), logprobs_NK.numpy(), tail_N)


def _largest(values_NC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk`; with many classes first the k blocks that hold the k largest values.

    A block that is not among the k with the largest maxima cannot hold one of the k largest.
    """
    num_rows, num_classes = values_NC.shape
    num_blocks = num_classes // _BLOCK
    if num_classes < _MANY_CLASSES or k >= num_blocks // 4:
        top = values_NC.topk(k)
        return top.values, top.indices
    whole = num_blocks * _BLOCK
    blocks_NbB = values_NC[:, :whole].reshape(num_rows, num_blocks, _BLOCK)
    chosen_Nk = blocks_NbB.amax(-1).topk(k, sorted=False).indices
    inside = torch.arange(_BLOCK, device=values_NC.device)
    ids = (chosen_Nk[..., None] * _BLOCK + inside).flatten(1)
    rest = torch.arange(whole, num_classes, device=values_NC.device).expand(num_rows, -1)
    ids = torch.cat([ids, rest], dim=1)
    top = values_NC.gather(1, ids).topk(k)
    return top.values, ids.gather(1, top.indices)
