"""Reading the inside of models: taps on named modules, projectors between unlike features."""

from potstill.features.layout import Layout
from potstill.features.pairing import AUTO, Trace, Wanted, paired
from potstill.features.projectors import Projector
from potstill.features.taps import known_layers, layer_names, tapped
from potstill.features.tracing import traced

__all__ = [
    "AUTO",
    "Layout",
    "Projector",
    "Trace",
    "Wanted",
    "known_layers",
    "layer_names",
    "paired",
    "tapped",
    "traced",
]
