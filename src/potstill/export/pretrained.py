"""Language models as Transformers keeps them: a folder that `from_pretrained` opens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from potstill.data.tokens import Tokens
from potstill.errors import ExportError, need
from potstill.models.adapters import has_adapters, merged
from potstill.models.whisper import SpeechWriter
from potstill.runtime.modes import evaluating
from potstill.runtime.texts import PAIRED

BOUND = 1e-4
"""Relative difference that the logits of what was written may have."""


class Reopened(TypedDict):
    """How the model in the folder answers beside the one it was written from."""

    positions: int
    relative: float
    bound: float
    agreement: float


def export_pretrained(
    model: nn.Module, folder: Path, planes_BPL: Tensor, *, tokens: Tokens | None
) -> Reopened:
    """Write weights, config and tokenizer, open the folder again and compare the logits.

    Equivalent to `model.save_pretrained(folder)` and `tokenizer.save_pretrained(folder)`, with
    adapters merged and the tokenizer's marks of beginning, end and padding in the config, which
    `generate` reads.

    Args:
        model: of language or translation, whose inner model is of Transformers.
        folder: made if it is missing.
        planes_BPL: texts that both are asked about.
        tokens: who makes its tokens.

    Raises:
        ExportError: the model is not of Transformers, or what was written answers otherwise.
    """
    inner = getattr(model, "model", None)
    if not isinstance(inner, nn.Module) or not hasattr(inner, "save_pretrained"):
        raise ExportError(
            f"A {type(model).__name__} is no model of Transformers, so `hf` cannot write it; leave "
            "`hf` out of `export`."
        )
    written = cast("Any", merged(inner) if has_adapters(inner) else inner)
    if tokens is not None:
        _tell_marks(written, tokens)
        tokens.save(folder)
    written.save_pretrained(str(folder))
    if isinstance(model, SpeechWriter):
        return _reopened_speech(model, folder, planes_BPL)
    transformers = need("transformers", extra="text")
    writes_another = bool(getattr(written.config, "is_encoder_decoder", False))
    auto = (
        transformers.AutoModelForSeq2SeqLM if writes_another else transformers.AutoModelForCausalLM
    )
    again = auto.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    return _compared(lambda: model(planes_BPL), type(model)(again), model, planes_BPL)


def _reopened_speech(model: SpeechWriter, folder: Path, planes_B2L: Tensor) -> Reopened:
    """With its feature extractor, which at 16 kHz is Whisper's own; the first token is compared."""
    transformers, front = need("transformers", extra="text"), model.front
    seconds, rest = divmod(front.samples, front.sampling_rate)
    if not rest:
        transformers.WhisperFeatureExtractor(
            feature_size=front.bands_KM.shape[1],
            sampling_rate=front.sampling_rate,
            hop_length=front.hop,
            chunk_length=seconds,
            n_fft=front.size,
        ).save_pretrained(str(folder))
    inner = transformers.WhisperForConditionalGeneration.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True
    )
    again = SpeechWriter(inner, sampling_rate=front.sampling_rate)
    with evaluating(model), evaluating(again), torch.no_grad():
        mine, theirs = model(planes_B2L)[:, 0], again(planes_B2L)[:, 0]
    return _reopened(mine, theirs)


def _tell_marks(inner: Any, tokens: Tokens) -> None:  # noqa: ANN401  of Transformers
    tokenizer = tokens.tokenizer
    for mark in ("bos_token_id", "eos_token_id", "pad_token_id"):
        number = getattr(tokenizer, mark, None)
        if number is not None:
            setattr(inner.config, mark, number)
            if getattr(inner, "generation_config", None) is not None:
                setattr(inner.generation_config, mark, number)


def _compared(
    ask: Callable[[], Tensor], again: nn.Module, model: nn.Module, planes_BPL: Tensor
) -> Reopened:
    with evaluating(model), evaluating(again), torch.no_grad():
        kept_BL = planes_BPL[:, 3 if planes_BPL.shape[1] == PAIRED else 1].bool()
        mine, theirs = ask()[kept_BL], again(planes_BPL)[kept_BL]
    return _reopened(mine, theirs)


def _reopened(mine: Tensor, theirs: Tensor) -> Reopened:
    scale = float((mine.amax(-1) - mine.mean(-1)).abs().mean().clamp_min(1e-6))
    relative = float((mine - theirs).abs().max()) / scale
    if not relative <= BOUND:
        raise ExportError(
            f"The model that was written answers otherwise by {relative:.2g} of its range, more "
            f"than {BOUND:g}; report this with the model's type."
        )
    agreement = float((mine.argmax(-1) == theirs.argmax(-1)).float().mean())
    return Reopened(positions=len(mine), relative=relative, bound=BOUND, agreement=agreement)
