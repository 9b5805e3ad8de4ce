"""CTC and KD on frames against sums over all paths, and what padding and cutting do not change."""

import itertools

import pytest
import torch
from torch import Tensor

from potstill.errors import HandshakeError, RecipeError
from potstill.losses import CTC, KD, CrossEntropy, FrameKD
from potstill.losses.transcripts import padded_frames
from potstill.signals import Logits, Signals, Target

V = 4
FRAMES = (4, 5, 2)
TEXTS = ((1, 2), (3, 3), (2,))


def _target(labelled: tuple[bool, ...] = (True, True, True)) -> Target:
    labels = torch.full((3, 3), -100)
    for row, text in enumerate(TEXTS):
        labels[row, : len(text)] = torch.tensor(text)
    samples = torch.arange(3).repeat_interleave(torch.tensor(FRAMES))
    return Target(
        num_rows=sum(FRAMES),
        labels=labels,
        samples=samples,
        labelled=torch.tensor(labelled)[samples],
    )


def _logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(FRAMES), V, generator=generator, dtype=torch.float64)


def _collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(letter for letter, _ in itertools.groupby(path) if letter)


def _by_paths(logits: Tensor) -> Tensor:
    """-log of the sum over every path that collapses to the text, sound by sound."""
    total, start = logits.new_zeros(()), 0
    for frames, text in zip(FRAMES, TEXTS, strict=True):
        probs = logits[start : start + frames].softmax(-1)
        paths = [p for p in itertools.product(range(V), repeat=frames) if _collapse(p) == text]
        each = [torch.stack([probs[t, n] for t, n in enumerate(path)]).prod() for path in paths]
        total = total - torch.stack(each).sum().log()
        start += frames
    return total


def test_ctc_is_the_sum_over_all_paths_and_so_is_its_gradient() -> None:
    mine, theirs = (_logits(0).requires_grad_() for _ in range(2))

    value = CTC()(Signals(logits=Logits(mine)), Signals(), _target())
    expected = _by_paths(theirs)

    assert torch.allclose(value.total, expected, rtol=1e-9)
    assert int(value.count) == 5  # letters
    (got,) = torch.autograd.grad(value.total, mine)
    (wanted,) = torch.autograd.grad(expected, theirs)
    assert torch.allclose(got, wanted, atol=1e-9)


def test_sounds_without_a_text_are_skipped() -> None:
    logits = _logits(1).requires_grad_()
    target = _target((True, False, True))

    value = CTC()(Signals(logits=Logits(logits)), Signals(), target)

    (gradient,) = torch.autograd.grad(value.total, logits)
    assert int(value.count) == 3
    assert not gradient[4:9].any()
    assert gradient[:4].any()


def test_texts_longer_than_their_sound_add_nothing() -> None:
    labels = torch.tensor([[1, 1, 1]])
    target = Target(num_rows=2, labels=labels, samples=torch.zeros(2, dtype=torch.int64))

    value = CTC()(Signals(logits=Logits(torch.randn(2, V))), Signals(), target)

    assert float(value.total) == 0


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_frame_kd_weighs_frames_by_what_the_teacher_says(beta: float) -> None:
    student, teacher = _logits(2).requires_grad_(), _logits(3)
    term = FrameKD(temperature=2, blank_weight=beta)

    value = term(Signals(logits=Logits(student)), Signals(logits=Logits(teacher)), _target())

    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = (t / 2).softmax(-1), (s / 2).softmax(-1)
        said = 1 - t.softmax(-1)[0]
        expected = expected + 4 * (beta + (1 - beta) * said) * (p * (p.log() - q.log())).sum()
    assert torch.allclose(value.total, expected, rtol=1e-9)
    assert value.count == sum(FRAMES)
    (got,) = torch.autograd.grad(value.total, student, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, student)
    assert torch.allclose(got, wanted, atol=1e-9)


def test_frame_kd_of_all_frames_alike_is_kd() -> None:
    student, teacher = Signals(logits=Logits(_logits(4))), Signals(logits=Logits(_logits(5)))

    frames = FrameKD(temperature=3)(student, teacher, _target())

    assert torch.allclose(frames.total, KD(temperature=3)(student, teacher, _target()).total)


def test_cutting_a_batch_into_sounds_changes_nothing() -> None:
    logits, whole = _logits(6), _target()
    student = Signals(logits=Logits(logits))

    together = CTC()(student, Signals(), whole)

    pieces, start = [], 0
    for row, frames in enumerate(FRAMES):
        part = Target(
            num_rows=frames,
            labels=whole.labels[row : row + 1],
            samples=torch.zeros(frames, dtype=torch.int64),
        )
        one = Signals(logits=Logits(logits[start : start + frames]))
        pieces.append(CTC()(one, Signals(), part))
        start += frames
    assert torch.allclose(together.total, sum(p.total for p in pieces))
    assert int(together.count) == sum(int(p.count) for p in pieces)


def test_frames_are_put_back_where_they_stood() -> None:
    values = torch.arange(sum(FRAMES) * V).view(-1, V).float()

    padded, frames = padded_frames(values, _target().samples, 3)

    assert frames.tolist() == list(FRAMES)
    assert torch.equal(padded[: FRAMES[1], 1], values[4:9])
    assert not padded[FRAMES[2] :, 2].any()


def test_terms_say_what_they_need() -> None:
    assert CTC().needs().kinds == FrameKD().needs().kinds == {"transcript"}
    assert "transcript" in KD().needs().kinds
    assert "transcript" not in CrossEntropy().needs().kinds
    with pytest.raises(HandshakeError, match="logits of every frame"):
        CTC()(Signals(logits=Logits(torch.zeros(2, V))), Signals(), Target(num_rows=2))
    with pytest.raises(RecipeError, match="blank_weight"):
        FrameKD(blank_weight=1.5)
