"""Random numbers of samples; they live below the data, since terms of objectives draw too."""

from potstill.functional.draws import Draws, mix64

__all__ = ["Draws", "mix64"]
