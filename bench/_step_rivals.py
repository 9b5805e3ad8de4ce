"""The same step by other libraries, as their documentation has it; absent ones raise.

All take the same teacher, student, optimiser, temperature and weights as the plain loop.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from potstill import Batch

Step = Callable[[int], object]
CFG = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # the same for both, so nothing is done


def timm_task(
    teacher: nn.Module,
    student: nn.Module,
    batches: Sequence[Batch],
    heat: float,
    soft: float,
) -> Step:
    """timm's `LogitDistillationTask`, compiled, with bfloat16 autocast and channels_last."""
    from timm.task import LogitDistillationTask

    device = batches[0].inputs.device
    layout = torch.channels_last
    teacher, student = (_dressed(m).to(memory_format=layout) for m in (teacher, student))
    task = LogitDistillationTask(
        student_model=student, teacher_model=teacher, criterion=nn.CrossEntropyLoss(),
        distill_loss_weight=soft, task_loss_weight=1 - soft, temperature=heat,
        device=device, verbose=False,
    )  # fmt: skip
    task.train()
    task.compile()
    optimizer = _optimizer(student)

    def step(number: int) -> Tensor:
        batch = batches[number % len(batches)]
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            x = batch.inputs.contiguous(memory_format=layout)
            loss: Tensor = task(x, batch.labels)["loss"]
        loss.backward()
        optimizer.step()
        return loss

    return step


def torchdistill_box(
    teacher: nn.Module,
    student: nn.Module,
    batches: Sequence[Batch],
    heat: float,
    soft: float,
) -> Step:
    """torchdistill's `DistillationBox` with its `KDLoss`; it has no switches for the CPU."""
    from torchdistill.core.distillation import DistillationBox

    loss = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": ".", "student_module_io": "output",
            "teacher_module_path": ".", "teacher_module_io": "output",
            "temperature": heat, "alpha": 1 - soft, "reduction": "batchmean",
        },
    }  # fmt: skip
    config: dict[str, Any] = {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-3, "weight_decay": 0.0}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
        },
    }
    device = batches[0].inputs.device
    box = DistillationBox(
        deepcopy(teacher).eval(), student.train(), {}, config, device, None, False, 1
    )

    def step(number: int) -> Tensor:
        batch = batches[number % len(batches)]
        value: Tensor = box.forward_process(batch.inputs, batch.labels, None)
        box.post_forward_process(value)
        return value

    return step


RIVALS: dict[str, Callable[[nn.Module, nn.Module, Sequence[Batch], float, float], Step]] = {
    "timm, LogitDistillationTask, every switch on": timm_task,
    "torchdistill, DistillationBox": torchdistill_box,
}

ABSENT = {
    "KD_Lib 0.0.32": "it needs torchtext, which stopped at torch 2.3, and asks for torch 1.8.1",
}


def _dressed(model: nn.Module) -> nn.Module:
    """A copy with what timm reads off its own models."""
    copy = deepcopy(model)
    copy.pretrained_cfg = CFG  # type: ignore[assignment]
    copy.num_classes, copy.in_chans = 100, 3  # type: ignore[assignment]
    return copy


def _optimizer(student: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
