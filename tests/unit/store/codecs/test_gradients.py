"""What a student learns from compact targets, on the synthetic check of the benchmark."""

import pytest
import torch
from bench._zipf import CLASSES, POSITIONS, Check, deviation, gradient, statistics, synthetic

from potstill.store.codecs import DenseLogits, Sampled, TopK, Vocabulary


@pytest.fixture(scope="module")
def check() -> Check:
    return synthetic()


def _stored(codec, check: Check):
    encoded = codec.encode(check.teacher, keys_N=torch.arange(POSITIONS))
    size = len(encoded.data) / POSITIONS
    return codec.decode(encoded, row_shape=(CLASSES,)), size


def _deviation(check: Check, target, student: str = "usual"):
    logits = check.students[student]
    true = logits.softmax(-1) - check.teacher.softmax(-1)
    return deviation(true, gradient(logits, target))


def test_the_teacher_is_as_peaked_as_a_language_model(check: Check) -> None:
    figures = statistics(check.teacher)

    assert figures["entropy (nat)"] == pytest.approx(1.84, abs=0.05)
    assert figures["top-1 mass"] == pytest.approx(0.60, abs=0.02)
    assert figures["top-50 mass"] == pytest.approx(0.948, abs=0.005)


def test_a_vocabulary_takes_100_bytes_and_turns_gradients_by_less_than_a_degree(
    check: Check,
) -> None:
    target, size = _stored(Vocabulary(), check)

    usual, close = _deviation(check, target), _deviation(check, target, "close")

    assert size <= 90
    assert usual.angle < 0.85
    assert usual.batch_angle < 0.4
    assert 0.99 < usual.norm < 1.01
    assert close.angle < 1.3  # a student that is nearly there asks for more


def test_draws_take_40_bytes_and_are_right_over_the_batch(check: Check) -> None:
    target, size = _stored(Sampled(draws=50), check)

    got = _deviation(check, target)

    assert size <= 30
    assert got.angle < 30
    assert got.batch_angle < 4


def test_renormalised_classes_turn_the_gradient_and_a_tail_does_not(check: Check) -> None:
    target, _ = _stored(TopK(k=50), check)
    kept = target.logprobs_NK.exp()
    renormalised = torch.zeros_like(check.teacher).scatter(
        1, target.ids_NK, kept / kept.sum(-1, keepdim=True)
    )

    with_tail, without = _deviation(check, target), _deviation(check, renormalised)

    assert with_tail.angle < 0.55
    assert without.angle > 4 * with_tail.angle
    assert without.norm > 1.05


def test_half_precision_turns_nothing(check: Check) -> None:
    for dtype, most in (("fp16", 0.05), ("bf16", 0.2)):
        logits, _ = _stored(DenseLogits(dtype), check)
        assert _deviation(check, logits.softmax(-1)).angle < most
