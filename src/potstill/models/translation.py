"""Where encoder-decoders come from: a folder, the hub, or a type with random weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.encoder_decoder import TranslationModel
from potstill.models.hub import (
    DECIDED,
    described,
    flag,
    refuse_missing_folder,
    refuse_remote_code,
    settings_of,
)
from potstill.models.options import nearest, refuse_unknown

PURPOSE = "seq2seq"
_OPTIONS = ("pretrained", "config_only", "model_type", "config", "trust_remote_code")
# Of tokenizers that a run trains (`data.vocabulary`): what begins, ends and pads a text.
_MARKS: Mapping[str, Json] = {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
    "bos_token_id": None,
}


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
        flag(config, name) for name in ("pretrained", "config_only", "trust_remote_code")
    )
    refuse_remote_code(config, asked=remote, trust=trust)
    transformers = need("transformers", extra="text")
    auto = transformers.AutoModelForSeq2SeqLM
    told = {"local_files_only": not fetch, "trust_remote_code": remote}
    if "model_type" not in config.options:
        refuse_missing_folder(config, fetch=fetch)
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
    if not isinstance(model, TranslationModel) or flag(config, "trust_remote_code"):
        return config
    return described(model.settings(), config)


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
    refuse_unknown(changes, settings_of(kind) - DECIDED, model=kind)
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
