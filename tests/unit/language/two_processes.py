"""A language model trained by processes: `two_processes.py FILE DEVICES` leaves its weights."""

import sys
from pathlib import Path

import torch

from potstill.data import Feed, Normalise, Samples
from potstill.functional.tokens import next_tokens
from potstill.losses import KD, CrossEntropy
from potstill.models import ModelConfig, create_model
from potstill.runtime.fabric import Runtime
from potstill.tasks import CausalLM
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, OptimizerName, TrainSettings


def model(seed: int) -> torch.nn.Module:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.3,
    }
    options = {"model_type": "llama", "config": sizes}
    config = ModelConfig(
        source="hf",
        name="tiny",
        options=options,
        input_shape=(2, 16),
        num_outputs=30,
        purpose="causal_lm",
    )
    return create_model(config, seed=seed)


def main(path: Path, devices: int) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 17, (37,), generator=generator)  # pieces differ in their tokens
    mask = (torch.arange(16)[None] < lengths[:, None]).int()
    ids = torch.randint(1, 30, (37, 16), generator=generator).int() * mask
    planes = torch.stack([ids, mask], dim=1)
    samples = Samples(planes, torch.arange(37), next_tokens(ids, mask))
    feed = Feed(samples=samples, batch_size=9, seed=0, normalise=Normalise(tokens=True))
    task = CausalLM()
    distiller = Distiller(
        model(1),
        ModuleTeacher(model(9), task),
        objective=0.8 * KD(temperature=2) + 0.2 * CrossEntropy(),
        task=task,
        settings=TrainSettings(
            epochs=2, accumulate=2, optimizer=OptimizerName.SGD, lr=0.1, clip_norm=0.5
        ),
        runtime=Runtime(device="cpu", devices=devices),
    )
    fit = distiller.fit(feed)
    if distiller.runtime.rank == 0:
        assert distiller.runtime.world_size == devices
        torch.save(fit.student.state_dict(), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
