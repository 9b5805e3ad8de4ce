"""LoRA students: the base stays, is the teacher with the adapters off, and ships merged."""

from dataclasses import replace

import pytest
import torch

from potstill.errors import ModelError
from potstill.export.pretrained import export_pretrained
from potstill.losses import KD, CrossEntropy
from potstill.models import create_model, load_model, save_model
from potstill.models.adapters import adapters_off, has_adapters, merged
from potstill.tasks import CausalLM
from potstill.teachers import AdapterOffTeacher
from potstill.train import Distiller, TrainSettings

from .tiny import batch, config

pytest.importorskip("peft")

TASK = CausalLM()


def adapted(**lora: object):
    plain = config("qwen2")
    made = replace(plain, options={**plain.options, "lora": {"rank": 4, **lora}})
    return made, create_model(made, seed=0)


def trained(steps: int = 3):
    made, student = adapted()
    teacher = AdapterOffTeacher(student, TASK, off=adapters_off)
    objective = 0.5 * KD(temperature=1) + 0.5 * CrossEntropy()
    settings = TrainSettings(lr=1e-2)
    distiller = Distiller(student, teacher, objective=objective, task=TASK, settings=settings)
    for seed in range(steps):
        distiller.step(batch([9, 4, 7], seed=seed))
    return made, student, teacher


def test_adapters_begin_as_the_base() -> None:
    _, student = adapted()
    given = batch([9, 4, 7])

    base = create_model(config("qwen2"), seed=0)

    torch.testing.assert_close(student.eval()(given.inputs), base.eval()(given.inputs))
    share = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert 0 < share < sum(p.numel() for p in base.parameters())


def test_only_adapters_train_and_the_teacher_stays_the_base() -> None:
    _, fresh = adapted()
    before = {n: p.clone() for n, p in fresh.named_parameters() if not p.requires_grad}
    given = batch([9, 4, 7])
    base = create_model(config("qwen2"), seed=0).eval()

    _, student, teacher = trained()

    for name, parameter in student.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name])
    assert not torch.allclose(student.eval()(given.inputs), base(given.inputs), atol=1e-3)
    taught = teacher.signals(given).logits
    expected = TASK.forward(base, given).logits
    torch.testing.assert_close(taught.dense(), expected.dense())
    assert any(p.requires_grad for p in student.parameters())


def test_merged_students_answer_alike_and_have_no_adapters() -> None:
    _, student, _ = trained()
    given = batch([9, 4, 7])

    plain = merged(student)

    assert not has_adapters(plain)
    assert has_adapters(student)
    torch.testing.assert_close(
        plain.eval()(given.inputs), student.eval()(given.inputs), rtol=1e-4, atol=1e-5
    )


def test_they_are_saved_and_shipped(tmp_path) -> None:
    made, student, _ = trained()
    given = batch([9, 4, 7])
    save_model(student, made, tmp_path / "saved")

    again, _ = load_model(tmp_path / "saved")
    parity = export_pretrained(student, tmp_path / "hf", given.inputs, tokens=None)

    torch.testing.assert_close(again.eval()(given.inputs), student.eval()(given.inputs))
    assert parity["agreement"] == 1
    from transformers import AutoModelForCausalLM

    opened = AutoModelForCausalLM.from_pretrained(str(tmp_path / "hf"))
    assert not has_adapters(opened)


def test_wrong_options_are_said() -> None:
    with pytest.raises(ModelError, match="rank"):
        adapted(rank=0)
    with pytest.raises(ModelError, match="targets"):
        adapted(targets=["nothing_of_that_name"])
