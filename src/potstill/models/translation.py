"""Encoder-decoder models of Hugging Face Transformers: T5, Marian, BART and their kin.

They read one text and write another. The wrapper gives the states that go into the head, so that
the head is computed for asked positions alone, and it writes texts. For taps, layers are called
`model.<name in Transformers>`, such as `model.model.encoder.layers.0` (Marian, BART) or
`model.encoder.block.0` (T5).

Shapes: B pairs of texts, L positions, D features, V tokens of the vocabulary, T tokens written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError, UntrustedCode, need
from potstill.functional.tokens import shifted_right
from potstill.models.config import Json, ModelConfig
from potstill.models.options import nearest, refuse_unknown
from potstill.runtime.texts import PAIRED
from potstill.signals import Batch

PURPOSE = "seq2seq"
_OPTIONS = ("pretrained", "config_only", "model_type", "config", "trust_remote_code")
_DECIDED = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type"}
    | {"transformers_version", "torch_dtype"}
)
# Of tokenizers that a run trains (`data.vocabulary`): what begins, ends and pads a text.
_MARKS: Mapping[str, Json] = {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
    "bos_token_id": None,
}


@final
class TranslationModel(nn.Module):
    """An encoder-decoder of Transformers as a model of tokens (`protocols.TokenModel`).

    Its inputs are planes `[B, 4, L]`: the tokens read and where they stand, the tokens to be
    written and where they stand (see `data.tokens.Tokens.pairs`). The decoder is given what is to
    be written, moved to the right (teacher forcing).

    Args:
        model: for conditional generation, with a linear output layer.

    Raises:
        ModelError: the model has no linear head, or no token to begin with.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        inner, name = cast("Any", model), type(model).__name__
        if not isinstance(inner.get_output_embeddings(), nn.Linear):
            raise ModelError(
                f"{name} has no linear output layer, which losses on parts of the vocabulary need; "
                "choose another model."
            )
        if inner.config.decoder_start_token_id is None:
            raise ModelError(
                f"{name} does not say which token begins what it writes; set "
                "`config: {decoder_start_token_id: …}`."
            )

    @property
    def head(self) -> nn.Linear:
        """From states to logits; of models that add a bias to their logits, with that bias."""
        inner = cast("Any", self.model)
        plain: nn.Linear = inner.get_output_embeddings()
        bias_1V = getattr(inner, "final_logits_bias", None)
        if bias_1V is None:
            return plain
        with_bias = nn.Linear(plain.in_features, plain.out_features, bias=False, device="meta")
        with_bias.weight = plain.weight
        with_bias.bias = nn.Parameter(bias_1V[0], requires_grad=False)
        return with_bias

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        return cast("Any", self.model).config.to_diff_dict()  # type: ignore[no-any-return]

    def states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`: what goes into the head at each position that is to be written."""
        return self._states(batch.inputs)

    def forward(self, planes_BPL: Tensor) -> Tensor:
        """All logits at once, `[B, L, V]`; for measuring and small models."""
        return self.head(self._states(planes_BPL))

    @torch.no_grad()
    def write(self, planes_BPL: Tensor, *, beams: int = 1, each: int = 1, longest: int) -> Tensor:
        """What the model makes of the texts read, `[B * each, T]` int64 with padding.

        Equivalent to `model.generate`, which keeps keys and values of what is written already.

        Args:
            planes_BPL: `[B, 2 or more, L]`; what is to be written is not looked at.
            beams: of the search; 1 takes the likeliest token each time.
            each: how many of the beams are given back for each text, likeliest first.
            longest: at most so many tokens are written.
        """
        ids_BL, mask_BL = planes_BPL[:, 0].long(), planes_BPL[:, 1].long()
        size = max(1, int(mask_BL.sum(-1).max()))
        written: Tensor = cast("Any", self.model).generate(
            input_ids=ids_BL[:, :size],
            attention_mask=mask_BL[:, :size],
            num_beams=beams,
            num_return_sequences=each,
            do_sample=False,
            max_new_tokens=longest,
            max_length=None,
        )
        return written

    def _states(self, planes_BPL: Tensor) -> Tensor:
        if planes_BPL.shape[1] != PAIRED:
            raise ModelError(
                f"{type(self.model).__name__} reads one text and writes another: {PAIRED} planes "
                f"are expected, and the inputs have {planes_BPL.shape[1]}. Use data source `pairs`."
            )
        ids_BL, mask_BL, written_BL, _ = planes_BPL.long().unbind(1)
        inner = cast("Any", self.model)
        caught: list[Tensor] = []

        def catch(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            caught.append(args[0])
            return (args[0][:, :0],)

        # The model scales its states or not before its head; what the head is given is caught, and
        # the head is given no rows instead.
        handle = inner.get_output_embeddings().register_forward_pre_hook(catch)
        try:
            inner(
                input_ids=ids_BL,
                attention_mask=mask_BL,
                decoder_input_ids=shifted_right(written_BL, inner.config.decoder_start_token_id),
                use_cache=False,
            )
        finally:
            handle.remove()
        (states_BLD,) = caught
        return states_BLD


def translation_model_names() -> tuple[str, ...]:
    """The model types that read one text and write another, for the option `model_type`."""
    auto = need("transformers.models.auto.modeling_auto", extra="text")
    return tuple(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)


def build_translation_model(config: ModelConfig, *, trust: bool) -> nn.Module:
    """An encoder-decoder of Transformers.

    The name is a local folder, a hub id (with `pretrained: true`), or, with the option
    `model_type`, anything. `config_only: true` takes a folder's config and random weights.

    Raises:
        ModelError: for an unknown type or option, missing weights, or a vocabulary too small.
        UntrustedCode: if the model brings code of its own and the user did not allow it.
        MissingExtra: if Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name)
    fetch, bare, remote = (
        _flag(config, name) for name in ("pretrained", "config_only", "trust_remote_code")
    )
    if remote and not trust:
        raise UntrustedCode(
            f"`{config.name}` asks to run code that comes with the model: read it, then allow it "
            "with `--trust`, or drop `trust_remote_code`."
        )
    transformers = need("transformers", extra="text")
    auto = transformers.AutoModelForSeq2SeqLM
    told = {"local_files_only": not fetch, "trust_remote_code": remote}
    if "model_type" not in config.options and not fetch and not Path(config.name).is_dir():
        raise ModelError(
            f"There is no folder `{config.name}`, and nothing is fetched without being asked for: "
            "set `pretrained: true` to fetch it from the hub, or give `model_type` for random "
            "weights."
        )
    try:
        if "model_type" in config.options:
            inner = auto.from_config(_from_type(config), dtype=torch.float32)
        elif bare:
            settings = transformers.AutoConfig.from_pretrained(config.name, **told)
            inner = auto.from_config(settings, dtype=torch.float32, trust_remote_code=remote)
        else:
            inner, info = auto.from_pretrained(
                config.name, dtype=torch.float32, output_loading_info=True, **told
            )
            _check_loaded(config, info)
    except ModelError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"Transformers could not build the translation model `{config.name}` ({first}): check "
            "the folder or id and the options."
        ) from error
    model = TranslationModel(inner.train())
    if model.head.out_features < config.num_outputs:
        raise ModelError(
            f"`{config.name}` has a vocabulary of {model.head.out_features} and the tokenizer "
            f"{config.num_outputs} tokens; use the model's own tokenizer (`data.tokenizer`)."
        )
    return model


def rebuildable_translation_model(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same model described by its type and settings, so that no folder or hub is needed."""
    if not isinstance(model, TranslationModel) or _flag(config, "trust_remote_code"):
        return config
    settings: dict[str, Json] = dict(model.settings())
    kind = str(settings.pop("model_type"))
    settings = {name: value for name, value in settings.items() if name not in _DECIDED}
    return ModelConfig(
        source="hf",
        name=config.name,
        options={"model_type": kind, "config": settings},
        input_shape=config.input_shape,
        num_outputs=config.num_outputs,
        purpose=config.purpose,
    )


def _from_type(config: ModelConfig) -> object:
    """The defaults of a model type, with the user's changes and the data's vocabulary."""
    transformers = need("transformers", extra="text")
    kind, changes = str(config.options["model_type"]), config.options.get("config", {})
    if not isinstance(changes, Mapping):
        raise ModelError(f"The option `config` of `{config.name}` is {changes!r}, not a mapping.")
    known = translation_model_names()
    if kind not in known:
        raise ModelError(
            f"Transformers has no encoder-decoder of type `{kind}`: {nearest(kind, known)}"
        )
    defaults = transformers.AutoConfig.for_model(kind)
    refuse_unknown(changes, set(defaults.to_dict()) - _DECIDED | set(_MARKS), model=kind)
    fitted: dict[str, Json] = {"vocab_size": config.num_outputs, **_MARKS}
    if hasattr(defaults, "decoder_vocab_size"):
        fitted["decoder_vocab_size"] = config.num_outputs
    return transformers.AutoConfig.for_model(kind, **{**fitted, **changes})


def _check_loaded(config: ModelConfig, info: Mapping[str, Any]) -> None:
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing:
        raise ModelError(
            f"The weights of `{config.name}` lack {len(missing)} tensors of the encoder-decoder, "
            f"such as `{missing[0]}`: use a trained one."
        )


def _flag(config: ModelConfig, name: str) -> bool:
    value = config.options.get(name, False)
    if not isinstance(value, bool):
        raise ModelError(
            f"The option `{name}` of `{config.name}` is {value!r}; it must be true or false."
        )
    return value
