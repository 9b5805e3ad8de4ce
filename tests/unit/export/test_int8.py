"""Files in 8 bits: what they hold, what may stay in float32, that they still answer alike."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from potstill.errors import DataError, ExportError
from potstill.export.int8 import Calibration, layers_of, quantise_onnx
from potstill.export.onnx import export_onnx
from potstill.models.config import ModelConfig
from potstill.models.create import create_model


def rows(count: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(source="builtin", name="resnet8", input_shape=(1, 16, 16), num_outputs=5)
    path = tmp_path_factory.mktemp("plain") / "student.onnx"
    return export_onnx(create_model(config), torch.from_numpy(rows(2)), path, labels=list("abcde"))


def answers(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0]


def test_layers_are_named_as_in_the_student(plain: Path) -> None:
    named = layers_of(plain)

    assert named[:3] == ["stem.0", "layer1.0.body.0", "layer1.0.body.3"]
    assert named[-1] == "fc"


@pytest.mark.parametrize("calibration", list(Calibration))
def test_eight_bits_answer_nearly_alike(
    plain: Path, tmp_path: Path, calibration: Calibration
) -> None:
    small = quantise_onnx(plain, tmp_path / "i8.onnx", rows(), calibration=calibration)

    seen = rows(100, seed=1)
    expected, got = answers(plain, seen), answers(small, seen)
    assert 0 < np.abs(got - expected).max() < 0.15 * np.abs(expected).max()
    assert small.stat().st_size < 0.5 * plain.stat().st_size
    assert answers(small, seen[:1]).shape == (1, 5)


def test_weights_are_int8_a_channel(plain: Path, tmp_path: Path) -> None:
    graph = onnx.load(str(quantise_onnx(plain, tmp_path / "i8.onnx", rows()))).graph

    kinds = {tensor.name: tensor for tensor in graph.initializer}
    weights = [t for n, t in kinds.items() if n.endswith("_quantized") and len(t.dims) == 4]
    assert len(weights) == 9  # the convolutions of ResNet-8
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT8}
    assert {kinds[t.name.replace("_quantized", "_scale")].dims[0] for t in weights} == {16, 32, 64}
    assert Counter(n.op_type for n in graph.node)["QuantizeLinear"] > 9


def test_what_is_skipped_stays_in_float32(plain: Path, tmp_path: Path) -> None:
    graph = onnx.load(
        str(quantise_onnx(plain, tmp_path / "i8.onnx", rows(), skip=["layer1", "fc"]))
    ).graph

    whole = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert {"model.fc.weight", "model.layer1.0.body.0.weight"} <= whole
    assert "model.layer2.0.body.0.weight" not in whole


def test_the_notes_stay_and_say_the_precision(plain: Path, tmp_path: Path) -> None:
    proto = onnx.load(str(quantise_onnx(plain, tmp_path / "i8.onnx", rows())))

    notes = {entry.key: entry.value for entry in proto.metadata_props}
    assert notes["labels"] == '["a", "b", "c", "d", "e"]'
    assert notes["precision"] == "int8"


def test_a_layer_that_is_not_there_is_named(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no layer 'stem\.9' to skip; it has: stem\.0"):
        quantise_onnx(plain, tmp_path / "i8.onnx", rows(), skip=["stem.9"])


def test_rows_are_needed(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got none; pass training rows"):
        quantise_onnx(plain, tmp_path / "i8.onnx", rows(0))
    assert list(tmp_path.iterdir()) == []
