"""Models that hear, chunk by chunk: their streaming files, and how long one chunk takes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from potstill.export.streaming import (
    Hearing,
    OnnxListener,
    check_streaming,
    export_streaming,
    initial_state,
)
from potstill.measure.latency import ENGINE, Runner, Timing, measure_latency
from potstill.pipeline.workshop import Workshop

HEARD = 8
"""Test sounds that are heard one after the other to compare file and model."""


def export_streams(
    shop: Workshop, modules: Mapping[str, nn.Module], folder: Path
) -> dict[str, dict[str, object]]:
    """Write, check and time the streaming file of every model that hears; nothing of others."""
    hearing = {role: module for role, module in modules.items() if isinstance(module, Hearing)}
    measuring, data = shop.experiment.measuring, shop.experiment.data
    if not hearing or "onnx" not in shop.experiment.export:
        return {}
    waves = data.test.inputs[:HEARD, 0].numpy()
    found: dict[str, dict[str, object]] = {}
    runners, hop = {}, 0
    for role, module in hearing.items():
        path = folder / f"{role}-streaming.onnx"
        hop, num_frames = export_streaming(
            module,
            path,
            samples=waves.shape[1],
            hop_ms=measuring.hop_ms,
            scale=data.normalise.scale,
        )
        state = initial_state(module, num_frames)
        np.savez(
            folder / f"{role}-streaming.npz", samples=state[0].numpy(), frames=state[1].numpy()
        )
        listener = OnnxListener(path, *state, threads=measuring.threads)
        found[role] = dict(
            check_streaming(
                module,
                listener,
                waves,
                hop=hop,
                num_frames=num_frames,
                scale=data.normalise.scale,
            )
        )
        runners[role] = Runner(call=listener.hear, engine=ENGINE)
    chunks = waves[:, : waves.shape[1] // hop * hop].reshape(-1, hop).astype(np.float32)
    timing = Timing(threads=measuring.threads, seconds_budget=measuring.seconds)
    for role, record in measure_latency(runners, chunks, timing=timing).items():
        hop_ms = found[role]["hop_ms"]
        assert isinstance(hop_ms, float)
        found[role] |= {
            "p50": record["p50"],
            "p95": record["p95"],
            "real_time_factor": record["p50"] / hop_ms,
            "file": f"export/{role}-streaming.onnx",
        }
    return found
