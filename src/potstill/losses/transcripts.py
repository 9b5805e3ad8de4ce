"""Terms for models that write down what they hear, frame by frame: CTC, and KD that knows blanks.

Shapes: N frames of all sounds one after another, V letters (0 is the blank), B sounds, T frames of
the longest, U letters of the longest text.
"""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import HandshakeError
from potstill.functional.divergences import kl, log_softened
from potstill.functional.reductions import upcast
from potstill.losses.checks import check_number
from potstill.losses.rows import RowTerm
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Logits, Partial, Signals, Target

FRAMES = frozenset({"transcript"})
BLANK = 0
_LABELLED = Needs(student_logits=True, labels=True, min_classes=2, kinds=FRAMES)
_TAUGHT = Needs(student_logits=True, teacher_logits=True, min_classes=2, kinds=FRAMES)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class CTC(ArithmeticTerm):
    r"""Connectionist temporal classification: the text, however its letters lie in time.

    Equivalent to `torch.nn.functional.ctc_loss` with `zero_infinity`, summed over sounds.

    Formula: $-\log \sum_{\pi : B(\pi) = y} \prod_t q_t(\pi_t)$, where $B$ first joins equal
        neighbours and then drops blanks, $q_t$ is the softmax of frame $t$. Counted are letters.
    Shapes: student logits `[N, V]`, letter 0 the blank; labels `[B, U]` whole numbers, -100 behind
        the last letter.
    Paper: Graves et al. 2006, "Connectionist temporal classification", doi:10.1145/1143844.1143891.
    Requires: a text for each sound, of no more letters (and repeats) than the sound has frames;
        sounds with longer texts add 0. Sounds without a text are skipped.
    Related: `FrameKD` follows a teacher frame by frame; `CrossEntropy` is for labels in time.
    Example: `0.5 * FrameKD(temperature=1) + 0.5 * CTC()`
    """

    def needs(self) -> Needs:
        """Student logits and texts."""
        return _LABELLED

    def count(self, target: Target) -> Tensor | int:
        """The letters of all sounds with a text."""
        if target.labels is None:
            return 0
        letters_BU = (target.labels >= 0) & _labelled(target)[:, None]
        return letters_BU.sum()

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over sounds, and the number of their letters."""
        if not isinstance(student.logits, Logits) or target.samples is None:
            raise HandshakeError(
                "`ctc` needs the logits of every frame of a sound; use `task: asr` with a model "
                "that answers frame by frame, such as ctc_conformer."
            )
        log_NV = F.log_softmax(upcast(student.logits.values_NC), dim=-1)
        if target.labels is None:
            return Partial(log_NV[:0].sum(), 0)
        num_sounds = len(target.labels)
        log_TBV, frames_B = padded_frames(log_NV, target.samples, num_sounds)
        letters_B = (target.labels >= 0).sum(-1)
        losses_B = F.ctc_loss(
            log_TBV,
            target.labels.clamp(min=0),
            frames_B,
            letters_B,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return Partial(losses_B[_labelled(target)].sum(), self.count(target))


def _labelled(target: Target) -> Tensor:
    """`[B]` bool: which sounds have a text."""
    assert target.labels is not None
    every_B = torch.ones(len(target.labels), dtype=torch.bool, device=target.labels.device)
    if target.labelled is None:
        return every_B
    assert target.samples is not None
    without_N = target.samples[~target.labelled]
    return every_B.index_fill(0, without_N, False)


def padded_frames(values_NV: Tensor, samples_N: Tensor, num_sounds: int) -> tuple[Tensor, Tensor]:
    """`[T, B, V]` with zeros behind each sound's last frame, and frames `[B]` of each."""
    frames_B = torch.bincount(samples_N, minlength=num_sounds)
    first_B = frames_B.cumsum(0) - frames_B
    place_N = torch.arange(len(samples_N), device=samples_N.device) - first_B[samples_N]
    longest = int(frames_B.max()) if num_sounds else 0
    padded_TBV = values_NV.new_zeros(longest, num_sounds, values_NV.shape[1])
    return padded_TBV.index_put((place_N, samples_N), values_NV), frames_B


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class FrameKD(RowTerm):
    r"""KD on the posteriors of frames, with frames that say nothing weighed down.

    Formula: $w_t\,T^2\,\mathrm{KL}(p_t \,\|\, q_t)$ at temperature T, with
        $w_t = \beta + (1 - \beta)(1 - p_t(\mathrm{blank}))$, the teacher's blank at
        temperature 1.
    Shapes: logits `[N, V]` on both sides, letter 0 the blank.
    Paper: Kurata and Audhkhasi 2019, arXiv:1904.08311 (peaks of models that learnt alone stand at
        different frames, those of a taught one at its teacher's); on what to do with blanks, Hilmes
        et al. 2025, arXiv:2506.01503. The weight w is Potstill's own: it goes smoothly from all
        frames alike to those alone in which the teacher says a letter (blank elimination).
    Requires: a teacher with the student's letters and as many frames. No labels.
    Related: with `blank_weight=1` this is `KD`.
    Example: `0.3 * FrameKD(temperature=1, blank_weight=0) + CTC()`

    Args:
        temperature: T, above 0.
        blank_weight: β, from 0 (frames count by how much of a letter the teacher hears) to 1.
    """

    temperature: float = 1.0
    blank_weight: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", self.temperature, above=0)
        if self.blank_weight != 1:
            check_number(self, "blank_weight", self.blank_weight, at_least=0, below=1)

    def needs(self) -> Needs:
        """Logits on both sides."""
        return _TAUGHT

    def row_losses(self, student_NC: Tensor, teacher_NC: Tensor, labels: Tensor) -> Tensor:
        """As in `RowTerm`."""
        teacher_log_NC = log_softened(teacher_NC, self.temperature)
        losses_N = kl(log_softened(student_NC, self.temperature), teacher_log_NC.exp())
        said_N = 1 - F.softmax(teacher_NC, dim=-1)[:, BLANK]
        weights_N = self.blank_weight + (1 - self.blank_weight) * said_N
        return self.temperature**2 * weights_N * losses_N
