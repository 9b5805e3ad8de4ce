"""Writing down what is said, frame by frame: CTC models.

Shapes: B sounds, T frames, N frames of all sounds in a row, V letters, U letters of a text.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.taps import tapped
from potstill.losses import Objective, weighted
from potstill.losses.transcripts import BLANK, CTC, padded_frames
from potstill.protocols import Task
from potstill.runtime.texts import MASK
from potstill.signals import Batch, Logits, Signals, Target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

NLL = 0
"""The first column of what is kept of a sound: -log p(text), nats; the letters written follow."""

MARGIN = 16
"""Letters that are kept of what was written, beyond twice those of the longest text."""


class Rule(Protocol):
    """How many frames a sound of so many samples has (`models.transcribing.FrameRule`)."""

    def frames(self, samples: Tensor) -> Tensor:
        """T of each sound, int64."""
        ...


@final
class Transcription(Task):
    """A letter or a blank for every frame. Model: `[B, 2, L]` planes to logits `[B, T, V]`.

    Rows are frames, without those of the padding; labels are `[B, U]`, the letters of each text.

    Args:
        letters: of the alphabet, the blank first.
        rule: how many frames models answer; teacher and student must have the same.
    """

    kind = "transcript"
    name = "asr"
    primary = "wer"
    higher_is_better = False
    digests_samples = True

    def __init__(self, letters: Sequence[str], rule: Rule) -> None:
        self.letters, self.rule = tuple(letters), rule

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Logits `[N, V]`, frame by frame.

        Raises:
            ModelError: the model answers another number of frames.
        """
        if getattr(model, "rule", None) != self.rule:
            raise ModelError(
                f"{type(model).__name__} answers frames by {getattr(model, 'rule', None)}, and "
                f"the task expects {self.rule}: give teacher and student the same `mels` "
                "window and `subsampling`, so that their frames can be compared."
            )
        features: Mapping[str, Tensor] = {}
        if layers:
            with tapped(model, layers) as features:
                logits_BTV = model(batch.inputs)
        else:
            logits_BTV = model(batch.inputs)
        frames_B = self._frames(batch)
        places_T = torch.arange(logits_BTV.shape[1], device=logits_BTV.device)
        return Signals(logits=Logits(logits_BTV[places_T < frames_B[:, None]]), features=features)

    def target(self, batch: Batch) -> Target:
        """One row a frame; texts by sound."""
        frames_B = self._frames(batch)
        sounds_B = torch.arange(len(batch), device=frames_B.device)
        samples_N = sounds_B.repeat_interleave(frames_B)
        return Target(
            num_rows=len(samples_N),
            labels=batch.labels,
            labelled=None if batch.labelled is None else batch.labelled[samples_N],
            samples=samples_N,
        )

    def digest(self, signals: Signals, target: Target) -> Tensor:
        """`[B, 1 + 2 U + 16]`: -log p(text), then the likeliest letters of each frame, collapsed.

        -1 stands behind the last letter; what is longer is cut.
        """
        assert isinstance(signals.logits, Logits), "forward gives dense logits"
        assert target.labels is not None, "sets that are scored are labelled"
        assert target.samples is not None, "target names the sounds"
        labels_BU = target.labels
        log_NV = signals.logits.values_NC.detach().float().log_softmax(-1)
        log_TBV, frames_B = padded_frames(log_NV, target.samples, len(labels_BU))
        nll_B = nn.functional.ctc_loss(
            log_TBV,
            labels_BU.clamp(min=0),
            frames_B,
            (labels_BU >= 0).sum(-1),
            blank=BLANK,
            reduction="none",
        )
        width = 2 * labels_BU.shape[1] + MARGIN
        letters = collapsed(log_TBV.argmax(-1).T, frames_B, width=width)
        return torch.cat([nll_B[:, None], letters.float()], dim=1)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        """The digest as it is."""
        return outputs_NC

    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Word and character error rate, negative log-likelihood of a text."""
        from torchmetrics import MetricCollection

        from potstill.tasks.transcript_metrics import Errors, TextLikelihood

        return MetricCollection(
            {
                "wer": Errors(self.letters, words=True),
                "cer": Errors(self.letters, words=False),
                "nll": TextLikelihood(),
            },
            compute_groups=False,
        )

    def default_objective(self) -> Objective:
        """CTC."""
        return weighted(CTC())

    def _frames(self, batch: Batch) -> Tensor:
        return self.rule.frames(batch.inputs[:, MASK].sum(-1))


def collapsed(paths_BT: Tensor, frames_B: Tensor, *, width: int) -> Tensor:
    """`[B, width]` int64: equal neighbours are one, blanks are none, -1 behind the last letter."""
    places_T = torch.arange(paths_BT.shape[1], device=paths_BT.device)
    before_BT = nn.functional.pad(paths_BT[:, :-1], (1, 0), value=BLANK)
    kept_BT = (paths_BT != BLANK) & (paths_BT != before_BT) & (places_T < frames_B[:, None])
    place_BT = kept_BT.cumsum(1) - 1
    fits_BT = kept_BT & (place_BT < width)
    found = paths_BT.new_full((len(paths_BT), width), -1)
    rows_BT = torch.arange(len(paths_BT), device=paths_BT.device)[:, None].expand_as(paths_BT)
    return found.index_put((rows_BT[fits_BT], place_BT[fits_BT]), paths_BT[fits_BT])
