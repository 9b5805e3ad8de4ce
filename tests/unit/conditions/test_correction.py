"""Missing classes are noticed, and a correction is proposed, shipped and taken back."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from potstill.errors import ModelError
from potstill.measure.bias import fitted_shift, prior_shift, recall
from potstill.models import load_model
from potstill.models.output_bias import output_layer, shift_outputs
from potstill.pipeline.correcting import chosen
from potstill.testing import tiny_mlp

from .tiny import recipe, run, save_images


def test_the_fitted_shift_matches_class_frequencies_after_scaling() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([1.5, -0.5, -1.0], dtype=torch.float64)
    logits = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    p = (2 * (logits + true)).softmax(-1)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    targets = nn.functional.one_hot(labels, 3).double()

    shift = fitted_shift(logits, targets)

    assert shift.sum() == pytest.approx(0, abs=1e-9)
    assert torch.allclose(shift, true, atol=0.1)
    right = (2 * (logits + shift)).softmax(-1).mean(0)
    assert torch.allclose(right, targets.mean(0), atol=0.01)


def test_the_prior_shift_is_the_log_ratio_of_frequencies() -> None:
    known, seen = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.4, 0.0])
    expected = np.log([0.5, 0.3, 0.2]) - np.log([0.6, 0.4, 1e-4])

    assert np.allclose(prior_shift(known, seen), expected - expected.mean())


def test_recall_is_of_the_rows_of_a_class() -> None:
    outputs = np.eye(3)[[0, 1, 1, 2]]

    assert recall(outputs, np.array([0, 1, 2, 2]), 2) == 0.5
    assert recall(outputs, np.array([0, 1, 1, 1]), 2) is None


def test_outputs_are_shifted_by_exactly_the_shift() -> None:
    model, example = tiny_mlp(6, 8, 3, norm=True), torch.randn(5, 6)
    before = model.eval()(example)

    shift_outputs(model, torch.tensor([1.0, 0.0, -2.0]), example[:1])

    assert torch.allclose(model(example), before + torch.tensor([1.0, 0.0, -2.0]))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), "not that of a linear layer"),
        (nn.Sequential(nn.Linear(4, 3, bias=False)), "has no bias"),
    ],
)
def test_models_without_output_biases_are_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        output_layer(model, torch.randn(1, 4))


@pytest.mark.parametrize(
    ("none", "priors", "teacher", "labels", "way"),
    [
        (0.9, 0.8, 0.9, 0.9, "teacher"),  # it costs nothing, and the class is known to lack
        (0.9, 0.95, 0.8, 0.95, "labels"),
        (0.9, 0.8, 0.85, 0.89, "none"),
    ],
)
def test_a_correction_is_proposed_unless_the_student_is_better_without(
    none, priors, teacher, labels, way
) -> None:
    figures = {"none": none, "priors": priors, "teacher": teacher, "labels": labels}
    losses = {name: 1 - figure for name, figure in figures.items()}

    assert chosen(figures, higher_is_better=True) == way
    assert chosen(losses, higher_is_better=False) == way


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omitted")
    content = recipe(
        save_images(folder), data__omit=[3], distill__correct_bias="auto",
        distill__objective=[{"term": "kd", "temperature": 4}],
    )  # fmt: skip
    return content, folder / "run", run(content, folder / "run")


def test_a_missing_class_is_noticed_and_the_correction_shipped(place) -> None:
    _, folder, done = place
    correction = done.results["correction"]
    proposed = correction["seeds"]["0"]

    assert correction["rare"] == [3]
    assert correction["known"] == pytest.approx([0.25] * 4, abs=0.01)
    assert correction["seen"][3] == 0
    assert proposed["shipped"] is True
    assert proposed["way"] in ("labels", "teacher", "priors")
    assert proposed["validation"]["after"] > proposed["validation"]["before"]
    both = correction["recall"]["3"]
    assert both["after"]["mean"] > both["before"]["mean"] + 0.1
    assert any("`3` (0.0% instead of 25.0%)" in text for text in done.results["warnings"])
    shipped, _ = load_model(folder / "models" / "distilled" / "seed-0")
    with np.load(folder / "predictions.npz") as kept:
        recalled = recall(kept["distilled_0"], kept["labels"], 3)
    assert recalled == both["after"]["mean"]
    example = torch.randn(3, 1, 8, 8)
    last = {name: value for name, value in shipped.state_dict().items() if name.endswith("fc.bias")}
    assert last
    assert shipped.eval()(example).shape == (3, 4)


def test_the_report_shows_both_figures(place) -> None:
    _, folder, done = place
    found = [f for f in done.results["findings"] if f["title"].startswith("Correction")]

    assert found[0]["columns"] == ["on the test data", "before", "after"]
    assert [row[0] for row in found[0]["rows"]] == ["accuracy", "`3` right"]
    for name in ("report.html", "report.md"):
        assert "Correction of the output biases" in (folder / name).read_text()


def test_it_is_taken_back_when_it_is_only_to_be_proposed_or_off(place, tmp_path) -> None:
    content, folder, done = place
    selected = folder / "models" / "distilled" / "seed-0"
    corrected = (selected / "model.safetensors").read_bytes()
    before = done.results["correction"]["primary"]["before"]["mean"]

    proposing = {**content, "distill": {**content["distill"], "correct_bias": "propose"}}
    again = run(proposing, folder)
    assert (selected / "model.safetensors").read_bytes() == (
        selected / "last.safetensors"
    ).read_bytes()
    assert again.results["models"]["distilled"]["test"]["accuracy"]["mean"] == before
    assert again.results["correction"]["primary"] == done.results["correction"]["primary"]
    assert json.loads((selected / "correction.json").read_text())["shipped"] is False

    run(content, folder)
    assert (selected / "model.safetensors").read_bytes() == corrected
    off = run({**content, "distill": {**content["distill"], "correct_bias": "off"}}, folder)
    assert off.results["correction"] is None
    assert not (selected / "correction.json").exists()
    run(content, folder)


def test_where_nothing_is_missing_nothing_is_said(tmp_path) -> None:
    done = run(recipe(save_images(tmp_path)), tmp_path / "run")

    assert done.results["correction"] is None
    assert done.results["findings"] == []
