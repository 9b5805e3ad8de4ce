"""Sentence encoders of Hugging Face Transformers: an encoder, a pooling of its states, a length.

Folders of Sentence Transformers say in `modules.json` how states are pooled; without one it is the
mean over tokens. Shapes: B texts, P planes, L positions, D features.
"""

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.hub import described, refuse_missing_folder, refuse_remote_code
from potstill.models.hushed import hushed
from potstill.models.options import refuse_unknown
from potstill.models.pooling import Pooling, pooled, said_pooling
from potstill.models.text import TextModel
from potstill.models.trimmed import OPTION as KEPT
from potstill.models.trimmed import cut_tokens, kept_of

_OPTIONS = (
    *("pretrained", "model_type", "config", "pooling", "normalise"),
    "trust_remote_code",
    KEPT,
)
_DECIDED = frozenset({"_name_or_path", "architectures", "dtype", "model_type"}) | {
    "transformers_version"
}


@final
class SentenceEncoder(TextModel):
    """Planes of tokens to embeddings `[B, D]`.

    Args:
        model: of Transformers, without a head; answers with `last_hidden_state`.
        pooling: over the tokens that are no padding.
        normalise: whether embeddings have length 1.
    """

    def __init__(self, model: nn.Module, *, pooling: Pooling | str, normalise: bool) -> None:
        super().__init__()
        self.model = model
        self.pooling, self.normalise = Pooling(pooling), normalise

    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """As in `TextModel`; models without token types are given none."""
        told = {"input_ids": ids_BL, "attention_mask": mask_BL}
        if types_BL is not None and getattr(self.model.config, "type_vocab_size", 0) > 1:
            told["token_type_ids"] = types_BL
        states_BLD = self.model(**told).last_hidden_state
        pooled_BD = pooled(states_BLD, mask_BL, self.pooling)
        return F.normalize(pooled_BD, dim=-1) if self.normalise else pooled_BD

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        config = getattr(self.model, "config")  # noqa: B009  typed as a tensor or a module
        settings: Mapping[str, Json] = config.to_diff_dict()
        return settings


def build_sentence_encoder(config: ModelConfig, *, trust: bool) -> SentenceEncoder:
    """A sentence encoder from a folder, from the hub, or from a type with random weights.

    Options: `pooling` is `auto` (what the folder says, else the mean), `mean`, `cls` or `max`;
    `normalise` is `auto` (what the folder says, else true), true or false; `pretrained`,
    `model_type`, `config` and `trust_remote_code` are as for classifiers.

    Raises:
        ModelError: an unknown option or module, no folder, or weights that do not load.
        UntrustedCode: if the model brings code of its own and the user did not allow it.
        MissingExtra: if Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name)
    remote_code = config.options.get("trust_remote_code") is True
    refuse_remote_code(config, asked=remote_code, trust=trust)
    pooling, normalise = said_pooling(config)
    try:
        with hushed():
            inner = _inner(config, remote_code=remote_code)
    except Exception as error:  # Transformers lets through whatever its parts raise
        if isinstance(error, ModelError):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"Transformers could not build the encoder `{config.name}` ({first}): check the folder "
            "or id and the options."
        ) from error
    cut_tokens(inner, kept_of(config))
    return SentenceEncoder(inner.train(), pooling=pooling, normalise=normalise)


def embedding_width(config: ModelConfig) -> int:
    """How many features the embeddings of an encoder have, read from its config alone.

    Raises:
        ModelError: it has none, or the config does not say.
    """
    transformers = need("transformers", extra="text")
    if "model_type" in config.options:
        found = _from_type(config)
    else:
        refuse_missing_folder(config, fetch=bool(config.options.get("pretrained")))
        found = transformers.AutoConfig.from_pretrained(
            config.name, local_files_only=not config.options.get("pretrained", False)
        )
    width = getattr(found, "hidden_size", None)
    if not isinstance(width, int):
        raise ModelError(
            f"The config of `{config.name}` names no `hidden_size`, so it is no encoder of texts; "
            "choose another model."
        )
    return width


def rebuildable_sentence_encoder(model: SentenceEncoder, config: ModelConfig) -> ModelConfig:
    """The same encoder described by its type and settings, so that no folder or hub is needed."""
    kept: dict[str, Json] = {"pooling": str(model.pooling), "normalise": model.normalise}
    return described(model.settings(), config, decided=_DECIDED, kept=kept)


def _inner(config: ModelConfig, *, remote_code: bool) -> nn.Module:
    transformers = need("transformers", extra="text")
    if "model_type" in config.options:
        made: nn.Module = transformers.AutoModel.from_config(
            _from_type(config), dtype=torch.float32
        )
        return made
    refuse_missing_folder(config, fetch=bool(config.options.get("pretrained")))
    loaded: nn.Module = transformers.AutoModel.from_pretrained(
        config.name,
        dtype=torch.float32,
        local_files_only=not config.options.get("pretrained", False),
        trust_remote_code=remote_code,
    )
    return loaded


def _from_type(config: ModelConfig) -> object:
    transformers = need("transformers", extra="text")
    changes = config.options.get("config", {})
    if not isinstance(changes, Mapping):
        raise ModelError(f"The option `config` of `{config.name}` is {changes!r}, not a mapping.")
    return transformers.AutoConfig.for_model(str(config.options["model_type"]), **changes)
