"""Students that are given a part of the trained teacher before they learn from it."""

from dataclasses import replace

from torch import nn

from potstill.errors import ModelError
from potstill.models import ReusedHead
from potstill.pipeline.experiment import MadeModel
from potstill.pipeline.teaching import Ready


def heir(model: MadeModel, ready: Ready) -> MadeModel:
    """The model that distilled students start from.

    It differs from the control's in a classifier that is the teacher's (`ReusedHead`).
    """

    def make(seed: int) -> nn.Module:
        module = model.make(seed)
        if not isinstance(module, ReusedHead):
            return module
        if len(ready.modules) != 1:
            raise ModelError(
                "A student with the teacher's classifier needs a teacher that is one torch model; "
                f"this one is made of {len(ready.modules)}."
            )
        module.adopt(ready.modules[0])
        return module

    return replace(model, make=make)
