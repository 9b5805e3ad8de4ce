"""Sentence encoders of Hugging Face Transformers: an encoder, a pooling of its states, a length.

Folders of Sentence Transformers say in `modules.json` how states are pooled; without one it is the
mean over tokens. Shapes: B texts, P planes, L positions, D features.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError, UntrustedCode, need
from potstill.models.config import Json, ModelConfig
from potstill.models.hushed import hushed
from potstill.models.options import refuse_unknown
from potstill.models.text import TextModel

_OPTIONS = ("pretrained", "model_type", "config", "pooling", "normalise", "trust_remote_code")
_SAID = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_DECIDED = frozenset({"_name_or_path", "architectures", "dtype", "model_type"}) | {
    "transformers_version"
}


class Pooling(StrEnum):
    """How the states of a text's tokens become one vector."""

    MEAN = "mean"
    CLS = "cls"  # the first token's
    MAX = "max"


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


def pooled(states_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """`[B, D]` of the states at the positions where the mask is 1."""
    if pooling is Pooling.CLS:
        return states_BLD[:, 0]
    kept_BL1 = mask_BL[:, :, None].to(states_BLD.dtype)
    if pooling is Pooling.MAX:
        return states_BLD.masked_fill(kept_BL1 == 0, torch.finfo(states_BLD.dtype).min).amax(dim=1)
    return (states_BLD * kept_BL1).sum(dim=1) / kept_BL1.sum(dim=1).clamp(min=1)


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
    if remote_code and not trust:
        raise UntrustedCode(
            f"`{config.name}` asks to run code that comes with the model: read it, then allow it "
            "with `--trust`, or drop `trust_remote_code`."
        )
    pooling, normalise = _said(config)
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
        _check_folder(config)
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
    settings: dict[str, Json] = dict(model.settings())
    kind = str(settings.pop("model_type"))
    return ModelConfig(
        source="hf",
        name=config.name,
        options={
            "model_type": kind,
            "config": {k: v for k, v in settings.items() if k not in _DECIDED},
            "pooling": str(model.pooling),
            "normalise": model.normalise,
        },
        input_shape=config.input_shape,
        num_outputs=config.num_outputs,
    )


def _inner(config: ModelConfig, *, remote_code: bool) -> nn.Module:
    transformers = need("transformers", extra="text")
    if "model_type" in config.options:
        made: nn.Module = transformers.AutoModel.from_config(
            _from_type(config), dtype=torch.float32
        )
        return made
    _check_folder(config)
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


def _check_folder(config: ModelConfig) -> None:
    if not config.options.get("pretrained", False) and not Path(config.name).is_dir():
        raise ModelError(
            f"There is no folder `{config.name}`, and nothing is fetched without being asked for: "
            "set `pretrained: true` to fetch it from the hub, or give `model_type` for random "
            "weights."
        )


def _said(config: ModelConfig) -> tuple[Pooling, bool]:
    """Pooling and length: what the options say, else what the folder says, else the usual."""
    pooling, normalise = config.options.get("pooling", "auto"), config.options.get("normalise")
    if pooling not in ("auto", *Pooling):
        raise ModelError(
            f"The option `pooling` of `{config.name}` is {pooling!r}; it must be auto, mean, cls "
            "or max."
        )
    if normalise not in (None, "auto", True, False):
        raise ModelError(
            f"The option `normalise` of `{config.name}` is {normalise!r}; it must be auto, true or "
            "false."
        )
    found, normal = Pooling.MEAN, True
    if pooling == "auto" or normalise in (None, "auto"):
        found, normal = _of_folder(config)
    return (
        found if pooling == "auto" else Pooling(str(pooling)),
        normal if normalise in (None, "auto") else bool(normalise),
    )


def _of_folder(config: ModelConfig) -> tuple[Pooling, bool]:
    modules = _read(config, "modules.json")
    if not isinstance(modules, list):
        return Pooling.MEAN, True
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    strange = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if strange:
        raise ModelError(
            f"`{config.name}` has a module of type {strange[0]}, which is not read: only a "
            "Transformer, a Pooling and a Normalize are; choose another encoder."
        )
    pooling = Pooling.MEAN
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            pooling = _pooling(config, f"{module.get('path', '')}/config.json")
    return pooling, "Normalize" in kinds


def _pooling(config: ModelConfig, file: str) -> Pooling:
    said = _read(config, file)
    modes = said if isinstance(said, dict) else {}
    chosen = modes.get("pooling_mode")
    on = [name for name, value in modes.items() if name.startswith("pooling_mode_") and value]
    names = [str(chosen)] if isinstance(chosen, str) else [_SAID.get(name, name) for name in on]
    if len(names) != 1 or names[0] not in tuple(Pooling):
        listed = ", ".join(names) or "none"
        raise ModelError(
            f"`{config.name}` pools by {listed}, and one of mean, cls and max is read; choose one "
            "with the option `pooling`."
        )
    return Pooling(names[0])


def _read(config: ModelConfig, file: str) -> Json:
    """A JSON file of a folder, or of a hub id that may be fetched; `None` if there is none."""
    path = Path(config.name) / file
    if config.options.get("pretrained", False) and not Path(config.name).is_dir():
        hub = need("transformers.utils.hub", extra="text")
        found = hub.cached_file(config.name, file, _raise_exceptions_for_missing_entries=False)
        if found is None:
            return None
        path = Path(found)
    if not path.is_file():
        return None
    read: Json = json.loads(path.read_text(encoding="utf-8"))
    return read
