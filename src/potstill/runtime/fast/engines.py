"""Ways to run a frozen torch module: layouts, folding, bfloat16, compilation.

An engine is a module that is called like the one it stands for and answers in float32. Ways that
leave PyTorch (ONNX Runtime, OpenVINO) are in `graphs`.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn

from potstill.runtime.fast.choosing import Prior
from potstill.runtime.fast.cuda import Graphed
from potstill.runtime.fast.machine import Machine

TRACE_TOLERANCE = 1e-3  # relative; a folded or traced module that is further off is not used


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A way to run a module.

    Args:
        name: short.
        prior: what to expect of it.
        make: the module in its fast form; raises if it cannot be made.
        shows_layers: whether the outputs of named layers can be read as in the original.
    """

    name: str
    prior: Prior
    make: Callable[[], nn.Module]
    shows_layers: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A module with what engines need to know of it.

    Args:
        module: frozen, in eval mode.
        samples: batches of real inputs `[B, ...]`, to calibrate on and to try out.
        machine: what it will run on.
    """

    module: nn.Module
    samples: tuple[Tensor, ...]
    machine: Machine
    has_images: bool = field(init=False)
    num_leaves: int = field(init=False)
    has_convolutions: bool = field(init=False)

    def __post_init__(self) -> None:
        modules = list(self.module.modules())
        object.__setattr__(self, "has_images", self.samples[0].ndim == 4)
        object.__setattr__(self, "num_leaves", sum(not list(m.children()) for m in modules))
        convolutions = any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in modules)
        object.__setattr__(self, "has_convolutions", convolutions)


def torch_engines(subject: Subject) -> list[Engine]:
    """The ways of PyTorch that make sense for a module on this machine."""
    machine, cheap = subject.machine, 0.05 + 0.002 * subject.num_leaves
    half = torch.float16 if machine.device == "cuda" else torch.bfloat16
    name = "bf16" if half is torch.bfloat16 else "fp16"
    low = machine.bf16 or machine.device == "cuda"
    made: list[Engine] = []
    if subject.has_images:
        made.append(
            Engine(name="channels_last", prior=Prior(cheap, 1.1), shows_layers=True,
                   make=lambda: Plain(_copied(subject)))
        )  # fmt: skip
        made.append(
            Engine(name="folded", prior=Prior(10 * cheap, 1.3),
                   make=lambda: Plain(folded(subject)))
        )  # fmt: skip
    made.append(
        Engine(name=f"{name} autocast", prior=Prior(cheap, 1.8 if low else 0.5), shows_layers=True,
               make=lambda: Plain(_copied(subject), autocast=half))
    )  # fmt: skip
    made.append(
        Engine(name=f"{name} folded", prior=Prior(10 * cheap, 2.4 if low else 0.5),
               make=lambda: Plain(folded(subject).to(half), cast=half))
    )  # fmt: skip
    if machine.device == "cuda":
        made.append(
            Engine(
                name=f"{name} CUDA graph",
                prior=Prior(10 * cheap + 1.0, 3.0),
                make=lambda: Graphed(
                    Plain(folded(subject).to(half), cast=half), subject.samples[0]
                ),
            )
        )
    slow = 8.0 + 0.35 * subject.num_leaves
    made.append(
        Engine(name="compiled", prior=Prior(slow, 1.5),
               make=lambda: Compiled(folded(subject), rows=len(subject.samples[0])))
    )  # fmt: skip
    made.append(
        Engine(name=f"compiled {name}", prior=Prior(slow, 3.5 if low else 0.6),
               make=lambda: Compiled(folded(subject).to(half), rows=len(subject.samples[0]),
                                     cast=half))
    )  # fmt: skip
    return made


@final
class Plain(nn.Module):
    """A module in its fast layout, in another precision if asked.

    Args:
        model: owned by this engine.
        cast: inputs are turned into this type (the weights already are).
        autocast: operators choose between this type and float32.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        cast: torch.dtype | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.module = _frozen(model)
        self._cast, self._autocast = cast, autocast

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` to float32 `[B, C]`."""
        inputs = in_fast_layout(inputs)
        device = inputs.device.type
        with torch.autocast(device, self._autocast, enabled=self._autocast is not None):
            answers: Tensor = self.module(inputs if self._cast is None else inputs.to(self._cast))
        return answers.float()


@final
class Compiled(nn.Module):
    """A module compiled for one batch size, its weights taken as constants.

    Batches of another size (the last of an epoch) run without compilation, so that nothing is
    compiled twice.

    Args:
        model: owned by this engine.
        rows: the batch size that it is compiled for.
        cast: as in `Plain`.
    """

    def __init__(self, model: nn.Module, *, rows: int, cast: torch.dtype | None = None) -> None:
        super().__init__()
        self._plain = Plain(model, cast=cast)
        self._rows = rows
        self._compiled = torch.compile(
            self._plain.forward, dynamic=False, fullgraph=True, options={"freezing": True}
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` to float32 `[B, C]`."""
        if len(inputs) != self._rows:
            return self._plain(inputs)  # type: ignore[no-any-return]
        return self._compiled(inputs)


def in_fast_layout(inputs: Tensor) -> Tensor:
    """Images with their channels last in memory; anything else as it is."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _frozen(model: nn.Module) -> nn.Module:
    model.eval().requires_grad_(False)
    has_images = any(isinstance(m, nn.Conv2d) for m in model.modules())
    return model.to(memory_format=torch.channels_last) if has_images else model


def _copied(subject: Subject) -> nn.Module:
    return deepcopy(subject.module)


def folded(subject: Subject) -> nn.Module:
    """Batch norm folded into convolutions; an equal copy if the module cannot be traced."""
    copied = _copied(subject)
    try:
        folded = _fuse(copied)
        sample = subject.samples[0][:2]
        with torch.no_grad():
            exact, answer = subject.module(sample), folded(sample)
        if _is_close(exact, answer):
            return folded
    except Exception:  # noqa: BLE001  tracing fails in as many ways as models are written
        return _copied(subject)
    return _copied(subject)


def _fuse(module: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    fused: nn.Module = fuse(module, no_trace=False)
    return fused


def _is_close(exact: Tensor, answer: Tensor) -> bool:
    return bool(torch.linalg.vector_norm(exact - answer) <=
                TRACE_TOLERANCE * torch.linalg.vector_norm(exact))  # fmt: skip
