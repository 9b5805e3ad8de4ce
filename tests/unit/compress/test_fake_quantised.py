"""Training for int8: grids against a naive oracle, files, runtimes, resumption."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from potstill import KD, Distiller, ModuleTeacher, TrainSettings
from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.compress.qat import train_quantised
from potstill.compress.quantised_files import load_quantised, save_quantised
from potstill.errors import ModelError, RecipeError
from potstill.export.onnx import export_onnx
from potstill.models import ModelConfig, create_model, load_model
from potstill.tasks import Classification

from .quantised_nets import INPUTS, SHORT, batches, prepared, small_net


@pytest.fixture
def quantised() -> FakeQuantised:
    return deepcopy(prepared())


def test_nothing_rounded_is_the_model_also_in_training(quantised: FakeQuantised) -> None:
    """torchao's graphs have batch norms with ε 1e-5 and momentum 0.1, whatever the model has."""
    model = small_net()
    quantised.quantise_only([])
    torch.testing.assert_close(quantised.eval()(INPUTS), model.eval()(INPUTS))
    model[3].drop.p = 0.0
    for node in quantised.graph.graph.nodes:
        if node.target is torch.ops.aten.dropout.default:
            node.update_arg(1, 0.0)
    torch.testing.assert_close(quantised.train()(INPUTS), model.train()(INPUTS))
    after = quantised.weights()
    torch.testing.assert_close(after["3.norm.running_var"], model[3].norm.running_var)
    torch.testing.assert_close(after["3.norm.running_mean"], model[3].norm.running_mean)


def rounded(value: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """q = clamp(round(x / s) + z, low, high); x' = s (q - z): Jacob et al. 2018, section 2.1."""
    return scale * ((value / scale).round().add(zero).clamp(low, high) - zero)


def test_one_layer_is_rounded_as_the_paper_says(quantised: FakeQuantised) -> None:
    model = small_net().eval()
    quantised.eval().quantise_only(["6"])
    features = model[:6](INPUTS).detach()
    seen = quantised(INPUTS)
    weight, bias = model[6].weight.detach(), model[6].bias.detach()
    _name, (into, out) = quantised._layers["6"]
    scale_w = weight.abs().amax(1, keepdim=True) / 127  # symmetric, one a row
    grids = quantised._grids
    low, high = features.min().clamp(max=0), features.max().clamp(min=0)
    scale_x = (high - low) / 255
    zero_x = (-128 - low / scale_x).round()
    # calibrated behind layers that were rounded themselves
    torch.testing.assert_close(grids[into].scale, scale_x.reshape(1), rtol=0.01, atol=0.0)
    assert abs(int(grids[into].zero_point) - int(zero_x)) <= 1
    scale_x, zero_x = grids[into].scale, grids[into].zero_point
    x = rounded(features, scale_x, zero_x, -128, 127)
    w = rounded(weight, scale_w, torch.zeros(()), -127, 127)
    answers = x @ w.T + bias
    scale_y, zero_y = grids[out].scale, grids[out].zero_point
    expected = rounded(answers, scale_y, zero_y, -128, 127)
    assert (seen - expected).abs().max() <= scale_y * 1.001  # where halves fall is the kernel's
    assert (seen - expected).abs().mean() < 0.02 * scale_y


def test_gradients_pass_where_nothing_is_cut_off(quantised: FakeQuantised) -> None:
    quantised.eval()
    _name, (into, _) = quantised._layers["6"]
    grid = quantised._grids[into]
    grid.enable_observer(False)
    top = float(grid.scale * (127 - grid.zero_point))
    x = torch.tensor([[0.1 * top, 0.9 * top, 1.5 * top]], requires_grad=True)
    grid(x).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 0.0]]


def test_evaluation_changes_nothing_but_what_weights_say(quantised: FakeQuantised) -> None:
    quantised.eval()(INPUTS)
    before = {n: v.clone() for n, v in quantised.state_dict().items()}
    quantised(100 * INPUTS)
    for name, value in quantised.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_frozen_ranges_and_statistics_stand_still(quantised: FakeQuantised) -> None:
    quantised.train().reach(0.9)
    quantised(INPUTS)
    before = {n: v.clone() for n, v in quantised.state_dict().items()}
    quantised(10 * INPUTS)
    moved = [
        n
        for n, v in quantised.state_dict().items()
        if not torch.equal(v, before[n]) and "num_batches_tracked" not in n
    ]
    assert moved == []
    quantised.reach(0.1)
    quantised(10 * INPUTS)
    assert not torch.equal(quantised.weights()["1.running_mean"], before["graph.1.running_mean"])


