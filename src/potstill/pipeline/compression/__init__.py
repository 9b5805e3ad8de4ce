"""Squeezing a finished run: all ways to one size, with and without the teacher."""

from potstill.pipeline.compression.options import USUAL, Compression, Quantised, Way
from potstill.pipeline.compression.running import RECORD, TABLE, compress_experiment

__all__ = [
    "RECORD",
    "TABLE",
    "USUAL",
    "Compression",
    "Quantised",
    "Way",
    "compress_experiment",
]
