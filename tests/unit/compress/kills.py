"""A training that is killed and gone on with ends as one that was left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill import Distiller
from potstill.errors import Interrupted


def assert_a_kill_changes_nothing(
    trained: Callable[[Path], nn.Module], folder: Path, monkeypatch: pytest.MonkeyPatch, *, at: int
) -> None:
    """`trained` keeps its checkpoints in the folder it is given; it is killed before step `at`."""
    whole = trained(folder / "whole")
    step = Distiller.step

    def killed(self: Distiller, batch: object) -> object:
        if self.steps_done == at:
            raise Interrupted("stopped")
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Distiller, "step", killed)
        with pytest.raises(Interrupted):
            trained(folder / "killed")
    again = trained(folder / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
