"""Reading the inside of models: taps on named modules, projectors between unlike features."""

from potstill.features.layout import Layout
from potstill.features.projectors import Projector
from potstill.features.taps import known_layers, layer_names, tapped

__all__ = ["Layout", "Projector", "known_layers", "layer_names", "tapped"]
