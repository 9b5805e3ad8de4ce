"""Parts of terms train with the student, go on with it after a stop, and are never shipped."""

import signal

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.errors import Interrupted
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TensorBatches, TrainSettings


class Net(nn.Module):
    """Two stages of maps, a pooled vector, logits."""

    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layer1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
            self.layer2 = nn.Sequential(nn.Conv2d(width, width, 3, 2, padding=1), nn.ReLU())
            self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.layer2(self.layer1(x)).mean((2, 3))))


EVERYTHING = (
    0.1 * L.CrossEntropy()
    + L.OFA()
    + L.VID("layer2", "layer2")
    + 1e-3 * L.MGD("layer2", "layer2")
    + 0.1 * L.FactorTransfer("layer1", "layer1", paraphraser_epochs=2)
    + 3e-3 * L.ActivationBoundaries("layer1", "layer1")
    + L.Review(("layer1", "layer2"), ("layer1", "layer2"), width=4)
    + L.ViTKD(("layer1", "layer2"), ("layer1", "layer2"), alpha=0.01, beta=0.01)
    + L.OFAExits(("layer1",), width=4)
    + L.PKD("layer2", "layer2")
    + L.CWD("layer2", "layer2")
)


class Stop:
    """A progress that asks to stop at a step."""

    def __init__(self, at: int) -> None:
        self._at = at

    def begin(self, title: str, total_steps: int, done_steps: int) -> None: ...

    def advance(self, steps_done: int) -> None:
        if steps_done == self._at:
            signal.raise_signal(signal.SIGINT)

    def note(self, text: str) -> None: ...

    def end(self) -> None: ...


def batches() -> TensorBatches:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    inputs = torch.randn(24, 1, 8, 8, generator=generator) + labels[:, None, None, None]
    return TensorBatches(inputs, labels, batch_size=8, seed=1)


def distiller(objective: L.Objective = EVERYTHING, **settings: object) -> Distiller:
    return Distiller(
        Net(3, seed=1),
        ModuleTeacher(Net(5, seed=2), Classification()),
        objective=objective,
        settings=TrainSettings(epochs=3, lr=1e-2, **settings),
        runtime=Runtime(device="cpu"),
    )


def test_a_training_that_was_stopped_ends_bitwise_alike(tmp_path) -> None:
    whole = distiller()
    expected = whole.fit(batches(), seed=4)

    with pytest.raises(Interrupted):
        distiller().fit(batches(), seed=4, folder=tmp_path, progress=Stop(4))
    again = distiller()
    found = again.fit(batches(), seed=4, folder=tmp_path)

    assert found.steps == expected.steps == 9
    for name, value in expected.last.items():
        assert torch.equal(found.last[name], value), name
    parts = [d.objective.parts().state_dict() for d in (whole, again)]
    assert parts[0].keys() == parts[1].keys()
    for name, value in parts[0].items():
        assert torch.equal(parts[1][name], value), name


def test_parts_learn_are_listed_and_do_not_ship() -> None:
    made = distiller()
    agreement = made.prepare(batches().batch(0, 0))
    before = {n: v.clone() for n, v in made.objective.parts().named_parameters()}

    fit = made.fit(batches())

    listed = "\n".join(agreement.pairing)
    for name in ("vid", "mgd", "factor_transfer", "activation_boundaries", "review", "vitkd"):
        assert f"{name}: layer" in listed
    assert "ofa_exits: layer1: map [3, 8, 8] → 3 classes" in listed
    assert fit.student.state_dict().keys() == Net(3, seed=1).state_dict().keys()
    after = dict(made.objective.parts().named_parameters())
    still = {n for n, v in before.items() if torch.equal(v, after[n])}
    assert not {n for n in still if after[n].requires_grad}


def test_layers_that_nobody_named_are_chosen() -> None:
    objective = L.Review(width=4) + L.ViTKD() + L.VID() + 0.01 * L.MGD() + L.FactorTransfer()
    made = distiller(objective)

    agreement = made.prepare(batches().batch(0, 0))
    made.rehearse(batches())
    made.step(batches().batch(0, 0))

    stages = "layer1 → layer1, layer2 → layer2"
    heads = (
        "review: " + stages,
        "vitkd: " + stages,
        "vid: layer2 → layer2",
        "mgd: layer2 → layer2",
    )
    for line, head in zip(agreement.pairing, heads, strict=False):
        assert line.startswith(head)


def test_the_paraphraser_learns_before_the_student_and_then_stays() -> None:
    term = L.FactorTransfer("layer1", "layer1", paraphraser_epochs=20, paraphraser_lr=1e-2)
    made = distiller(L.CrossEntropy() + term)
    made.prepare(batches().batch(0, 0))
    factors = made.objective.summands[1].term.projector
    image = batches().batch(0, 0)
    read = made.teacher.signals(image, layers=("layer1",)).features["layer1"]

    def wrong() -> float:
        with torch.no_grad():
            again = factors.decoder(factors.paraphraser(read))
        return float((again - read).square().mean() / read.var())

    first = wrong()
    state = torch.get_rng_state()
    made.rehearse(batches())

    assert wrong() < 0.3 * first
    assert torch.equal(torch.get_rng_state(), state)
    kept = {n: v.clone() for n, v in factors.paraphraser.state_dict().items()}
    moving = factors.network[0].weight.clone()
    made.step(image)
    assert all(torch.equal(v, kept[n]) for n, v in factors.paraphraser.state_dict().items())
    assert not torch.equal(factors.network[0].weight, moving)


def test_masks_differ_from_step_to_step_and_not_from_cut_to_cut() -> None:
    objective = 1e-2 * L.MGD("layer2", "layer2") + L.ViTKD(("layer1",) * 2, ("layer1",) * 2)
    whole, cut = distiller(objective), distiller(objective, accumulate=3)
    batch = batches().batch(0, 0)
    for made in (whole, cut):
        made.student.dropout.p = 0.0
        made.prepare(batch)

    first, gradients = whole.gradients(batch)
    _, pieces = cut.gradients(batch)
    whole.steps_done = 1
    second, _ = whole.gradients(batch)

    for one, other in zip(gradients, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert float(first) != float(second)


def test_batches_carry_no_word_unless_a_term_draws() -> None:
    seen: list[Tensor | None] = []
    batch = batches().batch(0, 0)
    for objective in (1 * L.CrossEntropy(), 1 * L.MGD("layer1", "layer1")):
        made = distiller(objective)
        made.prepare(batch)
        learn = made._learn
        made._learn = lambda b, *, counts, learn=learn: (
            seen.append(b.chance),
            learn(b, counts=counts),
        )[1]
        made.steps_done = 2
        made.step(batch)

    assert seen[0] is None
    assert seen[1].tolist() == [(2 << 32) + row for row in range(8)]
    assert Batch(batch.inputs, chance=seen[1]).rows(slice(3, 5)).chance.tolist() == [
        (2 << 32) + 3,
        (2 << 32) + 4,
    ]
