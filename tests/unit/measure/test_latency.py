"""Timing in turns: order, budget, batches, and ONNX Runtime on a file built by hand."""

import gc
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from potstill.errors import DataError, ExportError
from potstill.measure.latency import (
    Runner,
    Timing,
    measure_callable,
    measure_latency,
    measure_onnx,
)


def write_matmul(path: Path, *, width: int) -> Path:
    """`logits = input @ W`, the smallest model there is."""
    weight = helper.make_tensor(
        "w", TensorProto.FLOAT, [4, width], np.ones(4 * width, dtype=np.float32)
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, str(path))
    return path


def samples(rows: int) -> np.ndarray:
    return np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)


def test_models_are_timed_in_turns() -> None:
    calls: list[str] = []
    runners = {
        name: Runner(call=lambda _, name=name: calls.append(name), engine="test") for name in "ab"
    }

    measure_latency(runners, samples(8), timing=Timing(repeats=15, warmup=0))

    # one untimed and five timed calls a turn; the order turns round
    assert "".join(calls) == ("a" * 6 + "b" * 6) + ("b" * 6 + "a" * 6) + ("a" * 6 + "b" * 6)


def test_a_record_says_how_it_was_made() -> None:
    record = measure_callable(
        lambda _: None, samples(8), engine="sklearn", timing=Timing(batch=4, threads=2, repeats=20)
    )

    assert record["p50"] <= record["p95"]
    assert (record["batch"], record["threads"], record["repeats"]) == (4, 2, 20)
    assert (record["engine"], record["version"]) == ("sklearn", None)


def test_milliseconds_are_milliseconds() -> None:
    record = measure_callable(
        lambda _: time.sleep(0.005),
        samples(1),
        engine="sleep",
        timing=Timing(repeats=10, warmup=0),
    )

    assert record["p50"] >= 5.0
    assert record["p50"] < 1000.0


def test_the_slower_of_two_is_seen_as_slower() -> None:
    runners = {
        "slow": Runner(call=lambda _: time.sleep(0.004), engine="sleep"),
        "fast": Runner(call=lambda _: time.sleep(0.0005), engine="sleep"),
    }

    records = measure_latency(runners, samples(1), timing=Timing(repeats=15, warmup=1))

    assert records["slow"]["p50"] > records["fast"]["p50"]


def test_the_budget_ends_it_after_three_turns_at_the_earliest() -> None:
    record = measure_callable(
        lambda _: None,
        samples(1),
        engine="test",
        timing=Timing(repeats=10_000, warmup=0, seconds_budget=0.0),
    )

    assert record["repeats"] == 15


def test_batches_are_whole_and_come_from_the_samples_in_rotation() -> None:
    seen: list[list[float]] = []

    measure_callable(
        lambda batch: seen.append(list(batch[:, 0])),
        samples(5),
        engine="test",
        timing=Timing(batch=2, repeats=5, warmup=0),
    )

    assert {tuple(rows) for rows in seen} == {(0.0, 4.0), (8.0, 12.0)}


def test_too_few_samples_are_repeated() -> None:
    shapes: list[tuple[int, ...]] = []

    measure_callable(
        lambda batch: shapes.append(batch.shape),
        samples(3),
        engine="test",
        timing=Timing(batch=8, repeats=1, warmup=0),
    )

    assert set(shapes) == {(8, 4)}


def test_the_garbage_collector_rests_and_comes_back() -> None:
    states: list[bool] = []

    measure_callable(
        lambda _: states.append(gc.isenabled()),
        samples(1),
        engine="test",
        timing=Timing(repeats=1, warmup=0),
    )

    assert not any(states)
    assert gc.isenabled()


def test_onnx_files_are_timed(tmp_path: Path) -> None:
    files = {
        name: write_matmul(tmp_path / f"{name}.onnx", width=w) for name, w in [("a", 2), ("b", 3)]
    }

    records = measure_onnx(files, samples(4), timing=Timing(repeats=20, warmup=2))

    assert set(records) == {"a", "b"}
    assert all(r["engine"] == "onnxruntime" and r["version"] for r in records.values())
    assert all(0 < r["p50"] <= r["p95"] for r in records.values())


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="0 samples"):
        measure_callable(lambda _: None, samples(0), engine="test")


@pytest.mark.parametrize("content", [None, b"this is no model"])
def test_a_file_that_cannot_be_run_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ExportError, match=r"model\.onnx"):
        measure_onnx({"a": path}, samples(1))
