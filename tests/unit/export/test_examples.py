"""`example.py` in an environment that holds numpy, a runtime and (for texts) a tokenizer."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from potstill.data import DataSet, Kind, Normalise, Samples, TargetKind, from_arrays
from potstill.data.tokens import Tokens
from potstill.export.formats import Format
from potstill.export.use import example_code
from potstill.pipeline.packing import Outgoing, pack
from potstill.tasks import Classification

ROOT = Path(__file__).parents[3]
NEEDS = ("numpy", "onnxruntime", "tokenizers")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without torch and without Potstill; from uv's cache if it has the packages."""
    beside_python = Path(sys.executable).with_name("uv")
    uv = str(beside_python) if beside_python.exists() else shutil.which("uv")
    assert uv, "uv belongs to the development tools; `make test` installs it"
    folder = tmp_path_factory.mktemp("stranger") / "env"
    subprocess.run([uv, "-q", "venv", str(folder)], check=True, capture_output=True)
    bound = ["--constraint", str(ROOT / "constraints.txt"), "--python", str(folder)]
    for reach in (["--offline"], []):
        done = subprocess.run(
            [uv, "-q", "pip", "install", *reach, *bound, *NEEDS],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return folder / "bin" / "python"
    pytest.fail(done.stderr)


def told(python: Path, folder: Path, *given: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    for module in ("torch", "potstill"):
        found = subprocess.run([python, "-c", f"import {module}"], env=kept, capture_output=True)
        assert found.returncode != 0, f"{module} is in the clean environment"
    done = subprocess.run(
        [python, str(folder / "example.py"), *given],
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", [Format.ONNX, Format.ONNX_INT8])
def test_images_are_answered(stranger: Path, tmp_path: Path, form: Format) -> None:
    labels = np.arange(90) % 3
    images = np.zeros((90, 1, 6, 6), dtype=np.uint8)
    images += np.random.default_rng(0).integers(0, 40, size=images.shape, dtype=np.uint8)
    for row, label in enumerate(labels):
        images[row, :, :, 2 * label : 2 * label + 2] = 250
    names = ("left", "middle", "right")
    data = replace(from_arrays(images, labels, kind="image"), classes=names)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with torch.no_grad():  # a label is the column that is bright
        weight = torch.eye(3).repeat_interleave(2, dim=1).repeat(1, 6)
        model[1].weight.copy_(weight)
        model[1].bias.zero_()
    student = Outgoing(module=model, role="distilled", seed=0, data=data, task=Classification())
    assert pack(student, [form], tmp_path) == []
    np.save(tmp_path / "rows.npy", images[:5])

    said = told(stranger, tmp_path, str(tmp_path / "rows.npy")).splitlines()

    assert [line.split()[0] for line in said] == [names[label] for label in labels[:5]]
    assert all(0.5 < float(line.split()[1]) <= 1 for line in said)
    assert len((tmp_path / "example.py").read_text().splitlines()) <= 15


class Votes(nn.Module):
    """Counts good words against bad ones."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Embedding(8, 2)
        with torch.no_grad():
            self.scores.weight.zero_()
            self.scores.weight[4:6, 0] = 3.0
            self.scores.weight[6:8, 1] = 3.0

    def forward(self, planes_BPL: torch.Tensor) -> torch.Tensor:
        return self.answer(*planes_BPL.unbind(1))

    def answer(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        return (self.scores(ids_BL) * mask_BL[..., None]).sum(1)


def test_texts_are_answered(stranger: Path, tmp_path: Path) -> None:
    words = ("[PAD]", "[UNK]", "film", "the", "fine", "great", "poor", "awful")
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = Tokens(
        PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
    )
    texts = ["the film great", "awful film", "fine", "the poor poor film"] * 8
    planes = torch.from_numpy(tokens.planes(texts, None, max_length=6)[0]).long()
    labels = torch.tensor([0, 1, 0, 1] * 8)
    part = Samples(planes, torch.arange(len(planes)), labels)
    data = DataSet(
        name="moods", kind=Kind.TEXT, target_kind=TargetKind.SINGLE_LABEL, train=part,
        validation=part, test=part, normalise=Normalise(tokens=True), num_outputs=2,
        classes=("good", "bad"), tokens=tokens,
    )  # fmt: skip
    student = Outgoing(
        module=Votes().eval(), role="distilled", seed=0, data=data, task=Classification()
    )
    assert pack(student, [Format.ONNX], tmp_path) == []

    said = told(stranger, tmp_path, "the film great", "awful").splitlines()

    assert [line.split()[0] for line in said] == ["good", "bad"]
    assert float(said[0].split()[1]) == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-3)
    assert len((tmp_path / "example.py").read_text().splitlines()) <= 16  # a line of prose, 15


@pytest.mark.parametrize("form", list(Format)[:5])
@pytest.mark.parametrize("target", ["single_label", "multi_label", "regression", "embedding"])
def test_every_example_is_a_program(form: Format, target: str) -> None:
    artefact = {"format": str(form), "file": "distilled.any"}
    about = {"kind": "table", "target": target, "input": {"names": ["input"], "shape": ["b", 3]}}

    code = example_code(artefact, about, labelled=target != "regression")

    compile(code, "example.py", "exec")
