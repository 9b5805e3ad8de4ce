"""Parity: an equal file passes with its figures, a different one does not."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from potstill.errors import DataError, ExportError
from potstill.export.onnx import export_onnx
from potstill.export.parity import check_parity


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers


def rows(count: int) -> Tensor:
    return torch.randn((count, 6), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    return export_onnx(network(), rows(2), path).read_bytes()


@pytest.fixture
def exported(content: bytes, tmp_path: Path) -> tuple[nn.Sequential, Path]:
    path = tmp_path / "student.onnx"
    path.write_bytes(content)
    return network(), path


def shift_weights(path: Path, by: float) -> None:
    """Change the file as a wrong conversion would."""
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor) + by
            tensor.CopyFrom(numpy_helper.from_array(values.astype("float32"), tensor.name))
    onnx.save_model(proto, str(path))


def test_an_equal_file_passes_with_its_figures(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported
    model.train()

    parity = check_parity(model, path, rows(100))

    assert parity["agreement"] == 1.0
    assert 0 <= parity["mean_difference"] <= parity["max_difference"]
    assert parity["relative"] == parity["max_difference"] / parity["scale"]
    assert parity["relative"] < 1e-5
    assert (parity["rows"], parity["batch_sizes"]) == (100, [1, 7, 64])
    assert json.loads(json.dumps(parity))["format"] == 1
    assert all(m.training for m in model)


def test_another_file_is_refused(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported
    shift_weights(path, by=0.01)

    with pytest.raises(ExportError, match=r"student\.onnx does not answer as the student does"):
        check_parity(model, path, rows(100))


def test_the_limit_is_relative_to_the_scale_of_the_logits(
    exported: tuple[nn.Sequential, Path],
) -> None:
    model, path = exported
    shift_weights(path, by=0.01)

    parity = check_parity(model, path, rows(100), max_difference=0.5, min_agreement=0.0)

    assert parity["scale"] > 1.0
    assert parity["relative"] < parity["max_difference"]


def test_small_logits_are_compared_at_their_own_scale(
    exported: tuple[nn.Sequential, Path],
) -> None:
    model, path = exported
    with torch.no_grad():
        for parameter in model[3].parameters():
            parameter.mul_(0.01)
    export_onnx(model, rows(2), path)

    parity = check_parity(model, path, rows(20))

    assert parity["scale"] < 0.5
    shift_weights(path, by=1e-4)  # little beside 1, much beside these logits
    with pytest.raises(ExportError, match="does not answer"):
        check_parity(model, path, rows(20))


def test_decisions_that_differ_are_refused(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported
    shift_weights(path, by=1.0)

    with pytest.raises(ExportError, match="decides as the student does on"):
        check_parity(model, path, rows(100), max_difference=100.0)


def test_regression_has_no_decisions(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported

    assert check_parity(model, path, rows(10), kind="regression")["agreement"] is None


def test_a_forgotten_normalisation_is_found(tmp_path: Path) -> None:
    class Shift(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs - 3.0

    model = network()
    path = export_onnx(model, rows(2), tmp_path / "a.onnx", normalise=Shift())

    assert check_parity(model, path, rows(20), normalise=Shift())["agreement"] == 1.0
    with pytest.raises(ExportError, match="does not answer"):
        check_parity(model, path, rows(20))


def test_a_student_of_nan_is_refused(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))

    with pytest.raises(ExportError, match="inf or NaN"):
        check_parity(model, path, rows(4))


def test_a_file_of_nan_is_refused(exported: tuple[nn.Sequential, Path]) -> None:
    model, path = exported
    shift_weights(path, by=float("nan"))

    with pytest.raises(ExportError, match="up to inf"):
        check_parity(model, path, rows(4))


def test_a_model_with_other_classes_is_refused(exported: tuple[nn.Sequential, Path]) -> None:
    _, path = exported

    with pytest.raises(ExportError, match=r"\(4, 3\).*\(4, 2\)"):
        check_parity(nn.Linear(6, 2), path, rows(4))


def test_inputs_of_another_shape_are_told(exported: tuple[nn.Sequential, Path]) -> None:
    _, path = exported

    with pytest.raises(ExportError, match="cannot be run on a batch of 1"):
        check_parity(nn.Linear(7, 3), path, torch.zeros(4, 7))


def test_no_samples_and_no_file_are_told(
    exported: tuple[nn.Sequential, Path], tmp_path: Path
) -> None:
    model, path = exported

    with pytest.raises(DataError, match="got none"):
        check_parity(model, path, rows(0))
    with pytest.raises(ExportError, match="does not exist"):
        check_parity(model, tmp_path / "none.onnx", rows(4))
    path.write_bytes(b"this is no model")
    with pytest.raises(ExportError, match="cannot load"):
        check_parity(model, path, rows(4))
