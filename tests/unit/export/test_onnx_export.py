"""Exported files: what they hold, that nothing else changed, and what cannot be exported."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.errors import ExportError, StorageError
from potstill.export import onnx as exporting
from potstill.export.onnx import export_onnx
from potstill.export.parity import check_parity


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class Normalise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def answers(path: Path, inputs: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": inputs.numpy()})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model = cnn()
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    export_onnx(
        model,
        noise(1, 3, 4, 4),
        path,
        normalise=Normalise(),
        labels=["cat", "dog", "bird"],
        input_description="RGB, 0..1",
    )
    return model, path


def test_any_batch_size_and_the_normalisation_are_inside(
    exported: tuple[nn.Module, Path],
) -> None:
    model, path = exported
    inputs = noise(5, 3, 4, 4, seed=1)

    expected = model.eval()(Normalise()(inputs)).detach().numpy()

    for rows in (1, 2, 5):
        assert answers(path, inputs[:rows]) == pytest.approx(expected[:rows], abs=1e-5)


def test_the_file_says_what_it_is(exported: tuple[nn.Module, Path]) -> None:
    proto = onnx.load(str(exported[1]))

    notes = {entry.key: entry.value for entry in proto.metadata_props}
    assert notes["potstill_version"] == potstill.__version__
    assert notes["labels"] == '["cat", "dog", "bird"]'
    assert notes["input"] == "float32 [batch, 3, 4, 4] RGB, 0..1"
    assert [value.name for value in proto.graph.input] == ["input"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    dims = [value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input]
    assert dims == ["batch"]


def test_the_file_holds_the_student_alone_and_no_path_of_this_machine(
    exported: tuple[nn.Module, Path],
) -> None:
    model, path = exported
    content = path.read_bytes()

    weights = sum(p.numel() for p in model.parameters())
    assert Path(__file__).name.encode() not in content
    assert b"site-packages" not in content
    assert len(content) < 4 * weights + 8000
    assert [p.name for p in path.parent.iterdir()] == ["student.onnx"]


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = cnn().train()
    model[1].eval()  # a frozen normalisation must stay frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()

    export_onnx(model, noise(2, 3, 4, 4), tmp_path / "a.onnx")

    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_dropout_is_off_in_the_file(tmp_path: Path) -> None:
    model = mlp().train()
    inputs = noise(3, 3, 4, 4)

    path = export_onnx(model, inputs, tmp_path / "a.onnx")

    assert answers(path, inputs) == pytest.approx(model.eval()(inputs).detach().numpy(), abs=1e-5)


def test_half_precision_becomes_float32_in_the_file_only(tmp_path: Path) -> None:
    model = mlp().to(torch.bfloat16)

    path = export_onnx(model, noise(2, 3, 4, 4), tmp_path / "a.onnx")

    kinds = {tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in kinds
    assert onnx.TensorProto.FLOAT in kinds
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_nothing_is_printed_logged_or_warned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_onnx(mlp(), noise(2, 3, 4, 4), tmp_path / "a.onnx")

    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


class Answer(dict):
    """As models of a hub answer: a mapping with `logits`."""


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return Answer(logits=self.body(inputs))


class Paired(Mapped):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(inputs), inputs


@pytest.mark.parametrize("kind", [Mapped, Paired])
def test_logits_are_taken_out_of_what_the_model_returns(tmp_path: Path, kind: type[Mapped]) -> None:
    model, inputs = kind(), noise(3, 3, 4, 4)

    path = export_onnx(model, inputs, tmp_path / "a.onnx")

    expected = model.body.eval()(inputs).detach().numpy()
    assert answers(path, inputs) == pytest.approx(expected, abs=1e-5)


class Words(nn.Module):
    def forward(self, inputs: Tensor) -> str:
        return "cat"


class OneBatch(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(2, 48)


class Branching(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.sum() > 0 else -inputs


class Eigen(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.linalg.eigvals(inputs).real


class Failing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise ValueError("my own mistake")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Words(), "returns str"),  # no tensor
        (OneBatch(), "one batch size only"),  # a written-out shape
        (Branching(), r"captured as a graph at test_onnx_export\.py:\d+"),  # depends on values
        (nn.Sequential(Eigen()), r"aten\.linalg_eig\w*, used in layer '0'"),  # no ONNX operator
        (Failing(), "my own mistake"),  # raises by itself
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path: Path, model: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(model, noise(2, 3, 4, 4), tmp_path / "a.onnx")

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_opset_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Opset 99"):
        export_onnx(mlp(), noise(2, 3, 4, 4), tmp_path / "a.onnx", opset=99)


def test_a_given_opset_is_kept(tmp_path: Path) -> None:
    path = export_onnx(mlp(), noise(2, 3, 4, 4), tmp_path / "a.onnx", opset=18)

    assert [entry.version for entry in onnx.load(str(path)).opset_import] == [18]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "export").write_text("in the way")

    with pytest.raises(StorageError, match="cannot be written"):
        export_onnx(mlp(), noise(2, 3, 4, 4), tmp_path / "export" / "a.onnx")


def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(onnx, "save_model", full)

    with pytest.raises(StorageError, match="No space left on device"):
        export_onnx(mlp(), noise(2, 3, 4, 4), path)

    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_very_large_weights_lie_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SINGLE_FILE_LIMIT", 100)
    model, inputs = mlp(), noise(3, 3, 4, 4)

    path = export_onnx(model, inputs, tmp_path / "a.onnx")

    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert answers(path, inputs) == pytest.approx(model.eval()(inputs).detach().numpy(), abs=1e-5)


def test_torchvision_networks_export(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    model, inputs = torchvision.models.resnet18(num_classes=5), noise(9, 3, 32, 32)

    path = export_onnx(model, inputs, tmp_path / "a.onnx")

    assert check_parity(model, path, inputs)["agreement"] == 1.0


def test_vision_transformers_export(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    inputs = noise(9, 3, 32, 32)

    path = export_onnx(model, inputs, tmp_path / "a.onnx")

    assert check_parity(model, path, inputs)["agreement"] == 1.0
