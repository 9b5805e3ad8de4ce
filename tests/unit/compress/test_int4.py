"""Weights of language models in 4 bits: rounding, files, distillation, Transformers."""

from pathlib import Path

import pytest
import torch
from torch import nn

from potstill import KD, Distiller, ModuleTeacher, TrainSettings
from potstill.compress.int4 import (
    Int4,
    base_config,
    converted_int4,
    fake_int4,
    int4_layers,
    load_int4,
    pack,
    save_int4,
    unpack,
)
from potstill.compress.pt2e import quiet
from potstill.errors import ModelError, RecipeError
from potstill.functional.tokens import next_tokens
from potstill.models import ModelConfig, create_model, save_model
from potstill.signals import Batch
from potstill.tasks import CausalLM

TOKENS = 24


def config() -> ModelConfig:
    sizes: dict[str, object] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    return ModelConfig(
        source="hf",
        name="tiny llama",
        options={"model_type": "llama", "config": sizes},
        input_shape=(2, 24),
        num_outputs=TOKENS,
        purpose="causal_lm",
    )


def texts(seed: int, rows: int = 16) -> Batch:
    """The next token follows from the last one, but for one in ten that is random."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, TOKENS, (rows, 24), generator=draw)
    kept = torch.rand(ids.shape, generator=draw) < 0.1
    for place in range(1, 24):
        told = (5 * ids[:, place - 1] + 3) % TOKENS
        ids[:, place] = torch.where(kept[:, place], ids[:, place], told)
    planes = torch.stack([ids, torch.ones_like(ids)], dim=1)
    return Batch(inputs=planes, labels=next_tokens(planes[:, 0], planes[:, 1]))


def trained(model: nn.Module, steps: int, **options: object) -> nn.Module:
    distiller = Distiller(model, task=CausalLM(), **options)
    for step in range(steps):
        distiller.step(texts(step))
    return model.eval()


def divergence(model: nn.Module, student: nn.Module) -> float:
    """Mean Kullback-Leibler divergence of the next token, on texts that were not learnt."""
    planes = texts(10_000, rows=128).inputs
    with torch.no_grad():
        wanted, said = (m.eval()(planes).log_softmax(-1) for m in (model, student))
    return float((wanted.exp() * (wanted - said)).sum(-1).mean())


@pytest.fixture(scope="module")
def model() -> nn.Module:
    settings = TrainSettings(lr=1e-2, schedule="constant")
    return trained(create_model(config()), 150, settings=settings)


def test_groups_are_rounded_as_written(model: nn.Module) -> None:
    """q = clamp(round(w / s), -8, 7), s = max |w| / 7.5 over each group (torchao, symmetric)."""
    rounded = fake_int4(model, Int4(group=16))
    name = "model.model.layers.0.mlp.up_proj"
    weight = model.get_submodule(name).weight.detach()
    seen = rounded.get_submodule(name)(torch.eye(32)).T
    for row in range(len(weight)):
        for start in range(0, 32, 16):
            group = weight[row, start : start + 16]
            scale = group.abs().max() / 7.5
            expected = scale * (group / scale).round().clamp(-8, 7)
            inside = group.abs() < 7.4 * scale  # the largest lies between two numbers
            difference = (seen[row, start : start + 16] - expected).abs()
            assert difference[inside].max() < 1e-6
            assert difference.max() <= 1.001 * scale
    whole = converted_int4(rounded)
    torch.testing.assert_close(whole.get_submodule(name)(torch.eye(32)).T, seen)


def test_heads_and_skipped_layers_stay(model: nn.Module) -> None:
    names = int4_layers(model, Int4(skip=("model.model.layers.1",)))
    assert names
    assert all(name.startswith("model.model.layers.0.") for name in names)
    with pytest.raises(ModelError, match="groups of 64"):
        fake_int4(nn.Sequential(nn.Linear(32, 2)), Int4(group=64))
    with pytest.raises(RecipeError, match="power of two"):
        Int4(group=24)


def test_halves_of_bytes() -> None:
    whole = torch.randint(-8, 8, (6, 10), dtype=torch.int8)
    assert torch.equal(unpack(pack(whole)), whole)
    assert pack(whole).nbytes == whole.numel() // 2
    assert pack(torch.tensor([[-8, 7]])).tolist() == [[0xF0]]


def test_the_model_before_teaches_what_rounding_lost(model: nn.Module, tmp_path: Path) -> None:
    how = Int4(group=32)
    plain = divergence(model, fake_int4(model, how))
    student = trained(
        fake_int4(model, how),
        60,
        teacher=ModuleTeacher(model, CausalLM()),  # which freezes it
        objective=KD(temperature=1),
        settings=TrainSettings(lr=1e-3, schedule="constant"),
    )
    assert divergence(model, student) < 0.5 * plain
    path = save_int4(student, config(), tmp_path / "int4")
    again, _ = load_int4(tmp_path / "int4")
    batch = texts(3)
    torch.testing.assert_close(again(batch.inputs), student(batch.inputs))
    whole = save_model(model, config(), tmp_path / "float")
    layers = int4_layers(model, how)
    linear = sum(model.get_submodule(name).weight.numel() for name in layers)
    saved = linear * 4 - linear // 2 - linear // how.group * 4
    assert whole.stat().st_size - path.stat().st_size == pytest.approx(saved, abs=8000)
    (tmp_path / "int4" / "int4.json").write_text('{"format": 1}')
    with pytest.raises(ModelError, match="which layers"):
        load_int4(tmp_path / "int4")


@pytest.mark.filterwarnings("ignore")
def test_transformers_opens_the_trained_weights_on_the_same_grid(
    model: nn.Module, tmp_path: Path
) -> None:
    how = Int4(group=32)
    student = fake_int4(model, how)
    plain = create_model(config())
    plain.load_state_dict(student.state_dict())
    plain.model.save_pretrained(tmp_path)
    with quiet():
        from transformers import AutoModelForCausalLM, TorchAoConfig

        asked = TorchAoConfig(base_config(how), modules_to_not_convert=["lm_head"])
        opened = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=asked)
    ids = texts(5).inputs[:, 0]
    wanted = student.eval()(texts(5).inputs)
    torch.testing.assert_close(opened.eval()(ids).logits, wanted)
