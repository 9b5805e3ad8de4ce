"""Models that hear: what padding, chunks and exported files do not change."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.errors import ExportError, ModelError
from potstill.export.onnx import export_onnx
from potstill.export.parity import check_parity
from potstill.export.streaming import (
    OnnxListener,
    check_streaming,
    export_streaming,
    initial_state,
)
from potstill.export.transcriber import export_transcriber
from potstill.models import ModelConfig, create_model
from potstill.models.conformer import ConformerBlock
from potstill.tasks.transcription import Transcription, collapsed

from .tiny import RATE

SMALL = {
    "ds_cnn": {"width": 4, "depth": 1, "mels": 10},
    "tc_resnet": {"widths": [4, 6], "mels": 10},
    "conformer": {"width": 16, "depth": 1, "heads": 2, "mels": 10},
}
CTC_SMALL = {
    "ctc_conv": {"width": 8, "depth": 2, "kernel": 5, "mels": 10},
    "ctc_conformer": {"width": 16, "depth": 1, "heads": 2, "mels": 10, "dropout": 0.0},
}


def _model(name: str, shape: tuple[int, int] = (1, 1600), **changes: object):
    options = {**SMALL, **CTC_SMALL}[name] | {"sampling_rate": RATE} | changes
    config = ModelConfig(
        source="builtin", name=name, options=options, input_shape=shape, num_outputs=4
    )
    model = create_model(config, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():  # as after some training
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
    return model


def _waves(count: int, length: int = 1600) -> torch.Tensor:
    return torch.randn(count, 1, length, generator=torch.Generator().manual_seed(2)) * 3000


@pytest.fixture(scope="module", params=["tc_resnet", "conformer"])
def streamed(request, tmp_path_factory: pytest.TempPathFactory):
    """A model, its streaming file, samples of a chunk and frames of a window."""
    model = _model(request.param)
    path = tmp_path_factory.mktemp("streaming") / "streaming.onnx"
    hop, frames = export_streaming(model, path, samples=1600, hop_ms=20, scale=32768.0)
    return model, path, hop, frames


def test_a_stream_is_heard_as_its_windows_are(streamed) -> None:
    model, path, hop, frames = streamed
    listener = OnnxListener(path, *initial_state(model, frames))
    waves = _waves(2)[:, 0].numpy().astype(np.int16)

    found = check_streaming(model, listener, waves, hop=hop, num_frames=frames, scale=32768.0)

    assert (hop, frames) == (80, 38)
    assert found["relative"] < 1e-4
    assert found["chunks"] == 40
    assert found["look_ahead_ms"] == 0


def test_a_stream_begins_as_after_silence(streamed) -> None:
    model, path, hop, frames = streamed
    listener = OnnxListener(path, *initial_state(model, frames))

    said = listener.hear(np.zeros(hop, dtype=np.int16))

    with torch.no_grad():
        expected = model(torch.zeros(1, 1, 1600))[0].numpy()
    assert np.allclose(said, expected, atol=1e-4)


def test_chunks_that_are_no_whole_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no whole number of the model's frames of 10 ms"):
        export_streaming(
            _model("tc_resnet"), tmp_path / "s.onnx", samples=1600, hop_ms=15, scale=1.0
        )


def test_a_file_that_answers_otherwise_is_refused(streamed) -> None:
    model, path, hop, frames = streamed
    listener = OnnxListener(path, *initial_state(model, frames))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.body.fc.bias += 1
    waves = _waves(1)[:, 0].numpy().astype(np.int16)

    with pytest.raises(ExportError, match="answers otherwise"):
        check_streaming(other, listener, waves, hop=hop, num_frames=frames, scale=32768.0)


def test_the_exported_file_takes_the_wave_itself(tmp_path: Path) -> None:
    from potstill.data import Normalise

    model, waves = _model("tc_resnet"), _waves(8)
    normalise = Normalise(scale=32768.0).as_module()

    export_onnx(model, waves, tmp_path / "model.onnx", normalise=normalise)

    found = check_parity(model, tmp_path / "model.onnx", waves, normalise=normalise)
    assert found["relative"] < 1e-4


def _planes(*lengths: int, longest: int) -> torch.Tensor:
    planes = torch.zeros(len(lengths), 2, longest)
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(row)
        planes[row, 0, :length] = torch.randn(length, generator=generator) * 0.1
        planes[row, 1, :length] = 1
    return planes


@pytest.mark.parametrize("name", SMALL)
def test_every_model_that_hears_answers_a_window(name: str) -> None:
    with torch.no_grad():
        assert _model(name)(_waves(3) / 32768).shape == (3, 4)


@pytest.mark.parametrize("name", CTC_SMALL)
@pytest.mark.parametrize("subsampling", [1, 4])
def test_what_pads_a_sound_changes_none_of_its_frames(name: str, subsampling: int) -> None:
    model = _model(name, (2, 3000), subsampling=subsampling)
    lengths = (3000, 1711, 90)
    planes = _planes(*lengths, longest=3000)

    with torch.no_grad():
        together = model(planes)

    for row, length in enumerate(lengths):
        frames = int(model.rule.frames(torch.tensor(length)))
        with torch.no_grad():
            alone = model(planes[row : row + 1, :, :length])[0]
        assert len(alone) == frames
        assert torch.allclose(together[row, :frames], alone, atol=1e-5)


def test_gradients_stop_at_the_padding() -> None:
    block = ConformerBlock(8, heads=2, kernel=3)
    states = torch.randn(1, 6, 8, requires_grad=True)
    mask = torch.tensor([[True, True, True, True, False, False]])

    block(states, mask)[:, :4].sum().backward()

    assert not states.grad[:, 4:].any()


def test_exported_transcribers_hear_sounds_of_any_length(tmp_path: Path) -> None:
    model = _model("ctc_conformer", (2, 3000))
    planes = _planes(2400, 1711, 700, longest=3000)
    planes[:, 0] *= 32768

    found = export_transcriber(
        model, tmp_path / "ctc.onnx", planes, letters=["", "a", "b", "c"], scale=32768.0
    )

    assert found["rows"] == 3
    assert found["relative"] < 1e-4


def test_letters_are_joined_before_blanks_are_dropped() -> None:
    paths = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 3, 3, 0, 0, 3]])

    letters = collapsed(paths, torch.tensor([6, 5]), width=4)

    assert letters.tolist() == [[1, 1, 2, -1], [3, -1, -1, -1]]


def test_teacher_and_student_must_answer_the_same_frames() -> None:
    from potstill.signals import Batch

    task = Transcription(["", "a", "b", "c"], _model("ctc_conv", (2, 3000)).rule)
    other = _model("ctc_conv", (2, 3000), subsampling=4)

    with pytest.raises(ModelError, match="give teacher and student the same"):
        task.forward(other, Batch(_planes(900, longest=3000)))


@pytest.mark.parametrize(
    ("name", "shape", "changes", "message"),
    [
        ("tc_resnet", (3, 32, 32), {}, "hears windows of sound"),
        ("tc_resnet", (1, 200), {}, "needs 8 frames or more"),
        ("tc_resnet", (1, 1600), {"kernel": 4}, "odd `kernel`"),
        ("conformer", (1, 1600), {"width": 10}, "multiple of twice `heads: 2`"),
        ("ctc_conv", (1, 1600), {}, "reads sounds of unequal length"),
        ("ctc_conv", (2, 1600), {"width": 7}, "an even `width`"),
    ],
)
def test_models_that_cannot_hear_such_inputs_are_refused(name, shape, changes, message) -> None:
    with pytest.raises(ModelError, match=message):
        _model(name, shape, **changes)
