"""Class weights of cross entropy against PyTorch's, and its closed-form gradient."""

import pytest
import torch
import torch.nn.functional as F

from potstill.errors import HandshakeError, RecipeError
from potstill.losses import CrossEntropy, weighted
from potstill.signals import Logits, Signals, Target

WEIGHTS = (0.5, 1.0, 3.0)


def _case():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 2, 0, 1, 0])


def _value(term, logits, labels):
    target = Target(num_rows=len(logits), labels=labels)
    return weighted(term)(Signals(logits=Logits(logits)), Signals(), target).loss


def test_a_row_counts_as_its_class_does_and_the_divisor_is_the_rows() -> None:
    logits, labels = _case()
    theirs = F.cross_entropy(
        logits, labels, weight=torch.tensor(WEIGHTS, dtype=torch.float64), reduction="sum"
    )

    mine = _value(CrossEntropy(class_weights=WEIGHTS), logits, labels)

    assert mine == pytest.approx(theirs.item() / 7, rel=1e-9)


def test_mixed_labels_weigh_as_what_they_are_mixed_of() -> None:
    logits, labels = _case()
    hard = F.one_hot(labels, 3).double()

    mixed = _value(CrossEntropy(class_weights=WEIGHTS), logits, hard)

    assert mixed == pytest.approx(
        _value(CrossEntropy(class_weights=WEIGHTS), logits, labels).item(), rel=1e-9
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_closed_form_is_autograd(smoothing) -> None:
    logits, labels = _case()
    term = CrossEntropy(class_weights=WEIGHTS, label_smoothing=smoothing)
    leaf = logits.clone().requires_grad_()
    losses = term.row_losses(leaf, torch.empty(0), labels)
    (wanted,) = torch.autograd.grad(losses.sum(), leaf)

    got, gradient = term.row_gradients(logits.clone(), torch.empty(0), labels)

    torch.testing.assert_close(got, losses.detach())
    torch.testing.assert_close(gradient, wanted)


def test_wrong_weights_are_refused() -> None:
    logits, labels = _case()

    with pytest.raises(RecipeError, match="class_weights=-1"):
        CrossEntropy(class_weights=(1, -1))
    with pytest.raises(HandshakeError, match="2 values for 3 classes"):
        _value(CrossEntropy(class_weights=(1, 1)), logits, labels)
