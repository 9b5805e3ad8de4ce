"""The door: a model from its config, with random weights from a seed."""

from dataclasses import replace

from torch import nn

from potstill.models.config import ModelConfig
from potstill.models.exits import EXITS, with_exits
from potstill.models.initial import seeded
from potstill.models.resolution import RESOLUTION, at_resolution
from potstill.models.saved import load_file_source
from potstill.models.sources import build


def create_model(config: ModelConfig, *, seed: int = 0, trust: bool = False) -> nn.Module:
    """The model that a config describes, in training mode, on the CPU.

    Args:
        config: source, name, options, input shape and number of outputs. The option `exits` of any
            source names layers after which there is an early exit; `resolution`, of images, is
            the side in pixels to which they are made smaller first.
        seed: of the random weights; torch's global generator is left as it was.
        trust: whether code that the config names may run.

    Returns:
        A module from `[B, *input_shape]` to logits `[B, num_outputs]`.

    Raises:
        ModelError: if the name or an option is unknown, or input, output or weights do not fit.
        UntrustedCode: if the config names code and `trust` is false.
        MissingExtra: if the source's library is not installed.
    """
    if EXITS in config.options and config.source != "file":
        rest = {name: value for name, value in config.options.items() if name != EXITS}
        body = create_model(replace(config, options=rest), seed=seed, trust=trust)
        with seeded(seed + 1):
            return with_exits(
                body,
                config.options[EXITS],
                input_shape=config.input_shape,
                num_outputs=config.num_outputs,
            )
    if RESOLUTION in config.options and config.source != "file":
        rest = {name: value for name, value in config.options.items() if name != RESOLUTION}
        return at_resolution(
            replace(config, options=rest),
            config.options[RESOLUTION],
            lambda smaller: create_model(smaller, seed=seed, trust=trust),
        )
    with seeded(seed):
        if config.source == "file":
            return load_file_source(config, trust=trust)
        return build(config, trust=trust)
