"""What lies in memory while a loss of lazy logits is computed, tensor by tensor."""

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from potstill import losses as L
from potstill.losses.chunks import rows_at_once
from potstill.signals import LazyLogits, Signals, Target

ROWS, CLASSES, WIDTH = 1024, 4096, 8


class Ledger(TorchDispatchMode):
    """Counts the bytes of the storages that are alive and were made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
        made = function(*args, **(kwargs or {}))
        for tensor in tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in given | self._seen:
                self._note(storage)
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def peak_in_logits(objective: L.Objective, dtype: torch.dtype, *, lazy: bool = True) -> float:
    """Peak beyond inputs and the weight's gradient, in units of one tensor of logits."""
    torch.manual_seed(0)
    head, teacher_head = (nn.Linear(WIDTH, CLASSES, bias=False).to(dtype) for _ in range(2))
    hidden = torch.randn(ROWS, WIDTH, dtype=dtype, requires_grad=True)
    made = [
        LazyLogits(hidden, head),
        LazyLogits(torch.randn(ROWS, WIDTH, dtype=dtype), teacher_head.requires_grad_(False)),
    ]
    target = Target(ROWS, torch.arange(ROWS))

    with Ledger() as ledger:
        student, teacher = (m if lazy else L.rows.Logits(m.dense()) for m in made)
        objective(Signals(student), Signals(teacher), target).loss.backward()

    weight_bytes = head.weight.numel() * head.weight.dtype.itemsize
    return (ledger.peak - weight_bytes) / (ROWS * CLASSES * dtype.itemsize)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "objective",
    [
        L.weighted(L.KD(temperature=4)),
        0.9 * L.KD(temperature=4) + 0.1 * L.CrossEntropy(),
        L.weighted(L.ReverseKL()),
        L.weighted(L.JSD()),
        L.weighted(L.SkewKL()),
        L.weighted(L.SkewReverseKL()),
        L.weighted(L.AlphaBeta()),
        L.weighted(L.AdaptiveKL()),
    ],
    ids=repr,
)
def test_less_than_a_third_of_the_logits_is_ever_held(
    objective: L.Objective, dtype: torch.dtype, monkeypatch
) -> None:
    # The least budget and the blocks are for sizes 30 times as large; here they are scaled too.
    monkeypatch.setattr(L.chunks, "_LEAST_BYTES", 2**19)
    monkeypatch.setitem(L.chunks._BLOCK_ELEMENTS, "cpu", 2**15)

    assert peak_in_logits(objective, dtype) < 0.3


def test_the_ledger_sees_dense_logits() -> None:
    assert peak_in_logits(L.weighted(L.KD()), torch.float32, lazy=False) > 3


@pytest.mark.parametrize(
    ("rows", "classes", "expected"),
    [
        (4096, 32_000, 512),  # an eighth of the rows
        (64, 32_000, 64),  # all of them: they fit into 32 MiB
        (100_000, 151_936, 883),  # what 512 MiB hold
        (1, 10**9, 1),  # never less than one
    ],
)
def test_the_rows_of_a_chunk_follow_the_budget(rows: int, classes: int, expected: int) -> None:
    size = 4 * classes

    assert rows_at_once(rows, bytes_per_row=size, whole_bytes=rows * size) == expected
