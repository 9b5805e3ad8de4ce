"""Measuring models: quality, size, latency, energy, and the verdict over seeds.

    summary   mean, spread and interval over seeds      size     parameters, bytes, FLOPs, memory
    verdict   did the teacher help?                     latency  milliseconds on the real runtime
    quality   figures from arrays of logits             energy   watt-hours, marked as an estimate

Import the module you need; only `size` needs torch. Nothing here reads or writes a run folder.
"""
