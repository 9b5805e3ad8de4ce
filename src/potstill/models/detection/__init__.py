"""Models that find things in pictures: a small builtin one, torchvision's, Transformers'."""

from potstill.models.detection.build import DETECTION, build_detector, detector_names

__all__ = ["DETECTION", "build_detector", "detector_names"]
