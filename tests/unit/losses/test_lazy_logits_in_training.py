"""Lazy logits within autocast, compiled models, data parallelism and the trainer."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from potstill import losses as L
from potstill.protocols import Task
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch, LazyLogits, Logits, Signals, Target
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import tiny_mlp
from potstill.train import Distiller, TrainSettings

from .cases import relative

ROWS, WIDTH, CLASSES = 48, 16, 40
OBJECTIVE = 0.9 * L.KD(temperature=2) + 0.1 * L.CrossEntropy()


class Student(nn.Module):
    """Embedding, one layer, and a head that is not computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Embedding(CLASSES, WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH)
        )
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor, teacher: Tensor, *, lazy: bool) -> Tensor:
        hidden = self.body(tokens)
        made = LazyLogits(hidden, self.head, chunk_rows=13) if lazy else Logits(self.head(hidden))
        target = Target(len(tokens), tokens)
        return OBJECTIVE(Signals(made), Signals(Logits(teacher)), target).loss


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(CLASSES, (ROWS,), generator=generator)
    return tokens, 3 * torch.randn(ROWS, CLASSES, generator=generator)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("_orig_mod."): p.grad for name, p in model.named_parameters()}


def assert_alike(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        assert relative(got[name], value) < tolerance, name


def test_autocast_computes_the_head_in_bfloat16_and_the_loss_in_float32() -> None:
    found, losses = [], []
    for lazy in (True, False):
        model = Student()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(*batch(), lazy=lazy)
        loss.backward()
        found.append(gradients(model))
        losses.append(loss.detach())
    exact = Student()
    exact(*batch(), lazy=False).backward()

    assert losses[0].dtype is torch.float32
    assert relative(losses[0], losses[1]) < 1e-5
    assert_alike(found[0], found[1], 1e-2)
    assert_alike(found[0], gradients(exact), 3e-2)
    assert found[0]["head.weight"].dtype is torch.float32


def test_bfloat16_weights_are_as_good_as_the_dense_way() -> None:
    exact, found = Student().double(), []
    tokens, teacher = batch()
    exact(tokens, teacher.double(), lazy=False).backward()
    for lazy in (True, False):
        model = Student().bfloat16()
        model(tokens, teacher, lazy=lazy).backward()
        found.append(gradients(model))

    for name, value in gradients(exact).items():
        errors = [relative(g[name], value) for g in found]
        assert found[0][name].dtype is torch.bfloat16
        assert errors[0] < 1.5 * errors[1] + 2e-3, name


def test_float16_keeps_probabilities_that_a_division_by_the_count_would_lose() -> None:
    # Divided by 10^6 rows before the product, probabilities of 1e-3 would be 0 in half precision.
    rows, scale = 10**6, 2.0**16
    torch.manual_seed(0)
    head, hidden = nn.Linear(WIDTH, CLASSES).half(), torch.randn(ROWS, WIDTH).half()
    teacher = Signals(Logits(batch()[1]))

    leaf = hidden.clone().requires_grad_()
    value = OBJECTIVE(
        Signals(LazyLogits(leaf, head)), teacher, Target(ROWS, batch()[0]), (rows,) * 2
    )
    (scale * value.loss).backward()

    exact_head, exact = nn.Linear(WIDTH, CLASSES).double(), hidden.double().requires_grad_()
    exact_head.load_state_dict(head.state_dict())
    expected = OBJECTIVE(
        Signals(LazyLogits(exact, exact_head)), teacher, Target(ROWS, batch()[0]), (rows,) * 2
    )
    (scale * expected.loss).backward()
    assert leaf.grad.dtype is torch.float16
    assert relative(leaf.grad, exact.grad) < 1e-2
    assert relative(head.weight.grad, exact_head.weight.grad) < 1e-2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("whole", [True, False], ids=["with the loss", "the body alone"])
def test_a_compiled_model_learns_the_same(whole: bool) -> None:
    plain, model = Student(), Student()
    plain(*batch(), lazy=True).backward()

    if whole:
        torch.compile(model, backend="aot_eager")(*batch(), lazy=True).backward()
    else:
        model.body.compile(backend="aot_eager")
        model(*batch(), lazy=True).backward()

    assert_alike(gradients(model), gradients(plain), 1e-6)


_TWO = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from tests.unit.losses.test_lazy_logits_in_training import Student, batch, gradients
dist.init_process_group("gloo")
rank = dist.get_rank()
model = torch.nn.parallel.DistributedDataParallel(Student())
tokens, teacher = batch()
mine = slice(rank * 24, rank * 24 + 24)
with model.no_sync():
    model(tokens[mine][:12], teacher[mine][:12], lazy=True).backward()
model(tokens[mine][12:], teacher[mine][12:], lazy=True).backward()
if rank == 0:
    torch.save(gradients(model.module), sys.argv[2])
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    script, saved = tmp_path / "two.py", tmp_path / "gradients.pt"
    script.write_text(_TWO)
    root = str(Path(__file__).parents[3])
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29500 + os.getpid() % 2000),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(
            [sys.executable, script, root, saved],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors

    one = Student()
    one(*batch(), lazy=True).backward()
    # Each rank divided by its own two micro-batches of 12 and the wrapper took the mean.
    halves = {n: g / 2 for n, g in torch.load(saved, weights_only=True).items()}
    assert_alike(halves, gradients(one), 1e-5)


class LazyClassification(Task):
    """Classification whose head is left to the loss."""

    kind, primary, higher_is_better = "single_label", "accuracy", True

    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        *body, head = model.children()
        return Signals(LazyLogits(nn.Sequential(*body)(batch.inputs), head, chunk_rows=5))

    def target(self, batch: Batch) -> Target:
        return Classification().target(batch)

    def scores(self, outputs_NC: Tensor) -> Tensor:
        return Classification().scores(outputs_NC)

    def metrics(self, num_outputs: int) -> object:
        return Classification().metrics(num_outputs)

    def default_objective(self) -> object:
        return Classification().default_objective()


def test_the_trainer_learns_with_lazy_logits_what_it_learns_with_dense_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(30, 6, generator=generator), torch.arange(30) % 3
    weights = []

    for task in (LazyClassification(), Classification()):
        student = tiny_mlp(6, 8, 3, seed=1)
        distiller = Distiller(
            student,
            ModuleTeacher(tiny_mlp(6, 24, 3, seed=9), Classification()),
            objective=OBJECTIVE,
            task=task,
            settings=TrainSettings(lr=1e-2, accumulate=2),
            runtime=Runtime(device="cpu"),
        )
        for _ in range(3):
            distiller.step(Batch(inputs, labels))
        weights.append(student.state_dict())

    assert_alike(weights[0], weights[1], 1e-4)
