"""Causal language models of Hugging Face Transformers: from a folder, the hub, or a type.

They are asked for the states that go into their head, so that the head can be computed for some
positions and some rows at a time. For taps, layers are called `model.<name in Transformers>`, such
as `model.model.layers.0` (Llama, Qwen) or `model.transformer.h.0` (GPT-2).

Shapes: B texts, P planes (token ids, attention mask, of packed texts places), L positions, D
features, V tokens of the vocabulary.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError, need
from potstill.functional.heads import ShapedLinear
from potstill.models.adapters import adapt
from potstill.models.config import Json, ModelConfig
from potstill.models.hub import (
    DECIDED,
    described,
    flag,
    refuse_missing_folder,
    refuse_remote_code,
    settings_of,
)
from potstill.models.logit_shapes import check_logits, shape_of_model
from potstill.models.options import nearest, refuse_unknown
from potstill.models.trimmed import OPTION as KEPT
from potstill.models.trimmed import cut_tokens, kept_of
from potstill.runtime.texts import MASK, PLACES
from potstill.signals import Batch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PURPOSE = "causal_lm"
_OPTIONS = (
    "pretrained",
    "config_only",
    "model_type",
    "config",
    "lora",
    "dtype",
    "trust_remote_code",
    KEPT,
)


@final
class LanguageModel(nn.Module):
    """A causal language model of Transformers as a model of tokens (`protocols.TokenModel`).

    Args:
        model: with a base model that gives `last_hidden_state` and a linear output layer.

    Raises:
        ModelError: the model has no linear head, or changes its logits in a way not known here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._shape = shape_of_model(model)

    @property
    def head(self) -> nn.Linear:
        """The layer from states to logits, with what the model does to each of them."""
        linear: nn.Linear = cast("Any", self.model).get_output_embeddings()
        return linear if self._shape.is_plain else ShapedLinear(linear, self._shape)

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        return cast("Any", self.model).config.to_diff_dict()  # type: ignore[no-any-return]

    def states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`."""
        return self.hidden(batch.inputs)

    def forward(self, planes_BPL: Tensor) -> Tensor:
        """All logits at once, `[B, L, V]`; for measuring and small models."""
        logits: Tensor = self.head(self.hidden(planes_BPL))
        return logits

    def hidden(self, planes_BPL: Tensor) -> Tensor:
        """`[B, L, D]`: the states of planes of tokens."""
        planes_BPL = planes_BPL.long()
        told: dict[str, Tensor] = {"attention_mask": planes_BPL[:, MASK]}
        if planes_BPL.shape[1] > PLACES:
            places_BL = planes_BPL[:, PLACES]
            told = {
                "attention_mask": _within_texts(places_BL, planes_BPL[:, MASK], self._is_eager),
                "position_ids": places_BL,
            }
        base = cast("Any", self.model).base_model
        said = base(input_ids=planes_BPL[:, 0], use_cache=False, **told)
        return torch.as_tensor(said.last_hidden_state)

    @property
    def _is_eager(self) -> bool:
        config = cast("Any", self.model).config
        return getattr(config, "_attn_implementation", None) not in ("sdpa", None)


def _within_texts(places_BL: Tensor, mask_BL: Tensor, additive: bool) -> Tensor:
    """`[B, 1, L, L]`: a token sees the tokens before it in its own text, and itself.

    A text begins wherever places begin again. What stands in the padding sees itself, so that no
    row of the softmax is empty.
    """
    texts_BL = (places_BL == 0).cumsum(-1)
    length = places_BL.shape[1]
    same_BLL = texts_BL[:, :, None] == texts_BL[:, None, :]
    before_LL = torch.ones(length, length, dtype=torch.bool, device=places_BL.device).tril()
    seen_BLL = same_BLL & before_LL & mask_BL.bool()[:, None, :]
    seen_BLL |= torch.eye(length, dtype=torch.bool, device=places_BL.device)
    seen_B1LL = seen_BLL[:, None]
    if not additive:
        return seen_B1LL
    lowest = torch.finfo(torch.float32).min
    return torch.zeros_like(seen_B1LL, dtype=torch.float32).masked_fill(~seen_B1LL, lowest)


def language_model_names() -> tuple[str, ...]:
    """The model types that predict the next token, for the option `model_type`."""
    auto = need("transformers.models.auto.modeling_auto", extra="text")
    return tuple(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build_language_model(config: ModelConfig, *, trust: bool) -> nn.Module:
    """A causal language model of Transformers.

    The name is a local folder, a hub id, or, with the option `model_type`, anything. Options are
    those of `build_huggingface`, `lora: {rank: 8}` (see `adapters`), and `dtype: bfloat16` for
    weights of half the size, of teachers above all. The vocabulary is that of the tokenizer unless
    the folder or `config: {vocab_size: …}` has a larger one.

    Raises:
        ModelError: for an unknown type or option, missing weights, or a vocabulary too small.
        UntrustedCode: if the model brings code of its own and the user did not allow it.
        MissingExtra: if Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name)
    flags = {n: flag(config, n) for n in ("pretrained", "config_only", "trust_remote_code")}
    refuse_remote_code(config, asked=flags["trust_remote_code"], trust=trust)
    transformers = need("transformers", extra="text")
    auto = transformers.AutoModelForCausalLM
    fetch, remote = flags["pretrained"], flags["trust_remote_code"]
    dtype = _dtype(config)
    try:
        if "model_type" in config.options:
            inner = auto.from_config(_from_type(config), dtype=dtype)
        elif flags["config_only"]:
            settings = transformers.AutoConfig.from_pretrained(
                _place(config, fetch), local_files_only=not fetch, trust_remote_code=remote
            )
            inner = auto.from_config(settings, dtype=dtype, trust_remote_code=remote)
        else:
            inner, info = auto.from_pretrained(
                _place(config, fetch),
                dtype=dtype,
                local_files_only=not fetch,
                trust_remote_code=remote,
                output_loading_info=True,
            )
            _check_loaded(config, info)
    except ModelError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"Transformers could not build the language model `{config.name}` ({first}): check the "
            "folder or id and the options."
        ) from error
    cut_tokens(inner, kept_of(config))
    lora = config.options.get("lora")
    if isinstance(lora, Mapping):
        inner = adapt(inner, lora)
    elif lora is not None:
        raise ModelError(f"`lora` of `{config.name}` is {lora!r}; give a mapping: {{rank: 8}}.")
    model = LanguageModel(inner.train())
    check_logits(model.model, model.head)
    if model.head.out_features < config.num_outputs:
        raise ModelError(
            f"`{config.name}` has a vocabulary of {model.head.out_features} and the tokenizer "
            f"{config.num_outputs} tokens; use the model's own tokenizer (`data.tokenizer`)."
        )
    return model


def rebuildable_language_model(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same model described by its type and settings, so that no folder or hub is needed."""
    if not isinstance(model, LanguageModel) or flag(config, "trust_remote_code"):
        return config
    kept = {name: config.options[name] for name in ("lora", "dtype") if name in config.options}
    return described(model.settings(), config, kept=kept)


def _from_type(config: ModelConfig) -> "PretrainedConfig":
    """The defaults of a model type, with the user's changes and the data's vocabulary."""
    transformers = need("transformers", extra="text")
    kind, changes = str(config.options["model_type"]), config.options.get("config", {})
    if not isinstance(changes, Mapping):
        raise ModelError(f"The option `config` of `{config.name}` is {changes!r}, not a mapping.")
    known = language_model_names()
    if kind not in known:
        raise ModelError(
            f"Transformers has no causal language model of type `{kind}`: {nearest(kind, known)}"
        )
    defaults = transformers.AutoConfig.for_model(kind)
    refuse_unknown(changes, settings_of(kind) - DECIDED, model=kind)
    fitted: dict[str, Json] = {"vocab_size": config.num_outputs}
    marks = ("bos_token_id", "eos_token_id", "pad_token_id")  # of another vocabulary than ours
    fitted |= {mark: None for mark in marks if hasattr(defaults, mark)}
    return transformers.AutoConfig.for_model(kind, **{**fitted, **changes})


def _place(config: ModelConfig, fetch: bool) -> str:
    refuse_missing_folder(config, fetch=fetch)
    return config.name


def _check_loaded(config: ModelConfig, info: Mapping[str, Any]) -> None:
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing:
        raise ModelError(
            f"The weights of `{config.name}` lack {len(missing)} tensors of the language model, "
            f"such as `{missing[0]}`: use a causal language model."
        )


def _dtype(config: ModelConfig) -> torch.dtype:
    given = config.options.get("dtype", "float32")
    if given not in ("float32", "bfloat16"):
        raise ModelError(
            f"The option `dtype` of `{config.name}` is {given!r}; choose float32 or bfloat16."
        )
    return torch.bfloat16 if given == "bfloat16" else torch.float32
