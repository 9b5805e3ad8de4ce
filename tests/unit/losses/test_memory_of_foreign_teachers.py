"""Teachers with other tokens, and drawn tokens, do not bring back tensors of rows times tokens."""

import pytest
import torch
from torch import nn

from potstill import losses as L
from potstill.signals import CommonTokens, ForeignLogits, LazyLogits, Signals, Spans, Target

from .test_memory_of_lazy_logits import Ledger

ROWS, CLASSES, TEACHER_CLASSES, WIDTH = 1024, 4096, 5000, 8


def foreign(teacher: LazyLogits) -> ForeignLogits:
    """Every fourth span is two tokens of the student; all others are one on both sides."""
    begins = [row for row in range(ROWS) if row % 5 != 4]
    pairs = [[row, row + 1 if row % 5 == 3 and row + 1 < ROWS else -1] for row in begins]
    rows = torch.tensor(pairs)
    ids = torch.where(rows >= 0, rows % CLASSES, -1)
    common = CommonTokens(
        torch.arange(4000), torch.arange(4000), torch.arange(4000, CLASSES),
        torch.arange(4000, TEACHER_CLASSES),
    )  # fmt: skip
    spans = Spans(rows, ids, rows[:, :1], ids[:, :1])
    return ForeignLogits(teacher, spans, common, num_rows=ROWS, num_classes=CLASSES)


@pytest.mark.parametrize(
    "term", [L.CrossTokenizerKD(), L.ULD(), L.SampledReverseKL(), L.MiniLLM()], ids=repr
)
def test_less_than_a_third_of_the_logits_is_ever_held(term: L.RowTerm, monkeypatch) -> None:
    # The least budget and the blocks are for sizes 30 times as large; here they are scaled too.
    monkeypatch.setattr(L.chunks, "_LEAST_BYTES", 2**19)
    monkeypatch.setitem(L.chunks._BLOCK_ELEMENTS, "cpu", 2**15)
    monkeypatch.setitem(L.foreign._CHUNK_ELEMENTS, "cpu", 2**15)
    monkeypatch.setitem(L.drawn._CHUNK_ELEMENTS, "cpu", 2**15)
    torch.manual_seed(0)
    is_foreign = isinstance(term, L.foreign.ForeignTerm)
    width = TEACHER_CLASSES if is_foreign else CLASSES
    head, teacher_head = (nn.Linear(WIDTH, c, bias=False) for c in (CLASSES, width))
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    lazy = LazyLogits(torch.randn(ROWS, WIDTH), teacher_head.requires_grad_(False))
    taught = Signals(foreign(lazy) if is_foreign else lazy)
    labels = torch.arange(ROWS) % CLASSES
    target = Target(
        ROWS, labels, samples=torch.arange(ROWS) // 64, logprobs=torch.full((ROWS,), -8.0)
    )

    with Ledger() as ledger:
        (1 * term)(Signals(LazyLogits(hidden, head)), taught, target).loss.backward()

    held = ledger.peak - head.weight.numel() * 4
    assert held / (ROWS * CLASSES * 4) < 0.3
    assert hidden.grad is not None
    assert hidden.grad.any()
