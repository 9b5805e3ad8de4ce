"""Classifiers and taggers of Hugging Face Transformers: from a folder, the hub, or a type.

Inputs of two dimensions (planes, tokens) are texts, of three images. The wrapper answers with the
tensor of logits. For taps, layers are called `model.<name in Transformers>`, such as
`model.vit.layers.0` or `model.bert.encoder.layer.0`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from potstill.errors import ModelError, need
from potstill.models.answering import (
    Described,
    HuggingFaceClassifier,
    HuggingFaceTagger,
    HuggingFaceTextClassifier,
)
from potstill.models.config import TAGGING, Json, ModelConfig
from potstill.models.hub import (
    described,
    flag,
    refuse_missing_folder,
    refuse_remote_code,
    settings_of,
)
from potstill.models.hushed import hushed
from potstill.models.options import nearest, refuse_unknown
from potstill.models.trimmed import OPTION as KEPT
from potstill.models.trimmed import cut_tokens, kept_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

AUTO: Mapping[object, str] = {
    HuggingFaceTagger: "AutoModelForTokenClassification",
    HuggingFaceTextClassifier: "AutoModelForSequenceClassification",
    HuggingFaceClassifier: "AutoModelForImageClassification",
}
"""Who makes the model that a wrapper holds."""

_OPTIONS = (
    *("pretrained", "config_only", "model_type", "config", "new_head"),
    "trust_remote_code",
    KEPT,
)

# What the data, the name or the library decide, and what only describes.
_DECIDED = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type", "num_labels"}
    | {"problem_type", "transformers_version"}
)


def huggingface_names(*, texts: bool = False, tags: bool = False) -> tuple[str, ...]:
    """The model types that classify images (or texts, or tokens), for the option `model_type`."""
    auto = need("transformers.models.auto.modeling_auto", extra="text")
    if tags:
        return tuple(auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES)
    if texts:
        return tuple(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    return tuple(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def build_huggingface(config: ModelConfig, *, trust: bool) -> nn.Module:
    """A classifier of images or texts of Transformers, wrapped so that it returns logits.

    The name is a local folder, a hub id, or, with the option `model_type`, anything. Options:
    `pretrained: true` allows fetching a hub id; `config_only: true` takes a folder's config and
    random weights; `model_type: vit` builds from the type's defaults, with random weights, changed
    by the mapping `config`; `new_head: true` starts a head of other classes anew;
    `trust_remote_code: true` runs code that comes with the model, with `--trust`.

    Raises:
        ModelError: for an unknown type or option, missing weights, or weights that do not fit.
        UntrustedCode: if the model brings code of its own and the user did not allow it.
        MissingExtra: if Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name)
    flags = {name: flag(config, name) for name in ("pretrained", "config_only", "new_head")}
    remote_code = flag(config, "trust_remote_code")
    refuse_remote_code(config, asked=remote_code, trust=trust)
    transformers = need("transformers", extra="text")
    with_weights = "model_type" not in config.options and not flags["config_only"]
    if "model_type" in config.options:
        settings = _from_type(config)
    else:
        settings = _from_folder_or_hub(config, remote_code=remote_code, fetch=flags["pretrained"])
    settings.num_labels = config.num_outputs
    wrapper = _wrapper(config)
    auto = getattr(transformers, AUTO[wrapper])
    try:
        if with_weights:
            with hushed():
                inner, info = auto.from_pretrained(
                    config.name,
                    config=settings,
                    dtype=torch.float32,
                    local_files_only=not flags["pretrained"],
                    ignore_mismatched_sizes=True,  # reported below
                    trust_remote_code=remote_code,
                    output_loading_info=True,
                )
        else:
            inner = auto.from_config(settings, dtype=torch.float32, trust_remote_code=remote_code)
            info = {}
    except Exception as error:
        raise _refused(config, error) from error
    _check_loaded(config, info, new_head=flags["new_head"])
    return wrapper(cut_tokens(inner, kept_of(config)).train())


def rebuildable_huggingface(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The same model described by its type and settings, so that no folder or hub is needed."""
    if not isinstance(model, Described) or flag(config, "trust_remote_code"):
        return config
    return described(model.settings(), config, decided=_DECIDED)


def _wrapper(config: ModelConfig) -> Callable[[nn.Module], nn.Module]:
    if config.purpose == TAGGING:
        return HuggingFaceTagger
    return HuggingFaceTextClassifier if _are_texts(config) else HuggingFaceClassifier


def _are_texts(config: ModelConfig) -> bool:
    return len(config.input_shape) == 2


def _from_type(config: ModelConfig) -> "PretrainedConfig":
    """The defaults of a model type, with the user's changes, fitted to the data."""
    transformers = need("transformers", extra="text")
    kind, changes = str(config.options["model_type"]), config.options.get("config", {})
    if not isinstance(changes, Mapping):
        raise ModelError(f"The option `config` of `{config.name}` is {changes!r}, not a mapping.")
    known = huggingface_names(texts=_are_texts(config), tags=config.purpose == TAGGING)
    if kind not in known:
        what = "text" if _are_texts(config) else "image"
        raise ModelError(
            f"Transformers has no {what} classifier of type `{kind}`: {nearest(kind, known)}"
        )
    defaults = transformers.AutoConfig.for_model(kind)
    refuse_unknown(changes, settings_of(kind) - _DECIDED, model=kind)
    fitted: dict[str, Json] = {}
    if len(config.input_shape) == 3:
        channels, height, width = config.input_shape
        size: Json = height if height == width else [height, width]
        fitted = {"num_channels": channels, "image_size": size}
    fitted = {name: value for name, value in fitted.items() if hasattr(defaults, name)}
    try:
        return transformers.AutoConfig.for_model(kind, **{**fitted, **changes})
    except Exception as error:
        raise _refused(config, error) from error


def _from_folder_or_hub(
    config: ModelConfig, *, remote_code: bool, fetch: bool
) -> "PretrainedConfig":
    transformers = need("transformers", extra="text")
    refuse_missing_folder(config, fetch=fetch)
    try:
        return transformers.AutoConfig.from_pretrained(
            config.name, local_files_only=not fetch, trust_remote_code=remote_code
        )
    except Exception as error:
        raise _refused(config, error) from error


def _check_loaded(
    config: ModelConfig, info: Mapping[str, Iterable[object]], *, new_head: bool
) -> None:
    """Refuse weights that left parts of the model at random, unless it is a new head's part."""
    misfits = [m for m in info.get("mismatched_keys", ()) if isinstance(m, tuple)]
    for name, found, wanted in misfits:
        is_head = wanted[0] == config.num_outputs and tuple(found[1:]) == tuple(wanted[1:])
        if not (new_head and is_head):
            step = (
                "use data with the same classes, or set `new_head: true` to start the last layer "
                "anew"
                if is_head
                else "drop the options that change its layers"
            )
            raise ModelError(
                f"The weights of `{config.name}` have `{name}` of shape {list(found)} and "
                f"{list(wanted)} is needed for {config.num_outputs} outputs: {step}."
            )
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing and not new_head:
        raise ModelError(
            f"The weights of `{config.name}` lack {len(missing)} tensors of the classifier, such "
            f"as `{missing[0]}`: use a fine-tuned one, or set `new_head: true` to train them."
        )


def _refused(config: ModelConfig, error: Exception) -> ModelError:
    first = str(error).strip().partition("\n")[0]
    return ModelError(
        f"Transformers could not build `{config.name}` with {config.num_outputs} outputs "
        f"({first}): check the folder or id and the options."
    )
