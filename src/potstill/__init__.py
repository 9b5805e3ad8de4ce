"""Potstill: knowledge distillation from a teacher to a measured student."""

__version__ = "0.1.0"
