"""A detector from its config."""

from typing import Final

from torch import nn

from potstill.errors import ModelError
from potstill.models.config import ModelConfig
from potstill.models.detection.gfl import gfl
from potstill.models.options import nearest, read_options

DETECTION: Final = "detection"
"""The purpose of a model's config; named as the task is."""
_BUILTIN = {"gfl": gfl}


def detector_names(source: str = "builtin") -> tuple[str, ...]:
    """The names of the detectors of a source; of `hf`, the values of `model_type`."""
    match source:
        case "builtin":
            return tuple(_BUILTIN)
        case "torchvision":
            from potstill.models.detection.torchvision import FAMILIES

            return tuple(FAMILIES)
        case "hf":
            from potstill.models.detection.hugging import TYPES

            return tuple(TYPES)
    return ()


def build_detector(config: ModelConfig, *, trust: bool) -> nn.Module:
    """The detector that a config describes, with random weights unless it says otherwise.

    Raises:
        ModelError: an unknown name or option, or inputs that are no images.
        MissingExtra: torchvision or Transformers is not installed.
    """
    if len(config.input_shape) != 3:
        raise ModelError(
            f"A detector takes images (channels, height, width), and the input shape is "
            f"{config.input_shape}; use data source coco or voc."
        )
    match config.source:
        case "builtin" if config.name in _BUILTIN:
            build = _BUILTIN[config.name]
            options = read_options(build, config.options, model=config.name)
            return build(config.input_shape, config.num_outputs, **options)  # type: ignore[arg-type]
        case "builtin":
            raise ModelError(
                f"There is no builtin detector `{config.name}`: {nearest(config.name, _BUILTIN)}"
            )
        case "torchvision":
            from potstill.models.detection.torchvision import build_torchvision

            return build_torchvision(config)
        case "hf":
            from potstill.models.detection.hugging import build_hugging

            return build_hugging(config)
        case "python":
            from potstill.models.trusted import build_python

            return build_python(config, trust=trust)
    raise ModelError(
        f"A detector is of source builtin, torchvision, hf, file or python; `{config.name}` is of "
        f"source `{config.source}`."
    )
