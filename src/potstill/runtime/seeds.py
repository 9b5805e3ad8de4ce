"""The only place that touches the global random state, and the way to save and restore it."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed torch on every device and Python's `random`."""
    random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Tensor | list[Tensor]]:
    """Torch's random state on every device, for a checkpoint."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: Mapping[str, Tensor | list[Tensor]]) -> None:
    """Continue the random streams where `random_state` was taken."""
    cpu, cuda = state["cpu"], state["cuda"]
    assert isinstance(cpu, Tensor), "the checkpoint holds one CPU state"
    torch.set_rng_state(cpu.cpu())
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in cuda])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under a seed and leave the random state as it was before."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
