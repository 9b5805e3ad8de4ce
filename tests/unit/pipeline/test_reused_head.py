"""A student with its teacher's classifier: trained, saved, counted, exported and refused."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import potstill
from potstill.build import build
from potstill.errors import ModelError, RecipeError
from potstill.models import ModelConfig, ReusedHead, create_model, load_model, save_model
from potstill.recipe import parse

RECIPE = {
    "name": "reused",
    "data": {"source": "builtin", "name": "digits", "limit": 300},
    "teacher": {
        "model": {"source": "builtin", "name": "cnn", "width": 6, "depth": 2},
        "train": {"epochs": 1},
    },
    "student": {
        "model": {"source": "builtin", "name": "cnn", "width": 3, "depth": 2},
        "head": "teacher",
    },
    "distill": {
        "objective": [{"term": "simkd", "student_layer": "transfer", "teacher_layer": "layer2"}],
        "epochs": 1,
    },
    "seeds": [3],
    "speed": "exact",
    "measure": {"seconds": 0.02, "energy": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "reused"
    potstill.run(parse(RECIPE), out=out)
    return out


def _loaded(folder, role: str, seed: int) -> nn.Module:
    return load_model(folder / "models" / role / f"seed-{seed}")[0].eval()


def test_the_distilled_student_has_the_teachers_classifier_and_the_control_its_own(folder) -> None:
    teacher, scratch, distilled = (
        _loaded(folder, role, seed)
        for role, seed in (("teacher", 0), ("scratch", 3), ("distilled", 3))
    )

    assert torch.equal(distilled.head.weight, teacher.fc.weight)
    assert torch.equal(distilled.head.bias, teacher.fc.bias)
    assert not torch.equal(scratch.head.weight, teacher.fc.weight)
    assert scratch.state_dict().keys() == distilled.state_dict().keys()


def test_results_count_what_ships_and_what_was_added(folder) -> None:
    models = json.loads((folder / "results.json").read_text())["models"]
    plain = create_model(ModelConfig(source="builtin", name="cnn", options={"width": 3, "depth": 2},
                                     input_shape=(1, 8, 8), num_outputs=10))  # fmt: skip
    count = sum(p.numel() for p in plain.parameters())

    shipped = sum(p.numel() for p in _loaded(folder, "distilled", 3).parameters())
    assert models["distilled"]["parameters"] == models["scratch"]["parameters"] == shipped
    assert models["distilled"]["added_parameters"] == shipped - count > 0
    assert f"{shipped - count:+,} parameters" in models["distilled"]["description"]
    assert "added_parameters" not in models["teacher"]


def test_the_exported_file_holds_the_classifier_and_answers_alike(folder) -> None:
    session = onnxruntime.InferenceSession(str(folder / "export" / "distilled.onnx"))
    raw = np.random.default_rng(0).uniform(0, 16, (5, 1, 8, 8)).astype(np.float32)
    experiment = build(parse(RECIPE))

    got = session.run(None, {session.get_inputs()[0].name: raw})[0]

    with torch.no_grad():
        logits = _loaded(folder, "distilled", 3)(experiment.data.normalise(torch.from_numpy(raw)))
    assert any(
        np.allclose(got, each, atol=1e-4) for each in (logits.numpy(), logits.softmax(-1).numpy())
    )


def test_the_frozen_classifier_stays_while_the_rest_learns() -> None:
    from potstill.losses import SimKD
    from potstill.signals import Batch
    from potstill.tasks import Classification
    from potstill.teachers import ModuleTeacher
    from potstill.train import Distiller

    inside = {"width": 4, "depth": 2}
    plain, big = (
        create_model(
            ModelConfig(
                source="builtin",
                name="cnn",
                options={**inside, "width": width},
                input_shape=(1, 8, 8),
                num_outputs=3,
            )
        )
        for width in (2, 4)
    )
    student = ReusedHead(plain, width=8, num_outputs=3, input_shape=(1, 8, 8))
    student.adopt(big)
    before = {name: value.clone() for name, value in student.named_parameters()}
    teacher = ModuleTeacher(big, Classification())
    distiller = Distiller(student, teacher, objective=1 * SimKD("transfer", "layer2"))
    batch = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 3)

    losses = [float(distiller.step(batch)["loss"]) for _ in range(10)]

    changed = {n for n, v in student.named_parameters() if not torch.equal(v, before[n])}
    assert losses[-1] < losses[0]
    assert changed == {name for name in before if not name.startswith("head")}


@pytest.mark.parametrize("shape", [(6,), (1, 24)], ids=["table", "signal"])
def test_tables_and_signals_have_it_too(shape: tuple[int, ...], tmp_path) -> None:
    name, options = ("mlp", {"hidden": [5]}) if len(shape) == 1 else ("cnn", {"width": 4})
    inner = {"source": "builtin", "name": name, "options": options}
    config = ModelConfig(
        source="reused",
        name=name,
        options={"model": inner, "width": 12, "factor": 2},
        input_shape=shape,
        num_outputs=3,
    )

    model = create_model(config)
    save_model(model, config, tmp_path)
    again, read = load_model(tmp_path)

    assert read == config
    inputs = torch.randn(4, *shape)
    assert torch.equal(model.eval()(inputs), again.eval()(inputs))
    assert model(inputs).shape == (4, 3)


def test_what_has_no_classifier_to_give_is_refused() -> None:
    estimator = {"model": {"source": "sklearn", "name": "random_forest"}}
    text = {"model": {"source": "builtin", "name": "cnn"}, "train": {"epochs": 1}, "label_map": [0]}
    for teacher in (estimator, text):
        with pytest.raises(RecipeError, match="one torch model with the student's classes"):
            build(parse({**RECIPE, "teacher": teacher}))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    student = ReusedHead(plain, width=7, num_outputs=2, input_shape=(4,))
    with pytest.raises(ModelError, match="5 → 2 and the student's place for it 7 → 2"):
        student.adopt(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)))
    with pytest.raises(ModelError, match="has no linear layer"):
        ReusedHead(nn.ReLU(), width=7, num_outputs=2, input_shape=(4,))
