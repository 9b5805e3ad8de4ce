"""A student that feels int8 while it is trained: `FakeQuantised`."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from potstill.compress import grids, pt2e
from potstill.compress.pt2e import Kernels
from potstill.compress.ranges import Ranges
from potstill.compress.trainable import trainable_copy
from potstill.errors import ModelError, RecipeError

_RANGE_KEEPS = 0.01  # what an activation's range takes of a new batch
_PARITY = 0.02  # of the largest answer, between the two forms


@dataclass(frozen=True, kw_only=True)
class Int8:
    """How a model is brought to int8.

    Args:
        per_channel: one scale for each output channel of a weight; else one a tensor.
        skip: layers that stay in float, with all below them, by their module names.
        freeze_after: share of the steps after which batch norms use their running statistics
            and the ranges of activations stand still (Jacob et al. 2018, section 3.1;
            Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.4).
    """

    per_channel: bool = True
    skip: tuple[str, ...] = ()
    freeze_after: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, "skip", tuple(self.skip))
        if not 0 <= self.freeze_after <= 1:
            raise RecipeError(
                f"`freeze_after` is {self.freeze_after!r}; it must be a share of the steps, "
                "from 0 to 1."
            )

    def to_json(self) -> dict[str, object]:
        """For a file."""
        return {**asdict(self), "skip": list(self.skip)}


@final
class FakeQuantised(nn.Module):
    """A copy of a model that computes in float what int8 would give, and can be trained.

    Weights and activations are rounded to their grids in the forward pass; the backward pass
    lets gradients through where nothing was cut off (straight-through estimator). Parameters and
    buffers have the names they have in the model, below `graph.`. It is a student like any
    other: `Distiller` trains it, with a teacher or without, checkpoints hold its ranges. It has
    no layers that taps could read, so objectives are made of terms on the answers.

    Args:
        model: takes one tensor; copied, not changed.
        example: `[B, ...]` a few real samples, as the model takes them; the first ranges.
        how: see `Int8`.

    Raises:
        MissingExtra: torchao or ExecuTorch is not installed.
        ModelError: the model cannot be captured as a graph, or nothing in it can be quantised.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, how: Int8 | None = None) -> None:
        super().__init__()
        self.how = how or Int8()
        rows = torch.cat([example, example])[: max(2, len(example))].detach()
        self.graph = pt2e.prepare(
            trainable_copy(model), rows, per_channel=self.how.per_channel, skip=self.how.skip
        )
        self._names = tuple(model.state_dict())
        self._layers = grids.layers(self.graph)
        if not self._layers:
            raise ModelError(
                f"This {type(model).__name__} has no linear or convolutional layer to quantise; "
                "train it in float."
            )
        self.register_buffer("_example", rows, persistent=False)
        self._frozen = False
        self._mode: tuple[bool, bool] | None = None
        weights = {weight for weight, _ in self._layers.values()}
        activations = [grid for name, grid in self._grids.items() if name not in weights]
        self._ranges = Ranges(activations)
        self.calibrate([rows])

    @property
    def _grids(self) -> Mapping[str, nn.Module]:
        return grids.grids(self.graph)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights in int8."""
        return tuple(self._layers)

    def forward(self, x: Tensor) -> Tensor:
        """The model's answers, as int8 would give them."""
        self._follow(learning=self.training)
        with self._ranges.seen(keep=_RANGE_KEEPS if self._moves else None):
            answer: Tensor = self.graph(x)
        return answer

    def train(self, mode: bool = True) -> Self:
        """As of any module; the graph follows when it is asked next."""
        self.training = mode
        return self

    def reach(self, share: float) -> None:
        """Told by the trainer how much of all steps is over; freezes ranges and statistics."""
        self._frozen = share >= self.how.freeze_after

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set the ranges of the activations to the mean range of some batches.

        That is quantisation after training; the weights do not change.

        Args:
            batches: each `[B, ...]`, as the model takes them.
        """
        self._follow(learning=False)
        self.quantise_only([])
        with torch.no_grad():
            for number, batch in enumerate(batches, start=1):
                with self._ranges.seen(keep=1.0 / number):
                    self.graph(batch)
        self.quantise_only(None)

    def quantise_only(self, layers: Iterable[str] | None) -> None:
        """Round some layers (their weights, what goes in and comes out) and nothing else.

        Args:
            layers: from `layers`; `None` rounds everything again.
        """
        chosen = None if layers is None else set(layers)
        wanted: set[str] = set()
        for name in chosen or ():
            weight, around = self._layers[name]
            wanted |= {weight, *around}
        made = self._grids
        for grid in made.values():
            grid.enable_fake_quant(chosen is None)  # type: ignore[operator]
        for name in wanted:
            made[name].enable_fake_quant(True)  # type: ignore[operator]

    def quantise_all_but(self, layers: Iterable[str]) -> None:
        """Round everything but some layers' weights, and values that pass between these alone.

        That is what `skip` leaves of the grids, without preparing the model anew.

        Args:
            layers: from `layers`.
        """
        kept = set(layers)
        wanted = {
            g for n, (w, around) in self._layers.items() if n not in kept for g in (w, *around)
        }
        unwanted = {g for n in kept for g in (self._layers[n][0], *self._layers[n][1])}
        self.quantise_only(None)
        made = self._grids
        needed = {id(made[name]) for name in wanted}
        for name in unwanted:
            if id(made[name]) not in needed:
                made[name].enable_fake_quant(False)  # type: ignore[operator]

    def weights(self) -> dict[str, Tensor]:
        """The trained weights in float32, by the names of the model they came from."""
        state = self.graph.state_dict()
        return {name: state[name].detach().cpu().clone() for name in self._names}

    def ranges(self) -> dict[str, Tensor]:
        """What the grids know: `state` without the weights."""
        state = self.graph.state_dict()
        return {n: v.detach().cpu().clone() for n, v in state.items() if n not in self._names}

    def restore(self, weights: Mapping[str, Tensor], ranges: Mapping[str, Tensor]) -> None:
        """Take in what `weights` and `ranges` gave of a model of the same kind.

        Raises:
            ModelError: they are of another model, or another version of torchao named its grids.
        """
        own = {f"graph.{name}": value for name, value in {**weights, **ranges}.items()}
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise ModelError(
                f"These ranges do not fit the model ({str(error).splitlines()[-1].strip()}); "
                "write the folder again with the installed version of torchao."
            ) from error

    def converted(self, *, kernels: Kernels | str = Kernels.ONNX_RUNTIME) -> "Quantised":
        """The model in int8: weights as whole numbers, batch norms folded. For export.

        Args:
            kernels: who will run it, `onnxruntime` or `xnnpack` (ExecuTorch).

        Raises:
            ModelError: it would answer differently from the model that was trained.
        """
        copy = deepcopy(self).cpu()
        copy._follow(learning=False)
        with torch.no_grad():
            wanted = copy.graph(copy._example)
            module = Quantised(pt2e.convert(copy.graph, kernels=Kernels(kernels)))
            difference = float((module(copy._example) - wanted).abs().max())
        if difference > _PARITY * max(1.0, float(wanted.abs().max())):
            raise ModelError(
                f"The int8 form answers differently from what was trained, by {difference:.3g}; "
                "name the unusual layers in `skip`."
            )
        return module

    @property
    def _moves(self) -> bool:
        """Whether ranges and statistics follow the batches."""
        return self.training and not self._frozen

    def _follow(self, *, learning: bool) -> None:
        mode = (learning, self._frozen)
        if mode == self._mode:
            return
        self._mode = mode
        pt2e.set_mode(self.graph, norms=learning and not self._frozen, dropout=learning)


@final
class Quantised(nn.Module):
    """A graph in int8; answers in float, always in eval mode."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.graph = graph
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """The answers."""
        answer: Tensor = self.graph(x)
        return answer

    def train(self, mode: bool = True) -> Self:
        """Nothing: what is in int8 cannot be trained."""
        return self
