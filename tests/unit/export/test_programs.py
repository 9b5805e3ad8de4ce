"""Programs of torch and ExecuTorch: sizes that are open, operators without a kernel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from potstill.errors import ExportError
from potstill.export.half import halve_onnx
from potstill.export.onnx import export_onnx
from potstill.export.opened import open_artefact
from potstill.export.programs import export_executorch, export_program


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Spread(nn.Module):
    """Singular values: no kernel of ExecuTorch."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.linalg.svdvals(inputs[:, None] * torch.ones(1, 2, 1))


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"spread": Spread()})
        self.head = nn.Linear(2, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body["spread"](inputs))


class Wide(nn.Module):
    """Divides raw values that float16 cannot hold."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / 1e6


def test_an_operator_without_a_kernel_is_named_with_its_layer(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"no kernel for the operator aten\.\w+, used in layer 'body.spread'"
    ):
        export_executorch(Odd(), noise(4, 8), tmp_path / "odd.pte")
    assert list(tmp_path.iterdir()) == []


def test_executorch_takes_one_row_to_sixty_four(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 3),
    )  # fmt: skip
    inputs = noise(64, 1, 8, 8)
    path = export_executorch(model, inputs, tmp_path / "a.pte")

    opened = open_artefact(path)

    expected = model.eval()(inputs).detach().numpy()
    for count in (1, 2, 17, 64):
        got = opened.answer(inputs[:count].numpy())
        assert got == pytest.approx(expected[:count], abs=1e-5), count


def test_a_program_of_torch_takes_any_batch(tmp_path: Path) -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2)), noise(90, 6)

    opened = open_artefact(export_program(model, inputs, tmp_path / "a.pt2"))

    expected = model.eval()(inputs).detach().numpy()
    assert opened.answer(inputs.numpy()) == pytest.approx(expected, abs=1e-6)
    assert opened.answer(inputs[:1].numpy()) == pytest.approx(expected[:1], abs=1e-6)


def test_sixteen_bits_keep_raw_values_that_they_cannot_hold(tmp_path: Path) -> None:
    model, raw = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), 1e6 * noise(20, 6)
    whole = export_onnx(model, raw, tmp_path / "a.onnx", normalise=Wide())

    half = open_artefact(halve_onnx(whole, tmp_path / "b.onnx"))

    expected = model.eval()(raw / 1e6).detach().numpy()
    got = half.answer(raw.numpy())
    assert got.dtype == np.float32
    assert got == pytest.approx(expected, abs=5e-3)
