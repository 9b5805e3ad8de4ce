"""What an exported file computes: the normalisation, then the student, and nothing else."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from potstill.errors import ExportError


class Shipped(nn.Module):
    """`model(normalise(inputs))` as one tensor, in float32 on the CPU.

    The modules given are used as they are if they are float32 on the CPU, and copied if not. The
    model may return a tensor, a mapping with `logits`, or a tuple that starts with them.
    """

    def __init__(self, model: nn.Module, normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.model = _plain(model)
        self.normalise = None if normalise is None else _plain(normalise)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` raw-scaled inputs to `[B, ...]` logits; `ExportError` if there are none."""
        outputs = self.model(inputs if self.normalise is None else self.normalise(inputs))
        if isinstance(outputs, Mapping) and "logits" in outputs:
            outputs = outputs["logits"]
        elif isinstance(outputs, tuple) and outputs:
            outputs = outputs[0]
        if not isinstance(outputs, Tensor):
            raise ExportError(
                f"The model returns {type(outputs).__name__}, and a tensor of logits was expected; "
                "export a module that returns one."
            )
        return outputs


class ShippedText(nn.Module):
    """A text model with one input a plane: token ids, attention mask, perhaps token types.

    Args:
        model: from planes `[B, P, L]`; its `answer` takes them one by one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = _plain(model)

    def forward(self, *planes_BL: Tensor) -> Tensor:
        """`[B, num_outputs]`."""
        answer = getattr(self.model, "answer", None)
        if answer is None:
            return torch.as_tensor(self.model(torch.stack(planes_BL, dim=1)))
        return torch.as_tensor(answer(*planes_BL))


def _plain(module: nn.Module) -> nn.Module:
    tensors = [*module.parameters(), *module.buffers()]
    if all(t.device.type == "cpu" and _is_plain(t.dtype) for t in tensors):
        return module
    return copy.deepcopy(module).to(device="cpu", dtype=torch.float32)


def _is_plain(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 or not (dtype.is_floating_point or dtype.is_complex)
