"""Encoder-decoders that hear and write: Whisper (Radford et al. 2022, arXiv:2212.04356), its kin.

The wrapper takes waves, makes the features that Whisper's encoder reads, and gives the states that
go into the head. What the encoder says may be handed in (`Batch.encoded`), so that a teacher and a
student with the same frozen encoder run it once.
Shapes: B sounds, L samples, M mel bands, S encoder positions, U tokens written, D features.
"""

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError, need
from potstill.functional.tokens import shifted_right
from potstill.models.config import Json, ModelConfig
from potstill.models.encoder_decoder import before_head
from potstill.models.hub import described, flag, refuse_missing_folder
from potstill.models.initial import check_positive
from potstill.models.options import refuse_unknown
from potstill.runtime.texts import MASK
from potstill.signals import Batch

PURPOSE = "asr"
_OPTIONS = ("pretrained", "model_type", "config", "sampling_rate", "freeze_encoder")
WINDOW, HOP = 0.025, 0.010  # seconds of a frame, and between frames


@final
class WhisperFront(nn.Module):
    """Log10-mel energies as Whisper's feature extractor makes them, of a fixed number of frames.

    Equivalent to `transformers.WhisperFeatureExtractor` at 16 kHz. A sound is padded with silence,
    or cut, to all that the encoder hears; of its energies, what lies more than 8 below the highest
    is raised to that, then 4 is added and all divided by 4.

    Args:
        sampling_rate: samples a second.
        mels: M.
        frames: of a window, two for each encoder position.
    """

    taper_W: Tensor
    bands_KM: Tensor

    def __init__(self, sampling_rate: int, *, mels: int, frames: int) -> None:
        super().__init__()
        check_positive("sampling_rate", sampling_rate)
        self.size, self.hop = round(WINDOW * sampling_rate), round(HOP * sampling_rate)
        self.sampling_rate, self.samples = sampling_rate, frames * self.hop
        audio = need("transformers.audio_utils", extra="text")
        bands_KM = audio.mel_filter_bank(
            self.size // 2 + 1,
            mels,
            0.0,
            sampling_rate / 2,
            sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("taper_W", torch.hann_window(self.size), persistent=False)
        self.register_buffer("bands_KM", torch.from_numpy(bands_KM).float(), persistent=False)

    def forward(self, wave_BL: Tensor) -> Tensor:
        """`[B, M, frames]`."""
        missing = self.samples - wave_BL.shape[1]
        wave_BL = nn.functional.pad(wave_BL, (0, missing))
        half = self.size // 2
        padded_BL = nn.functional.pad(wave_BL[:, None], (half, half), mode="reflect")[:, 0]
        frames_BTW = padded_BL.unfold(-1, self.size, self.hop)[:, :-1] * self.taper_W
        spectrum = torch.fft.rfft(frames_BTW)
        power = spectrum.real.square() + spectrum.imag.square()
        log_BTM = (power @ self.bands_KM).clamp(min=1e-10).log10()
        floor_B11 = log_BTM.amax(dim=(1, 2), keepdim=True) - 8.0
        return ((torch.maximum(log_BTM, floor_B11) + 4.0) / 4.0).transpose(1, 2)


@final
class SpeechWriter(nn.Module):
    """An encoder-decoder that hears, as a model of tokens (`protocols.TokenModel`).

    Its inputs are planes `[B, 2, L]`, the wave and where it stands; what is to be written is taken
    from the batch's labels, moved to the right (teacher forcing).

    Args:
        model: `WhisperForConditionalGeneration`.
        sampling_rate: of what it hears.
        freeze_encoder: the encoder is not trained and stays in eval mode.
    """

    def __init__(
        self, model: nn.Module, *, sampling_rate: int, freeze_encoder: bool = False
    ) -> None:
        super().__init__()
        self.model, self.frozen_encoder = model, freeze_encoder
        settings = cast("Any", model).config
        self.front = WhisperFront(
            sampling_rate, mels=settings.num_mel_bins, frames=2 * settings.max_source_positions
        )
        if freeze_encoder:
            self._encoder.requires_grad_(False)

    @property
    def head(self) -> nn.Linear:
        """From states to logits."""
        head: nn.Linear = cast("Any", self.model).get_output_embeddings()
        return head

    @property
    def _encoder(self) -> nn.Module:
        encoder: nn.Module = cast("Any", self.model).get_encoder()
        return encoder

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        return cast("Any", self.model).config.to_diff_dict()  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> "SpeechWriter":
        """Training mode, but for a frozen encoder."""
        super().train(mode)
        if self.frozen_encoder:
            self._encoder.eval()
        return self

    def encode(self, batch: Batch) -> Tensor:
        """`[B, S, D]`, what the encoder says, of a batch or as it was handed in."""
        if batch.encoded is not None:
            return batch.encoded
        wave_BL = batch.inputs[:, 0] * batch.inputs[:, MASK]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
            states_BSD: Tensor = self._encoder(self.front(wave_BL)).last_hidden_state
        return states_BSD

    def encoder_state(self) -> Mapping[str, Tensor]:
        """All that the encoder's answers depend on."""
        return {**self._encoder.state_dict(), "rate": torch.tensor(self.front.sampling_rate)}

    def states(self, batch: Batch) -> Tensor:
        """`[B, U, D]`: what goes into the head at each position that is to be written."""
        assert batch.labels is not None, "the task checks that there are labels"
        return self._states(self.encode(batch), batch.labels)

    def forward(self, planes_B2L: Tensor) -> Tensor:
        """The logits of the first token, `[B, 1, V]`; for measuring and small models."""
        encoded = self.encode(Batch(planes_B2L))
        nothing = torch.zeros(len(planes_B2L), 1, dtype=torch.int64, device=planes_B2L.device)
        logits: Tensor = self.head(self._states(encoded, nothing))
        return logits

    def _states(self, encoded_BSD: Tensor, labels_BU: Tensor) -> Tensor:
        inner = cast("Any", self.model)
        settings = inner.config
        written_BU = labels_BU.masked_fill(labels_BU < 0, settings.pad_token_id)
        outputs = need("transformers.modeling_outputs", extra="text").BaseModelOutput
        return before_head(
            inner,
            encoder_outputs=outputs(last_hidden_state=encoded_BSD),
            decoder_input_ids=shifted_right(written_BU, settings.decoder_start_token_id),
            use_cache=False,
        )

    @torch.no_grad()
    def write(self, planes_BPL: Tensor, *, beams: int = 1, each: int = 1, longest: int) -> Tensor:
        """What the model hears, `[B * each, U]` int64, padded; see `TranslationModel.write`."""
        inner = cast("Any", self.model)
        wave_BL = (planes_BPL[:, 0] * planes_BPL[:, MASK]).to(next(self.parameters()).dtype)
        places = int(inner.config.max_target_positions)
        # the plain search: Whisper's own `generate` is for its languages and timestamps
        generation = need("transformers", extra="text").GenerationMixin
        written: Tensor = generation.generate(
            inner,
            input_features=self.front(wave_BL),
            num_beams=beams,
            num_return_sequences=each,
            do_sample=False,
            max_new_tokens=min(longest, places - 1),
            max_length=None,
        )
        return written


def build_speech_writer(config: ModelConfig) -> SpeechWriter:
    """A Whisper-like model: a local folder, a hub id (`pretrained: true`), or random weights.

    With `model_type: whisper` the name is anything and `config` holds sizes; the vocabulary is the
    data's, and the encoder hears as much as the longest sound.

    Raises:
        ModelError: for an unknown type or option, or a sampling rate that the weights do not suit.
        MissingExtra: if Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name)
    transformers = need("transformers", extra="text")
    rate, frozen = config.options.get("sampling_rate"), flag(config, "freeze_encoder")
    if type(rate) is not int:
        raise ModelError(f"`{config.name}` needs `sampling_rate`, a whole number; got {rate!r}.")
    if "model_type" in config.options:
        inner = transformers.WhisperForConditionalGeneration(_from_type(config, rate))
    else:
        fetch = flag(config, "pretrained")
        refuse_missing_folder(config, fetch=fetch)
        inner = transformers.WhisperForConditionalGeneration.from_pretrained(
            config.name, dtype=torch.float32, local_files_only=not fetch
        )
    if inner.config.vocab_size < config.num_outputs:
        raise ModelError(
            f"`{config.name}` has a vocabulary of {inner.config.vocab_size} and the tokenizer "
            f"{config.num_outputs} tokens; use the model's own tokenizer (`data.tokenizer`)."
        )
    return SpeechWriter(inner.train(), sampling_rate=rate, freeze_encoder=frozen)


def rebuildable_speech_writer(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same model described by its type and settings."""
    assert isinstance(model, SpeechWriter)
    kept: dict[str, Json] = {"sampling_rate": model.front.sampling_rate}
    if model.frozen_encoder:
        kept["freeze_encoder"] = True
    return described(model.settings(), config, kept=kept)


def _from_type(config: ModelConfig, rate: int) -> object:
    transformers = need("transformers", extra="text")
    kind, changes = config.options["model_type"], config.options.get("config", {})
    if kind != "whisper" or not isinstance(changes, Mapping):
        raise ModelError(
            f"`model_type: {kind}` cannot hear; use `whisper`, with a mapping under `config`."
        )
    defaults = transformers.WhisperConfig()
    refuse_unknown(changes, set(defaults.to_dict()), model="whisper")
    frames = -(-config.input_shape[1] // round(HOP * rate))
    fitted: dict[str, Json] = {
        "vocab_size": config.num_outputs,
        "max_source_positions": -(-frames // 2),
        "max_target_positions": 64,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    return transformers.WhisperConfig(**{**fitted, **changes})
