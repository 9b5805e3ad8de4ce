"""Every way to run a module answers as the module does, or is noticed."""

import importlib.util
import warnings

import pytest
import torch
from torch import nn

from potstill.runtime.fast import Bounds, Machine, compare
from potstill.runtime.fast.engines import Engine, Subject, torch_engines
from potstill.runtime.fast.graphs import graph_engines
from potstill.runtime.fast.quiet import quietly

from .nets import Branching, Cancelling, conv_net, images

SLOW = {"compiled", "compiled bf16"}
PLAIN = ["channels_last", "folded", "bf16 autocast", "bf16 folded"]
GRAPHS = ["onnxruntime", "onnxruntime int8"]
OPENVINO = ["openvino", "openvino bf16", "openvino int8"]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


def subject(model: nn.Module) -> Subject:
    batches = tuple(images(16, seed=seed) for seed in range(4))
    return Subject(module=model.eval(), samples=batches, machine=Machine.here("cpu"))


def engines(model: nn.Module) -> dict[str, Engine]:
    chosen = subject(model)
    return {e.name: e for e in (*torch_engines(chosen), *graph_engines(chosen))}


def broken(model: nn.Module, engine: Engine) -> str | None:
    with torch.no_grad(), quietly():
        fast = engine.make()
        rows = images(64, seed=9)
        return compare(model(rows), fast(rows), kind="single_label").broken(Bounds())


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    return conv_net()


@pytest.fixture(scope="module")
def ways(net) -> dict[str, Engine]:
    return engines(net)


def test_all_ways_are_listed(ways) -> None:
    assert set(ways) == {*PLAIN, *SLOW, *GRAPHS, *OPENVINO}


@pytest.mark.parametrize("name", [*PLAIN, *GRAPHS])
def test_answers_stay_within_the_bounds_for_any_batch_size(net, ways, name) -> None:
    with torch.no_grad(), quietly():
        fast = ways[name].make()
        for rows in (16, 5, 1):
            x = images(rows, seed=rows)
            answer = fast(x)
            assert answer.dtype == torch.float32
            assert compare(net(x), answer, kind="single_label").broken(Bounds()) is None


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
@pytest.mark.parametrize("name", OPENVINO)
def test_openvino_stays_within_the_bounds(net, ways, name) -> None:
    assert broken(net, ways[name]) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SLOW))
def test_compiled_stays_within_the_bounds(net, ways, name) -> None:
    assert broken(net, ways[name]) is None
    with torch.no_grad(), quietly():
        fast = ways[name].make()
        x = images(16, seed=3)
        assert compare(net(x), fast(x), kind="single_label").broken(Bounds()) is None


def test_folding_leaves_no_batch_norm_and_the_original_alone(net, ways) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}

    with quietly():
        folded = ways["folded"].make()

    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()


@pytest.mark.parametrize("name", ["bf16 folded", "onnxruntime int8"])
def test_what_low_precision_breaks_is_noticed(name) -> None:
    model = Cancelling(conv_net()).eval()

    assert broken(model, engines(model)[name]) is not None


def test_a_module_that_cannot_be_traced_runs_unfolded_and_is_not_exported() -> None:
    model = Branching().eval().requires_grad_(False)
    found = engines(model)

    assert broken(model, found["folded"]) is None
    with pytest.raises(Exception, match=r"data-dependent|torch.cond|Branching"), quietly():
        found["onnxruntime"].make()


def test_layers_are_shown_only_where_they_are_what_they_were(ways) -> None:
    assert {n for n, e in ways.items() if e.shows_layers} == {"channels_last", "bf16 autocast"}


def test_quietly_silences_and_restores(capsys) -> None:
    with quietly():
        print("said")
        warnings.warn("warned", stacklevel=1)

    assert capsys.readouterr().out == ""
    with pytest.raises(UserWarning):
        warnings.warn("warned", stacklevel=1)


def test_the_machine_is_described() -> None:
    machine = Machine.here("cpu")

    assert machine.threads == torch.get_num_threads()
    assert f"torch {torch.__version__.partition('+')[0]}" in machine.key
