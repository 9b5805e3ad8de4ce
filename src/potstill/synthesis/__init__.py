"""Images made from what a teacher knows, for students that have no data."""

from potstill.synthesis.making import DataFree, Method, make_images
from potstill.synthesis.statistics import NormStatistics

__all__ = ["DataFree", "Method", "NormStatistics", "make_images"]
