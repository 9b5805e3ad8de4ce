"""The door: a model from its config, with random weights from a seed."""

from torch import nn

from potstill.models.config import ModelConfig
from potstill.models.initial import seeded
from potstill.models.saved import load_file_source
from potstill.models.sources import build


def create_model(config: ModelConfig, *, seed: int = 0, trust: bool = False) -> nn.Module:
    """The model that a config describes, in training mode, on the CPU.

    Args:
        config: source, name, options, input shape and number of outputs.
        seed: of the random weights; torch's global generator is left as it was.
        trust: whether code that the config names may run.

    Returns:
        A module from `[B, *input_shape]` to logits `[B, num_outputs]`.

    Raises:
        ModelError: if the name or an option is unknown, or input, output or weights do not fit.
        UntrustedCode: if the config names code and `trust` is false.
        MissingExtra: if the source's library is not installed.
    """
    with seeded(seed):
        if config.source == "file":
            return load_file_source(config, trust=trust)
        return build(config, trust=trust)
