"""From a config to a model whose weights are random (or the library's own): one source a line."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.builtin import build_builtin, builtin_names
from potstill.models.config import ModelConfig
from potstill.models.detection import DETECTION, build_detector
from potstill.models.huggingface import build_huggingface, huggingface_names
from potstill.models.language import PURPOSE as CAUSAL_LM
from potstill.models.language import build_language_model
from potstill.models.options import nearest
from potstill.models.pruned import SOURCE as PRUNED
from potstill.models.pruned import build_pruned
from potstill.models.reused import SOURCE as REUSED
from potstill.models.reused import build_reused
from potstill.models.rule_students import FITTERS, build_rules
from potstill.models.sentence import build_sentence_encoder
from potstill.models.shrunken import SOURCE as SHRUNKEN
from potstill.models.shrunken import build_shrunken, teacher_of
from potstill.models.translation import PURPOSE as SEQ2SEQ
from potstill.models.translation import build_translation_model
from potstill.models.trusted import build_python
from potstill.models.vision import build_timm, build_torchvision, timm_names, torchvision_names
from potstill.models.whisper import PURPOSE as ASR
from potstill.models.whisper import build_speech_writer

_MADE = (SHRUNKEN, REUSED, PRUNED)  # of other models
_SOURCES = ("builtin", "timm", "torchvision", "hf", "file", "python", "sklearn", *_MADE)
_OWN: Mapping[str, Callable[[ModelConfig], nn.Module]] = {
    "builtin": build_builtin,
    "sklearn": build_rules,
}
_NAMES: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "builtin": builtin_names,
    "timm": timm_names,
    "torchvision": torchvision_names,
    "hf": huggingface_names,
    "sklearn": lambda: tuple(FITTERS),
}


def available(source: str) -> tuple[str, ...]:
    """The names that a source knows; none for sources whose names are paths.

    For `hf` they are the values of the option `model_type`.

    Raises:
        ModelError: for an unknown source.
        MissingExtra: if the source's library is not installed.
    """
    _check_source(source)
    return _NAMES[source]() if source in _NAMES else ()


def build(config: ModelConfig, *, trust: bool) -> nn.Module:
    """A model of any source but `file`, in training mode, its answer checked on zeros.

    Takes random weights from the global generator: call it within `seeded`.

    Raises:
        ModelError: if it cannot be built, or does not answer with `[B, num_outputs]`.
        UntrustedCode: if it needs code to run that the user did not allow.
        MissingExtra: if the source's library is not installed.
    """
    _check_source(config.source)
    if config.purpose in _BY_PURPOSE:
        return _BY_PURPOSE[config.purpose](config, trust=trust).train()
    if config.source == "hf" and config.purpose == CAUSAL_LM:
        return build_language_model(config, trust=trust).train()
    if config.source in _OWN:
        return _OWN[config.source](config)
    match config.source:
        case "timm":
            model = build_timm(config)
        case "torchvision":
            model = build_torchvision(config)
        case "hf" if "pooling" in config.options:
            return build_sentence_encoder(config, trust=trust)  # its width is its own
        case "hf":
            model = build_huggingface(config, trust=trust)
        case "shrunken" if config.purpose == CAUSAL_LM:
            return _language_student(config, trust=trust).train()
        case "shrunken" | "reused" | "pruned":
            model = _REBUILD[config.source](config, lambda inner: build(inner, trust=trust))
        case "python":
            model = build_python(config, trust=trust)
        case _:
            raise ModelError(
                f"`{config.name}` of source `{config.source}` holds weights and no architecture: "
                "name the builtin, timm, torchvision, hf or python model that they are for."
            )
    if not config.purpose:  # others do not answer one row a sample
        check_answer(model, config)
    return model.train()


def _language_student(config: ModelConfig, *, trust: bool) -> nn.Module:
    from potstill.models.language_students import build_language_student  # which creates models

    options = dict(config.options)
    teacher = build(teacher_of(config, options.pop("teacher")), trust=trust)
    return build_language_student(teacher, config.name, options)


def _speech_writer(config: ModelConfig, *, trust: bool) -> nn.Module:
    match config.source:
        case "hf":
            return build_speech_writer(config)
        case "shrunken":
            return build_shrunken(config, lambda teacher: build(teacher, trust=trust))
        case _:
            raise ModelError(
                f"Models that hear and write are of source `hf`, `file` or, of students, "
                f"`teacher`; `{config.name}` is of source `{config.source}`."
            )


def _translation_model(config: ModelConfig, *, trust: bool) -> nn.Module:
    match config.source:
        case "hf":
            return build_translation_model(config, trust=trust)
        case "shrunken":
            return build_shrunken(config, lambda teacher: build(teacher, trust=trust))
        case _:
            raise ModelError(
                f"Models that write texts are of source `hf`, `file` or, of students, `teacher`; "
                f"`{config.name}` is of source `{config.source}`."
            )


def check_answer(model: nn.Module, config: ModelConfig) -> None:
    """Ask the model about two samples of zeros and refuse any answer but `[2, num_outputs]`.

    Raises:
        ModelError: if it fails on such inputs, or its answer has another type or shape.
    """
    expected = (2, config.num_outputs)
    parameter = next(model.parameters(), None)
    zeros = torch.zeros(
        2, *config.input_shape, device=None if parameter is None else parameter.device
    )
    try:
        with torch.no_grad():
            answer = model.eval()(zeros)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"`{config.name}` of {config.source} cannot take inputs of shape {config.input_shape} "
            f"({first}): change the model, its options, or the size of the data."
        ) from error
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"`{config.name}` of {config.source} answers with a {type(answer).__name__}; it must "
            f"answer with a tensor of logits of shape [batch, {config.num_outputs}]."
        )
    if answer.shape != expected:
        raise ModelError(
            f"`{config.name}` of {config.source} answers two samples with shape "
            f"{list(answer.shape)}; {list(expected)} is needed: check its number of outputs."
        )


def _check_source(source: str) -> None:
    if source not in _SOURCES:
        raise ModelError(f"There is no source of models `{source}`: {nearest(source, _SOURCES)}")


_REBUILD: Mapping[str, Callable[..., nn.Module]] = {
    SHRUNKEN: build_shrunken,
    REUSED: build_reused,
    PRUNED: build_pruned,
}
_BY_PURPOSE: Mapping[str, Callable[..., nn.Module]] = {
    DETECTION: build_detector,
    SEQ2SEQ: _translation_model,
    ASR: _speech_writer,
}
