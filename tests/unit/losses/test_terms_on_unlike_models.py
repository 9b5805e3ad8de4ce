"""Every term on layers, with `auto`, between unlike architectures: it binds and is learnt."""

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.build.learning import build_objective
from potstill.recipe import TermSpec
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, OptimizerName, TrainSettings

SIZE, CLASSES = 16, 5


class Transformer(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True, dropout=0.1)
            for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).movedim(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


def convolutions(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE**2, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(),
        nn.Linear(7, CLASSES),
    )  # fmt: skip


MODELS = {
    "conv": lambda: convolutions(4, 8),
    "deep conv": lambda: convolutions(6, 8, 12),
    "transformer": Transformer,
    "perceptron": perceptron,
}
LAYER_TERMS = {
    name: term for name, term in L.TERMS.items() if issubclass(term, L.BatchTerm | L.MapTerm)
}


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 3, SIZE, SIZE, generator=generator)
    return Batch(inputs, torch.arange(20) % CLASSES)


def distiller(objective: L.Objective, student: str, teacher: str) -> Distiller:
    torch.manual_seed(0)
    return Distiller(
        MODELS[student](),
        ModuleTeacher(MODELS[teacher](), Classification()),
        objective=objective,
        settings=TrainSettings(optimizer=OptimizerName.ADAM, lr=3e-3),
    )


CASES = [
    *((name, "conv", "transformer") for name in LAYER_TERMS),
    *(
        (name, "transformer", "deep conv")
        for name in ("nst", "fsp", "similarity_preserving", "crd")
    ),
    ("srd", "perceptron", "transformer"),
    ("similarity_preserving", "perceptron", "conv"),
]


@pytest.mark.parametrize(("name", "student", "teacher"), CASES)
def test_a_term_named_in_a_recipe_is_learnt(name: str, student: str, teacher: str) -> None:
    trained = distiller(build_objective([TermSpec(term=name)]), student, teacher)
    agreement = trained.prepare(batch())

    losses = [float(trained.step(batch())["loss"]) for _ in range(20)]

    assert all(line.startswith(agreement.objective.names[0]) for line in agreement.pairing)
    assert min(losses[-4:]) < losses[0] - 0.01 * abs(losses[0])
    assert list(trained.student.state_dict()) == list(MODELS[student]().state_dict())


def test_layers_in_lists_come_from_a_recipe() -> None:
    spec = TermSpec(
        term="attention_transfer",
        weight=1000,
        student_layer=["0", "3"],
        teacher_layer=["0", "3"],
        form="squared",
    )

    trained = distiller(build_objective([spec]), "conv", "deep conv")

    assert trained.prepare(batch()).pairing == (
        "attention_transfer: 0 → 0: [4, 8, 8] → [6, 8, 8], no projector",
        "attention_transfer: 3 → 3: [8, 4, 4] → [8, 4, 4], no projector",
    )


def test_terms_that_compare_samples_say_so_where_batches_are_cut() -> None:
    objective = 1 * L.PKT() + L.AttentionTransfer()
    trained = distiller(objective, "conv", "deep conv")
    trained.settings = TrainSettings(accumulate=2)

    lines = [line for line in trained.prepare(batch()).pairing if "compares" in line]

    assert len(lines) == 1
    assert lines[0].startswith("pkt: it compares the rows of a batch, and each batch is cut into 2")
