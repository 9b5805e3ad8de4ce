"""Layers in int8 one by one, and those that stay in float; a training for int8 that is killed."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from potstill import KD, ModuleTeacher
from potstill.compress.fake_quantised import FakeQuantised
from potstill.compress.qat import train_quantised
from potstill.compress.sensitivity import sensitivity
from potstill.errors import RecipeError
from potstill.tasks import Classification

from .kills import assert_a_kill_changes_nothing
from .quantised_nets import INPUTS, LABELS, SHORT, batches, prepared, small_net


@pytest.fixture
def hurt() -> FakeQuantised:
    """The layer `3.point` has one weight that leaves no room for the others on the grid."""
    student = deepcopy(prepared())
    model = small_net()
    with torch.no_grad():
        model[3].point.weight *= 0.05
        model[3].point.weight[:, 0] = 4.0
        model[3].point.bias -= 4.0 * model[:3](INPUTS).mean()
    student.restore(model.state_dict(), student.ranges())
    student.calibrate([INPUTS])
    return student


def loss(student: FakeQuantised) -> float:
    with torch.no_grad():
        return float(functional.cross_entropy(student.eval()(INPUTS), LABELS))


def test_the_table_says_what_each_layer_costs(hurt: FakeQuantised) -> None:
    found = sensitivity(hurt, batches(shuffle=False), bound=0.0)
    assert [each.layer for each in found.layers] == list(hurt.layers)
    assert found.rounded.loss == pytest.approx(loss(hurt), abs=1e-6)
    hurt.quantise_only([])
    assert found.whole.loss == pytest.approx(loss(hurt), abs=1e-6)
    for each in found.layers:
        hurt.quantise_only([each.layer])
        assert each.alone.loss == pytest.approx(loss(hurt), abs=1e-6)
        hurt.quantise_all_but([each.layer])
        assert each.without.loss == pytest.approx(loss(hurt), abs=1e-6)
    text = found.table()
    assert text.count("\n") == 2 + len(found.layers)
    assert all(f"`{name}`" in text for name in hurt.layers)
    record = found.to_json()
    assert record["skip"] == list(found.skip)


def test_layers_are_left_out_until_the_bound_holds(hurt: FakeQuantised) -> None:
    wide = sensitivity(hurt, batches(shuffle=False), bound=1.0)
    assert wide.holds
    assert wide.skip == ()
    tight = sensitivity(hurt, batches(shuffle=False), bound=0.0, most=4)
    assert len(tight.skip) <= 4
    assert tight.kept.loss <= tight.rounded.loss
    assert tight.holds == (tight.kept.metric >= tight.whole.metric)
    hurt.quantise_all_but(tight.skip)
    assert tight.kept.loss == pytest.approx(loss(hurt), abs=1e-6)
    with pytest.raises(RecipeError, match="bound"):
        sensitivity(hurt, batches(), bound=-0.1)


def test_all_but_some_layers_is_what_skip_leaves(hurt: FakeQuantised) -> None:
    hurt.quantise_all_but(hurt.layers)
    left = [name for name, grid in hurt._grids.items() if int(grid.fake_quant_enabled)]
    touched = {g for weight, around in hurt._layers.values() for g in (weight, *around)}
    shared = {id(hurt._grids[name]) for name in touched}
    assert all(id(hurt._grids[name]) not in shared for name in left)


def test_a_killed_training_for_int8_ends_with_the_same_weights_and_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = ModuleTeacher(small_net().eval(), Classification())

    def trained(folder: Path) -> FakeQuantised:
        return train_quantised(
            deepcopy(prepared()),
            teacher,
            train=batches(),
            validation=batches(shuffle=False),
            objective=KD(temperature=2),
            settings=replace(SHORT, epochs=3, checkpoint_seconds=0.0),
            folder=folder,
        ).student

    assert_a_kill_changes_nothing(trained, tmp_path, monkeypatch, at=4)
