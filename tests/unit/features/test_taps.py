"""Taps read the inside of a model and leave nothing behind."""

from dataclasses import dataclass

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features import layer_names, tapped


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.act = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.act(self.act(self.first(x))))


def traces(model: nn.Module) -> list[object]:
    hooks = [name for name in vars(model) if "hook" in name]
    return [
        (name, sorted(vars(module)), [repr(vars(module)[h]) for h in hooks], module.training)
        for name, module in model.named_modules()
    ] + [(name, value.tolist()) for name, value in model.state_dict().items()]


def test_outputs_are_collected_by_name() -> None:
    model, inputs = Net(), torch.randn(5, 4)

    with tapped(model, ["body", "body.0"]) as features:
        assert not features
        output = model(inputs)

    assert set(features) == {"body", "body.0"}
    assert torch.equal(features["body"], output)
    assert features["body.0"].shape == (5, 3)
    assert features["body"].requires_grad


def test_a_model_is_left_as_it_was() -> None:
    model = Net()
    before = traces(model)

    with tapped(model, ["first", "body.1"]) as features:
        model(torch.randn(2, 4))
    after_use = dict(features)
    model(torch.randn(2, 4))

    assert traces(model) == before
    assert features == after_use


def test_a_model_is_left_as_it_was_after_an_error() -> None:
    model = Net()
    before = traces(model)

    with pytest.raises(RuntimeError), tapped(model, ["first"]):
        model(torch.randn(2, 7))

    assert traces(model) == before


def test_an_unknown_layer_is_named_with_the_nearest_ones() -> None:
    model = Net()
    before = traces(model)

    with (
        pytest.raises(ModelError, match=r"`bdy.0` \(nearest: `body.0`.*`frist` \(nearest: `first`"),
        tapped(model, ["first", "bdy.0", "frist"]),
    ):
        pass

    assert traces(model) == before


def test_a_later_layer_that_works_in_place_does_not_change_what_was_tapped() -> None:
    model, inputs = Net(), torch.randn(64, 4)

    with tapped(model, ["first"]) as features:
        model(inputs)

    assert torch.equal(features["first"], model.first(inputs))
    assert (features["first"] < 0).any()


def test_gradients_flow_through_a_tap() -> None:
    model = Net()

    with tapped(model, ["first"]) as features:
        model(torch.randn(5, 4))
    features["first"].square().sum().backward()

    assert model.first.weight.grad.any()
    assert model.body[0].weight.grad is None


def test_of_a_layer_that_runs_twice_the_last_output_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    model = Twice()

    with tapped(model, ["layer"]) as features:
        output = model(torch.randn(2, 3))

    assert torch.equal(features["layer"], output)


@dataclass
class Answer:
    note: str
    hidden: tuple[Tensor, Tensor]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: (None, t, t + 1),
        lambda t: {"mask": None, "hidden": t},
        lambda t: Answer("x", (t, t + 1)),
        lambda t: [t],
    ],
    ids=["tuple", "mapping", "record", "list"],
)
def test_the_first_tensor_of_a_composite_output_is_taken(wrap) -> None:
    class Composite(nn.Module):
        def forward(self, x: Tensor) -> object:
            return wrap(x)

    model = nn.Sequential()
    model.add_module("inner", Composite())
    inputs = torch.randn(2, 3)

    with tapped(model, ["inner"]) as features:
        model(inputs)

    assert torch.equal(features["inner"], inputs)


def test_a_layer_without_a_tensor_is_refused() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "done"

    model = nn.Sequential(Silent())

    with pytest.raises(ModelError, match="gives a str"), tapped(model, ["0"]):
        model(torch.randn(1))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: Fabric(accelerator="cpu").setup_module(model),
        lambda model: Fabric(accelerator="cpu").setup_module(nn.DataParallel(model)),
        lambda model: torch.compile(model, backend="eager"),
    ],
    ids=["fabric", "parallel", "compiled"],
)
def test_names_are_those_of_the_model_inside_wrappers(wrap) -> None:
    model = wrap(Net())

    assert layer_names(model) == layer_names(Net())
    with tapped(model, ["body.0"]) as features:
        model(torch.randn(2, 4))
    assert features["body.0"].shape == (2, 3)


def test_layer_names_are_listed_in_order() -> None:
    assert layer_names(Net()) == ("first", "act", "body", "body.0", "body.1")
