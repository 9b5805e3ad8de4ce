"""Students that ship with the teacher's classifier: SimKD's projector between their body and it.

Paper: Chen et al. 2022, "Knowledge distillation with the reused teacher classifier",
arXiv:2203.14001.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.layout import Layout, features_first, layout_of
from potstill.features.mapped import conv, norm
from potstill.models.config import Json, ModelConfig
from potstill.runtime.modes import evaluating

SOURCE = "reused"
POOL = "pool"
Build = Callable[[ModelConfig], nn.Module]


@final
class ReusedHead(nn.Module):
    """A student's body, a projector, and a classifier that is to be the teacher's.

    `transfer` gives the teacher's features: 1×1, 3×3 and 1×1 convolutions with batch normalisation
    and ReLU (linear layers where the body gives a vector). They are averaged over positions and go
    into `head`, a linear layer. With random weights the whole is a student like any other, which is
    what the control run trains; `adopt` puts the teacher's classifier in and freezes it.

    Of a model that is a sequence with a part `pool`, the body is what comes before it, so that maps
    are compared; of any other, all but its last linear layer.

    Args:
        model: the plain student; its body is taken out of it.
        width: inputs of the teacher's classifier.
        num_outputs: its outputs.
        input_shape: of one sample, to find out what the body gives.
        factor: by which the projector is narrower than the teacher's features.

    Raises:
        ModelError: no classifier is found in the student, or its body gives no feature.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        width: int,
        num_outputs: int,
        input_shape: tuple[int, ...],
        factor: int = 2,
    ) -> None:
        super().__init__()
        whole = sum(p.numel() for p in model.parameters())
        self.body = _body(model)
        with evaluating(self.body), torch.no_grad():
            feature = self.body(torch.zeros(2, *input_shape))
        self._layout = _layout_of(feature, input_shape)
        first = features_first(feature, self._layout)
        self.transfer = _transfer(first.ndim - 2, int(first.shape[1]), width, factor)
        self.head = nn.Linear(width, num_outputs)
        self.added_parameters = sum(p.numel() for p in self.parameters()) - whole
        """How many more parameters there are than in the plain student."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, num_outputs]` logits."""
        feature: Tensor = self.transfer(features_first(self.body(inputs), self._layout))
        pooled = feature.flatten(2).mean(dim=2) if feature.ndim > 2 else feature
        return self.head(pooled)  # type: ignore[no-any-return]

    def adopt(self, teacher: nn.Module) -> None:
        """Take the teacher's classifier and keep it as it is.

        Raises:
            ModelError: the teacher's last linear layer has another shape.
        """
        theirs = last_linear(teacher)
        if theirs.weight.shape != self.head.weight.shape:
            raise ModelError(
                f"The teacher's classifier is {theirs.in_features} → {theirs.out_features} and "
                f"the student's place for it {self.head.in_features} → {self.head.out_features}; "
                "make the student for this teacher."
            )
        with torch.no_grad():
            self.head.weight.copy_(theirs.weight)
            self.head.bias.copy_(0 if theirs.bias is None else theirs.bias)
        self.head.requires_grad_(False)


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of a model: its classifier.

    Raises:
        ModelError: there is none.
    """
    return _last_linear(model)[1]


def reused_config(student: ModelConfig, *, width: int, factor: int = 2) -> ModelConfig:
    """The config of a student with a teacher's classifier that reads `width` features."""
    inner: dict[str, Json] = {"source": student.source, "name": student.name}
    inner["options"] = student.options
    return replace(
        student,
        source=SOURCE,
        name=student.name,
        options={"model": inner, "width": width, "factor": factor},
    )


def build_reused(config: ModelConfig, build: Build) -> ReusedHead:
    """The student of a config that `reused_config` made, with random weights.

    Raises:
        ModelError: the plain student cannot be built, or has no classifier.
    """
    return ReusedHead(
        build(plain_config(config)),
        width=int(str(config.options["width"])),
        num_outputs=config.num_outputs,
        input_shape=config.input_shape,
        factor=int(str(config.options["factor"])),
    )


def plain_config(config: ModelConfig) -> ModelConfig:
    """The config of the plain student inside."""
    inner = config.options["model"]
    assert isinstance(inner, Mapping), "`reused_config` wrote it"
    options = inner["options"]
    assert isinstance(options, Mapping), "`reused_config` wrote it"
    source, name = str(inner["source"]), str(inner["name"])
    return replace(config, source=source, name=name, options=options)


def _body(model: nn.Module) -> nn.Module:
    parts = dict(model.named_children())
    if isinstance(model, nn.Sequential) and POOL in parts:
        return nn.Sequential(*list(parts.values())[: list(parts).index(POOL)])
    name, _ = _last_linear(model)
    if not name:
        raise ModelError("A student that is one linear layer has no body; choose a larger one.")
    place, _, last = name.rpartition(".")
    setattr(model.get_submodule(place), last, nn.Identity())
    return model


def _last_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear layer, and `head: teacher` takes the last one "
            "for the classifier; choose a model that ends in one."
        )
    return found[-1]


def _layout_of(feature: Tensor, input_shape: tuple[int, ...]) -> Layout:
    signals = feature.ndim == 3 and len(input_shape) == 2
    return layout_of(feature.shape, given=Layout.SIGNAL if signals else None)


def _transfer(rank: int, num_in: int, num_out: int, factor: int) -> nn.Sequential:
    inner = max(1, num_out // factor)
    layers: list[nn.Module] = []
    for before, after, kernel in ((num_in, inner, 1), (inner, inner, 3), (inner, num_out, 1)):
        layers.append(conv(rank, before, after, kernel=kernel, bias=False))
        layers += [norm(rank, after), nn.ReLU()]
    return nn.Sequential(*layers)