def test_a_batch_is_answered_as_its_parts(quantised: FakeQuantised) -> None:
    quantised.eval()
    parts = torch.cat([quantised(part) for part in INPUTS.split([1, 31, 64])])
    scale = quantised._grids[quantised._layers["6"][1][1]].scale
    assert (quantised(INPUTS) - parts).abs().max() <= 1.001 * scale


def test_whole_numbers_answer_as_the_grids_do(quantised: FakeQuantised, tmp_path: Path) -> None:
    quantised.eval()
    with torch.no_grad():
        wanted = quantised(INPUTS)
    step = float(quantised._grids[quantised._layers["6"][1][1]].scale)
    for kernels in ("onnxruntime", "xnnpack"):
        converted = quantised.converted(kernels=kernels)
        difference = (converted(INPUTS) - wanted).abs()
        assert difference.max() <= 2.001 * step, kernels  # a rounding that fell the other way
        assert difference.mean() < 0.2 * step, kernels
    path = export_onnx(quantised.converted(), INPUTS, tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(path))
    answers = session.run(None, {"input": INPUTS.numpy()})[0]
    assert np.abs(answers - wanted.numpy()).max() <= 2.001 * step
    assert (answers.argmax(1) == wanted.numpy().argmax(1)).mean() >= 0.95


def test_the_file_runs_on_integer_kernels(quantised: FakeQuantised, tmp_path: Path) -> None:
    path = export_onnx(quantised.converted(), INPUTS, tmp_path / "int8.onnx")
    weights = {i.name: i.data_type for i in onnx.load(path).graph.initializer if len(i.dims) > 1}
    assert set(weights.values()) == {onnx.TensorProto.INT8}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert kinds.count("QGemm") == 1
    assert "Conv" not in kinds


def test_layers_of_skip_stay_in_float() -> None:
    student = FakeQuantised(small_net(), INPUTS, how=Int8(skip=("3", "6")))
    assert student.layers == ("0",)
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        FakeQuantised(small_net(), INPUTS, how=Int8(skip=("nowhere",)))


def test_bad_settings_and_models_are_refused() -> None:
    with pytest.raises(RecipeError, match="freeze_after"):
        Int8(freeze_after=1.5)
    with pytest.raises(ModelError, match="no linear or convolutional layer"):
        FakeQuantised(nn.Sequential(nn.ReLU()), INPUTS)


def test_a_student_learns_from_its_teacher_and_is_rebuilt_from_files(tmp_path: Path) -> None:
    config = ModelConfig(
        source="builtin",
        name="cnn",
        options={"width": 4, "depth": 2},
        input_shape=(3, 8, 8),
        num_outputs=5,
    )
    model = create_model(config)
    Distiller(model, settings=TrainSettings(epochs=10, batch_size=32)).fit(batches())
    model.eval()
    teacher = ModuleTeacher(deepcopy(model), Classification())
    done = train_quantised(
        model,
        teacher,
        train=batches(),
        validation=batches(shuffle=False),
        objective=KD(temperature=2),
        settings=replace(SHORT, lr=1e-4),
        folder=tmp_path / "run",
    )
    assert done.fit.steps == 6
    assert (done.student(INPUTS) - model(INPUTS)).abs().mean() < 0.1
    save_quantised(done.student, config, tmp_path)
    plain, _ = load_model(tmp_path)
    wanted = done.student.weights()
    assert all(torch.equal(value, wanted[name]) for name, value in plain.state_dict().items())
    again, read = load_quantised(tmp_path)
    assert read == config
    assert torch.equal(again(INPUTS), done.student(INPUTS))
    assert torch.equal(again.converted()(INPUTS), done.student.converted()(INPUTS))
    (tmp_path / "ranges.safetensors").unlink()
    with pytest.raises(ModelError, match="no file of weights"):
        load_quantised(tmp_path)
