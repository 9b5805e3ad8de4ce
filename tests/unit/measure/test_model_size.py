"""Parameters, bytes, FLOPs and saved memory of networks that can be counted by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from potstill.errors import StorageError
from potstill.measure.size import file_bytes, flops, num_parameters, saved_bytes, weight_bytes


def test_a_linear_layer_by_hand() -> None:
    model = nn.Linear(10, 3)

    assert num_parameters(model) == 33
    assert weight_bytes(model) == 132
    assert flops(model, torch.zeros(1, 10)) == 2 * 10 * 3


def test_a_convolution_by_hand() -> None:
    model = nn.Conv2d(3, 8, 3, padding=1, bias=False)

    # each of 8 * 4 * 5 outputs takes 3 * 3 * 3 multiply-adds
    assert flops(model, torch.zeros(1, 3, 4, 5)) == 2 * 8 * 4 * 5 * 27


def test_flops_are_of_one_sample_whatever_the_batch() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))

    assert flops(model, torch.zeros(1, 10)) == flops(model, torch.zeros(8, 10))


def test_the_fused_encoder_layer_is_counted_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)

    projections = 4 * 8 * 8  # in, out and the two between, per token
    feed_forward = 2 * 8 * 16
    assert flops(layer, torch.zeros(1, 5, 8)) >= 2 * 5 * (projections + feed_forward)


def test_shared_weights_count_once_and_running_statistics_count() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    norm = nn.BatchNorm1d(5)

    assert num_parameters(tied) == 16
    assert weight_bytes(tied) == 64
    assert num_parameters(norm) == 10
    assert weight_bytes(norm) == 4 * (10 + 10)  # running mean and variance; the step count is int


def test_bytes_are_of_float32_whatever_the_precision_now() -> None:
    model = nn.Linear(10, 3)

    assert weight_bytes(model.half()) == 132


def test_saved_memory_by_hand() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 3))

    # sigmoid keeps its output, which the second layer keeps too (once); the first its input
    assert saved_bytes(model, torch.zeros(8, 10)) == 4 * (10 + 20)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    flops(model, torch.randn(1, 4, generator=torch.Generator().manual_seed(0)))
    saved_bytes(model, torch.randn(1, 4, generator=torch.Generator().manual_seed(0)))

    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_file_is_weighed_and_a_missing_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"12345")

    assert file_bytes(tmp_path / "model.onnx") == 5
    with pytest.raises(StorageError, match="export the model first"):
        file_bytes(tmp_path / "none.onnx")
