"""An objective of a term on a teacher's kept classes and a term on labels, in one pass."""

import torch
from torch import nn

from potstill.losses import KD, CrossEntropy
from potstill.signals import LazyLogits, Logits, Signals, SparseLogits, Target

CLASSES, KEPT, ROWS = 19, 4, 12


def test_labels_are_learnt_beside_a_teacher_that_kept_some_classes() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, 8)
    logprobs = torch.randn(ROWS, CLASSES).log_softmax(-1)
    values, ids = logprobs.topk(KEPT, -1)
    teacher = Signals(logits=SparseLogits(ids, values, 1 - values.exp().sum(-1), CLASSES, 1.0))
    target = Target(num_rows=ROWS, labels=torch.randint(CLASSES, (ROWS,)))

    found = []
    for lazy in (True, False):
        torch.manual_seed(1)
        head = nn.Linear(8, CLASSES)
        logits = LazyLogits(hidden, head, chunk_rows=5) if lazy else Logits(head(hidden))
        student = Signals(logits=logits)
        kd, ce = KD(temperature=1), CrossEntropy()
        if lazy:
            loss = (0.5 * kd + 0.5 * ce)(student, teacher, target).loss
        else:
            shares = [term(student, teacher, target).total / ROWS for term in (kd, ce)]
            loss = 0.5 * shares[0] + 0.5 * shares[1]
        loss.backward()
        assert head.weight.grad is not None
        found.append([loss.detach(), head.weight.grad])

    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
