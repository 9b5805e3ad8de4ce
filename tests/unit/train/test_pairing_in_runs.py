"""`auto` layers: named in the handshake, kept in the record, and never in what is exported."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill.data import from_arrays
from potstill.errors import HandshakeError
from potstill.losses import KD, CrossEntropy, Hint, OFAExits
from potstill.pipeline import Experiment, GivenTeacher, Learning, MadeModel, Pipeline
from potstill.pipeline.experiment import Measuring, Storing, Use
from potstill.pipeline.labelling import label_experiment
from potstill.pipeline.planning import make_plan
from potstill.signals import Batch
from potstill.store import Store
from potstill.tasks import Classification
from potstill.teachers import FunctionTeacher, ModuleTeacher, Relabelled
from potstill.testing import tiny_mlp
from potstill.train import Distiller, TrainSettings
from potstill.train.layers import objective_with_layers


def _mlp(seed: int, *widths: int) -> nn.Module:
    return tiny_mlp(6, *widths, 3, seed=seed)


def _batch() -> Batch:
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    return Batch(inputs, torch.arange(8) % 3)


def _teacher() -> ModuleTeacher:
    return ModuleTeacher(_mlp(2, 9, 7), Classification())


def test_a_distiller_names_the_layers_and_trains_their_projector() -> None:
    distiller = Distiller(_mlp(0, 5, 4), _teacher(), objective=KD() + 2 * Hint())

    agreement = distiller.prepare(_batch())
    distiller.step(_batch())

    assert repr(agreement.named) == 'KD(temperature=4) + 2 * Hint("3", "3")'
    assert agreement.pairing == ("hint: 3 → 3: vector [4] → vector [7]: linear 4 → 7",)
    assert not any(
        "projector" in name or "parts" in name for name in distiller.student.state_dict()
    )


def test_several_pairs_have_a_projector_each_and_add_up() -> None:
    student, teacher = _mlp(0, 5, 4), _teacher()
    both = Hint(("0", "2"), ("0", "2"))
    distiller = Distiller(student, teacher, objective=both)

    lines = distiller.prepare(_batch()).pairing
    bound = distiller.objective.summands[0].term

    assert lines[0].startswith("hint: 0 → 0: vector [5] → vector [9]")
    assert lines[1].startswith("hint: 2 → 2: vector [4] → vector [7]")
    assert [p.weight.shape for p in bound.projectors] == [(9, 5), (7, 4)]
    value = float(distiller.step(_batch())["loss"])
    parts = 0.0
    for name, projector in zip(("0", "2"), bound.projectors, strict=True):
        one = Distiller(_mlp(0, 5, 4), _teacher(), objective=Hint(name, name, seed=int(name) // 2))
        parts += float(one.step(_batch())["loss"])
        assert projector is not None
    assert value == pytest.approx(parts, rel=1e-6)


def test_what_cannot_be_chosen_says_what_to_do() -> None:
    with pytest.raises(HandshakeError, match=r"does not show its layers in order\. Name"):
        Distiller(_mlp(0, 4), FunctionTeacher(lambda x: x[:, :3]), objective=Hint()).prepare(
            _batch()
        )
    with pytest.raises(HandshakeError, match="nobody has chosen them"):
        Hint().bind(None, None)


def test_exits_are_put_after_every_stage_and_ask_for_no_layer_of_the_teacher() -> None:
    teacher = FunctionTeacher(lambda x: x[:, :3])  # shows none
    distiller = Distiller(_mlp(0, 5, 4), teacher, objective=CrossEntropy() + OFAExits(width=4))

    agreement = distiller.prepare(_batch())
    values = [float(distiller.step(_batch())["loss"]) for _ in range(2)]

    assert agreement.named.summands[1].term.student_layers == ("1", "3")
    assert "ofa_exits: 1, 3" in agreement.pairing[0]
    given = Distiller(
        _mlp(0, 5, 4), teacher, objective=CrossEntropy() + OFAExits(("1", "3"), width=4)
    )
    assert values == [float(given.step(_batch())["loss"]) for _ in range(2)]
    with pytest.raises(HandshakeError, match="nobody has chosen them"):
        OFAExits().bind(None, None)


def test_wrapped_teachers_show_the_layers_of_their_models() -> None:
    wrapped = Relabelled(_teacher(), [2, 0, 1])

    named = objective_with_layers(
        1 * Hint(), _mlp(0, 4), wrapped, task=Classification(), batch=_batch()
    )

    assert repr(named) == 'Hint("1", "3")'


def _made(seed: int) -> nn.Module:
    return _mlp(seed, 5)


def _experiment(**changes: object) -> Experiment:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 3
    inputs = torch.randn(3, 6, generator=generator)[labels] + torch.randn(
        240, 6, generator=generator
    )
    given = ModuleTeacher(_mlp(2, 9, 7), Classification())
    return Experiment(
        name="tiny",
        task=Classification(),
        data=from_arrays(inputs.numpy(), labels.numpy()),
        teacher=GivenTeacher(teacher=given, name="given", description="given", module=given.model),
        student=MadeModel(make=_made, name="small", description="small", key="small"),
        objective=KD() + Hint() + CrossEntropy(),
        learning=Learning(settings=TrainSettings(epochs=2)),
        seeds=(0, 1),
        export=("onnx",),
        measuring=Measuring(seconds=0.02, energy=False),
        device="cpu",
        **changes,
    )


def test_a_run_keeps_the_names_and_ships_a_student_without_projectors(tmp_path: Path) -> None:
    experiment = _experiment(storing=Storing(use=Use.ON))

    Pipeline(experiment, tmp_path).run()

    results = json.loads((tmp_path / "results.json").read_text())
    assert results["objective"] == 'KD(temperature=4) + Hint("1", "3") + CrossEntropy()'
    assert results["pairing"] == ["hint: 1 → 3: vector [5] → vector [7]: linear 5 → 7"]
    assert "1 → 3" in (tmp_path / "report.html").read_text()
    for role in ("scratch", "distilled"):
        assert results["models"][role]["parameters"] == 6 * 5 + 5 + 5 * 3 + 3
    files = [results["models"][role]["file_bytes"] for role in ("scratch", "distilled")]
    assert files[0] == files[1]
    assert [s.name for s in Store(tmp_path / "store").manifest.signals] == ["logits", "features/3"]

    stages = (tmp_path / "stages.json").read_text()
    Pipeline(experiment, tmp_path).run()
    assert (tmp_path / "stages.json").read_text() == stages, "a second run finds all done"


def test_labelling_ahead_keeps_the_layers_that_were_chosen(tmp_path: Path) -> None:
    store = label_experiment(_experiment(), tmp_path)

    assert "features/3" in [signal.name for signal in store.manifest.signals]


def test_a_plan_names_the_layers() -> None:
    assert make_plan(_experiment()).pairing[0].startswith("hint: 1 → 3: vector [5]")
