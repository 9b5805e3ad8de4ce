"""Exits: their terms, answers that stop at the first sure one, and that they are not exported."""

import pytest
import torch
import torch.nn.functional as F

from potstill.errors import ModelError, RecipeError
from potstill.losses import CrossEntropy, ExitCrossEntropy, ExitKD
from potstill.measure.size import flops
from potstill.models import ModelConfig, create_model
from potstill.models.exits import WithExits, answer_early, exit_logits
from potstill.pipeline.early import exit_flops
from potstill.runtime.fabric import Runtime
from potstill.signals import Logits, Signals, Target
from potstill.train import Distiller, TensorBatches, TrainSettings

NAMES = ("exits.0", "exits.1")


def _model(exits=("layer2", "layer1"), name="cnn", shape=(1, 8, 8)) -> WithExits:
    config = ModelConfig(
        source="builtin", name=name, options={"width": 4, "exits": list(exits)},
        input_shape=shape, num_outputs=3,
    )  # fmt: skip
    model = create_model(config)
    assert isinstance(model, WithExits)
    return model.eval()


@pytest.fixture
def said() -> tuple[Signals, torch.Tensor, Target]:
    generator = torch.Generator().manual_seed(1)
    each = torch.randn(3, 6, 4, generator=generator).double().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    labelled = torch.tensor([True, True, False, True, True, True])
    features = {"exits.0": each[0], "exits.1": each[1]}
    signals = Signals(logits=Logits(each[2]), features=features)
    return signals, each, Target(6, labels=labels, labelled=labelled)


def test_exits_learn_from_labels(said) -> None:
    signals, each, target = said
    partial = ExitCrossEntropy(exits=NAMES)(signals, Signals(), target)
    (gradient,) = torch.autograd.grad(partial.total, each)

    assert target.labels is not None
    assert target.labelled is not None
    expected, moved = 0.0, torch.zeros_like(each)
    for row in target.labelled.nonzero()[:, 0].tolist():
        for number in range(2):
            p, label = each[number, row].detach().softmax(-1), int(target.labels[row])
            expected += -float(p[label].log()) / 2
            moved[number, row] = (p - F.one_hot(torch.tensor(label), 4)) / 2
    assert float(partial.total.detach()) == pytest.approx(expected)
    assert int(partial.count) == 5
    torch.testing.assert_close(gradient, moved)


def test_classes_weigh_at_exits_as_at_the_end(said) -> None:
    signals, each, target = said
    weights = (0.5, 2.0, 1.0, 0.0)

    exits = ExitCrossEntropy(exits=("exits.0",), class_weights=weights)(signals, Signals(), target)
    end = CrossEntropy(class_weights=weights)(Signals(logits=Logits(each[0])), Signals(), target)

    torch.testing.assert_close(exits.total, end.total, check_dtype=False)
    assert int(exits.count) == int(end.count)


@pytest.mark.parametrize("by", ["deepest", "teacher"])
def test_exits_learn_from_the_last_layer_or_the_teacher(said, by) -> None:
    signals, each, target = said
    taught = torch.randn(6, 4, generator=torch.Generator().manual_seed(8)).double()
    teacher = Signals(logits=Logits(taught))
    partial = ExitKD(exits=NAMES, by=by, temperature=2)(signals, teacher, target)
    (gradient,) = torch.autograd.grad(partial.total, each)

    source = each[2].detach() if by == "deepest" else taught
    expected, moved = 0.0, torch.zeros_like(each)
    for row in range(6):
        p = (source[row] / 2).softmax(-1)
        for number in range(2):
            q = (each[number, row].detach() / 2).softmax(-1)
            expected += 4 * float((p * (p / q).log()).sum()) / 2
            moved[number, row] = 2 * (q - p) / 2
    assert float(partial.total.detach()) == pytest.approx(expected)
    torch.testing.assert_close(gradient, moved)  # none reaches the last layer


def test_each_sample_stops_at_its_first_sure_exit() -> None:
    model = _model()
    inputs = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        every = exit_logits(model, inputs)
        sure = every.softmax(-1).amax(-1)
        assert torch.equal(every[-1], model(inputs))
    assert model.layers == ("layer1", "layer2")
    for threshold in (0.0, float(sure[0].median()), float(sure[1].median()), 1.1):
        early = answer_early(model, inputs, threshold=threshold)
        for row in range(40):
            stops = next((e for e in range(2) if sure[e, row] >= threshold), 2)
            assert early.exits_B[row] == stops
            torch.testing.assert_close(early.logits_BC[row], every[stops, row])


def test_flops_rise_from_exit_to_exit_and_the_model_alone_has_none_of_theirs() -> None:
    model, sample = _model(), torch.randn(1, 1, 8, 8)
    first, second, last = exit_flops(model, sample)
    assert first < second < last
    assert flops(model, sample) == flops(model.body, sample) < last


def test_signals_have_exits_too() -> None:
    model = _model(exits=("layer1",), shape=(2, 40))
    assert exit_logits(model, torch.randn(5, 2, 40)).shape == (2, 5, 3)


def test_training_moves_the_exits() -> None:
    model = _model().train()
    before = {name: value.clone() for name, value in model.exits.state_dict().items()}
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 3
    Distiller(
        model,
        objective=CrossEntropy() + ExitCrossEntropy(exits=NAMES) + ExitKD(exits=NAMES),
        settings=TrainSettings(epochs=1, batch_size=16),
        runtime=Runtime(device="cpu"),
    ).fit(TensorBatches(x, y, batch_size=16))
    assert not any(torch.equal(v, before[n]) for n, v in model.exits.state_dict().items())


def test_wrong_exits_are_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="no layer"):
        _model(exits=("layer9",))
    with pytest.raises(ModelError, match="empty"):
        _model(exits=())
    with pytest.raises(RecipeError, match=r"exits\.0"):
        ExitKD(exits="exits.0")
