"""Models in folders: `model.safetensors` beside the `config.json` that builds them again."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from potstill.errors import ModelError
from potstill.models.config import Json, ModelConfig
from potstill.models.hub import in_settings_of_today
from potstill.models.huggingface import rebuildable_huggingface
from potstill.models.initial import seeded
from potstill.models.language import PURPOSE as CAUSAL_LM
from potstill.models.language import rebuildable_language_model
from potstill.models.options import refuse_unknown
from potstill.models.pruned import SOURCE as PRUNED
from potstill.models.pruned import whole_config, with_whole
from potstill.models.reused import ReusedHead, plain_config, reused_config
from potstill.models.sentence import SentenceEncoder, rebuildable_sentence_encoder
from potstill.models.shrunken import rebuildable_shrunken
from potstill.models.sources import build
from potstill.models.translation import PURPOSE as SEQ2SEQ
from potstill.models.translation import rebuildable_translation_model
from potstill.models.weights import fit_weights, read_weights, write_weights
from potstill.models.whisper import PURPOSE as ASR
from potstill.models.whisper import rebuildable_speech_writer
from potstill.runtime.files import write_text

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_FILE_OPTIONS = ("architecture", "new_head")


def save_model(model: nn.Module, config: ModelConfig, folder: Path) -> Path:
    """Write weights and config to a folder that `load_model` reads, and return the weights' path.

    Each file is written under another name and renamed. The config says how to build the model
    with random weights: what came from a hub or a file is described by its architecture.

    Raises:
        StorageError: if the folder cannot be written to.
        ModelError: if the model's state holds something that is not a tensor.
    """
    weights, described = folder / WEIGHTS, folder / CONFIG
    text = json.dumps(_rebuildable(model, config).to_json(), indent=2) + "\n"
    write_weights(model, weights)
    write_text(described, text)
    return weights


def load_model(folder: Path, *, trust: bool = False) -> tuple[nn.Module, ModelConfig]:
    """The model that `save_model` wrote, in training mode on the CPU, and its config.

    Equivalent to building it from the config and copying the weights in.

    Raises:
        ModelError: if a file is missing or corrupt, or the weights do not fit.
        UntrustedCode: if the model is Python code and `trust` is false.
    """
    config = _read_config(folder)
    weights = read_weights(folder / WEIGHTS)
    with seeded(0):
        model = build(config, trust=trust)
    fit_weights(model, weights, origin=str(folder), num_outputs=config.num_outputs)
    return model, config


def load_file_source(config: ModelConfig, *, trust: bool) -> nn.Module:
    """The model that a config of source `file` names, with the inputs and outputs it asks for.

    The name is a folder that `save_model` wrote, or a file of weights with the option
    `architecture`: the source, name and options of the model that they are for. The option
    `new_head: true` keeps all but a last layer of other classes.

    Raises:
        ModelError: if nothing readable is there, or the weights do not fit.
        UntrustedCode: if the model is Python code and `trust` is false.
    """
    path = Path(config.name)
    new_head = config.options.get("new_head", False)
    if not isinstance(new_head, bool):
        raise ModelError(
            f"The option `new_head` of `{path}` is {new_head!r}; it must be true or false."
        )
    architecture = _architecture(config)
    weights = read_weights(path / WEIGHTS if path.is_dir() else path)
    model = build(architecture, trust=trust)
    fit_weights(model, weights, origin=str(path), num_outputs=config.num_outputs, new_head=new_head)
    return model


def _rebuildable(model: nn.Module, config: ModelConfig) -> ModelConfig:
    """The config without what needs a hub or a file that may be gone."""
    if isinstance(model, SentenceEncoder) and not config.options.get("trust_remote_code"):
        return rebuildable_sentence_encoder(model, config)
    match config.source:
        case "file":
            return _architecture(config)
        case _ if config.source == PRUNED:
            return with_whole(config, _rebuildable(model, whole_config(config)))
        case "reused":
            assert isinstance(model, ReusedHead), "its config says so"
            inner = _rebuildable(model.body, plain_config(config))
            width, factor = (int(str(config.options[key])) for key in ("width", "factor"))
            return reused_config(inner, width=width, factor=factor)
        case "hf" | "shrunken" if config.purpose == SEQ2SEQ:
            return rebuildable_translation_model(model, config)
        case "hf" | "shrunken" if config.purpose == ASR:
            return rebuildable_speech_writer(model, config)
        case "hf" | "shrunken" if config.purpose == CAUSAL_LM:
            return rebuildable_language_model(model, config)
        case "hf":
            return rebuildable_huggingface(model, config)
        case "shrunken":
            return rebuildable_shrunken(model, config)
        case "timm" | "torchvision":
            options = {
                k: v for k, v in config.options.items() if k not in ("pretrained", "new_head")
            }
            return replace(config, options=options)
    return config


def _architecture(config: ModelConfig) -> ModelConfig:
    """How to build the model of a `file` config."""
    if not config.name:
        raise ModelError(
            "A model of source `file` has no name; give its folder or file as `name`, for example "
            "{source: file, name: runs/digits/models/teacher/seed-0}."
        )
    refuse_unknown(config.options, _FILE_OPTIONS, model=config.name)
    path, given = Path(config.name), config.options.get("architecture")
    if given is None and path.is_dir():
        saved = _read_config(path)
        return replace(saved, input_shape=config.input_shape, num_outputs=config.num_outputs)
    if isinstance(given, Mapping):
        options = dict(given)
        source, name = options.pop("source", None), options.pop("name", None)
        if isinstance(source, str) and isinstance(name, str) and source != "file":
            return ModelConfig(
                source=source,
                name=name,
                options=options,
                input_shape=config.input_shape,
                num_outputs=config.num_outputs,
            )
    raise ModelError(
        f"{path} holds weights and no architecture: add the option `architecture` with `source`, "
        "`name` and the options of the model that they are for, such as "
        "{source: builtin, name: resnet20}."
    )


def _read_config(folder: Path) -> ModelConfig:
    path = folder / CONFIG
    try:
        record: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no {CONFIG}: give a folder written by Potstill, or a file of weights "
            "with the option `architecture`."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}): copy or write the folder again."
        ) from error
    if isinstance(record, dict) and "model_type" in record and "format" not in record:
        raise ModelError(
            f"{folder} was written by Transformers: use `source: hf` with this folder as name."
        )
    if not isinstance(record, dict):
        raise ModelError(f"{path} holds no mapping: copy or write the folder again.")
    config = ModelConfig.from_json(record)
    return replace(config, options=in_settings_of_today(config.options))
