"""Models that scale or cap their logits: chunked losses and gradients against dense autograd."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from potstill.errors import ModelError
from potstill.functional.heads import Shape, ShapedLinear, shape_of
from potstill.functional.tokens import next_tokens
from potstill.losses import KD, CrossEntropy, Objective, weighted
from potstill.models import ModelConfig, create_model
from potstill.models.logit_shapes import check_logits
from potstill.signals import Batch, LazyLogits, Logits, Signals, Target
from potstill.tasks import CausalLM
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TrainSettings

VOCABULARY = 29
FAMILIES = {
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.7},
    "cohere": {"logit_scale": 3.5},
    "granite": {"logits_scaling": 0.4, "attention_multiplier": 0.3},
    "llama": {},
}
BOTH = 0.7 * KD(temperature=2.0) + 0.3 * CrossEntropy()


def model(kind: str, *, seed: int = 0, **changes: object) -> nn.Module:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
        "initializer_range": 0.5,
    }
    config = ModelConfig(
        source="hf",
        name=kind,
        options={"model_type": kind, "config": {**sizes, **FAMILIES[kind], **changes}},
        input_shape=(2, 9),
        num_outputs=VOCABULARY,
        purpose="causal_lm",
    )
    return create_model(config, seed=seed).eval()


def batch() -> Batch:
    ids = torch.randint(1, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(3))
    planes = torch.stack([ids, torch.ones_like(ids)], 1)
    return Batch(inputs=planes, labels=next_tokens(ids, torch.ones_like(ids)))


def gradients(student: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


def loss_of(student: Signals, teacher: Signals, target: Target, objective: Objective):
    return objective(student, teacher, target).loss


@pytest.mark.parametrize("kind", FAMILIES)
def test_losses_and_gradients_are_those_of_the_models_own_logits(kind: str) -> None:
    task, given = CausalLM(), batch()
    student, teacher = model(kind), model(kind, seed=1)
    target = task.target(given)
    asked = given.labels != -100

    lazy = task.forward(student, given)
    loss_of(lazy, task.forward(teacher, given), target, BOTH).backward()
    mine = gradients(student)
    student.zero_grad()
    own = [
        Signals(Logits(m.model(input_ids=given.inputs[:, 0]).logits[asked]))
        for m in (student, teacher)
    ]
    loss_of(own[0], own[1], target, BOTH).backward()

    assert shape_of(student.head) == getattr(student.head, "shape", Shape())
    assert isinstance(student.head, ShapedLinear) == (kind != "llama")
    torch.testing.assert_close(mine, gradients(student), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [Shape(cap=2.0), Shape(scale=0.3), Shape(scale=3.0, cap=1.5)])
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_chunks_change_nothing(shape: Shape, chunk: int | None) -> None:
    torch.manual_seed(0)
    linear, states = nn.Linear(6, 11).double(), torch.randn(9, 6, dtype=torch.double)
    teacher = Signals(LazyLogits(states.flip(0), ShapedLinear(linear, shape)))
    target = Target(9, labels=torch.arange(9), weights=torch.linspace(0.1, 2, 9).double())
    found = []
    for lazy in (True, False):
        leaf = states.clone().requires_grad_()
        head = nn.Linear(6, 11).double()
        head.load_state_dict({k: v + 0.1 for k, v in linear.state_dict().items()})
        logits = head(leaf) * shape.scale
        dense = logits if shape.cap is None else shape.cap * torch.tanh(logits / shape.cap)
        made = LazyLogits(leaf, ShapedLinear(head, shape), chunk_rows=chunk)
        loss = loss_of(Signals(made if lazy else Logits(dense)), teacher, target, BOTH)
        loss.backward()
        found.append([loss.detach(), leaf.grad, head.weight.grad, head.bias.grad])

    for one, other in pairwise(found):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_a_capped_student_learns_and_its_parameters_are_counted_once() -> None:
    student, teacher = model("gemma2"), model("gemma2", seed=1)
    count = sum(p.numel() for p in student.parameters())

    distiller = Distiller(
        student,
        ModuleTeacher(teacher, CausalLM()),
        task=CausalLM(),
        objective=weighted(KD(temperature=1.0)),
        settings=TrainSettings(lr=1e-2, batch_size=3),
    )
    steps = [float(distiller.step(batch())["loss"]) for _ in range(8)]

    assert steps[-1] < steps[0]
    assert sum(p.numel() for p in student.parameters()) == count


def test_what_is_done_to_logits_otherwise_is_refused() -> None:
    made = model("llama")
    linear = made.model.get_output_embeddings()
    with pytest.raises(ModelError, match="more to its logits"):
        check_logits(made.model, ShapedLinear(linear, Shape(scale=2.0)))
    made.model.config.logit_scale, made.model.config.final_logit_softcapping = 2.0, 3.0
    with pytest.raises(ModelError, match="in several ways"):
        type(made)(made.model)
