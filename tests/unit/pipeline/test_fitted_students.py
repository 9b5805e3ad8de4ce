"""Students that are fitted, the whole way: trees and rules, results, report, resume, refusals."""

import json

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

import potstill
from potstill.build import build
from potstill.errors import HandshakeError, ModelError, RecipeError
from potstill.models import DecisionTree, RuleList, load_model
from potstill.pipeline import Pipeline, fitting
from potstill.recipe import load, parse


def _recipe(**changes):
    return parse(
        {
            "name": "tree",
            "data": {"source": "builtin", "name": "breast_cancer", "synthetic": {"rows": 400}},
            "teacher": {
                "model": {"source": "sklearn", "name": "random_forest", "n_estimators": 20}
            },
            "student": {"model": {"source": "sklearn", "name": "decision_tree"}},
            "distill": {"objective": [{"term": "kd", "temperature": 1}]},
            "primary": "balanced_accuracy",
            "seeds": 2,
            "measure": {"seconds": 0.1, "energy": False},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree") / "run"
    return Pipeline(build(_recipe()), folder).run(), folder


def test_a_run_ends_in_a_tree_that_can_be_read(finished) -> None:
    run, folder = finished
    found = run.results["models"]["distilled"]

    assert run.results["primary"] == run.results["selected_by"] == "balanced_accuracy"
    assert found["rules"]["kind"] == "decision_tree"
    assert 2 <= found["rules"]["count"] <= 12
    assert any("≤" in line for line in found["rules"]["lines"])
    assert found["file_bytes"] > 0
    gains = [
        a - b
        for a, b in zip(
            found["agreement"]["values"],
            run.results["models"]["scratch"]["agreement"]["values"],
            strict=True,
        )
    ]
    assert found["agreement_gain"]["values"] == pytest.approx(gains)
    written = json.loads((folder / "models/distilled/seed-0/rules.json").read_text())
    assert sum(rule["rows"] for rule in written["rules"]) == round(0.9 * 384)
    parity = json.loads((folder / "export/parity.json").read_text())
    assert parity["models"]["distilled"]["agreement"] == 1.0


def test_every_class_has_its_figures(finished) -> None:
    run, _ = finished

    for role in ("teacher", "scratch", "distilled"):
        model = run.results["models"][role]
        malignant, benign = model["per_class"]
        assert (malignant["name"], benign["name"]) == tuple(run.results["data"]["classes"])
        mean = (malignant["sensitivity"]["mean"] + benign["sensitivity"]["mean"]) / 2
        assert mean == pytest.approx(model["test"]["balanced_accuracy"]["mean"], abs=1e-6)
        assert malignant["specificity"]["mean"] == pytest.approx(benign["sensitivity"]["mean"])


def test_the_report_shows_classes_and_rules(finished) -> None:
    run, folder = finished
    page = (folder / "report.html").read_text()
    text = (folder / "report.md").read_text()
    line = run.results["models"]["distilled"]["rules"]["lines"][0].split("  →")[0]

    assert line in (folder / "models/distilled/README.md").read_text()
    assert 'id="each-class"' in page
    assert 'id="rules"' in page
    assert "| Class | Model | Sensitivity |" in text
    assert line in text


def test_a_run_goes_on_without_fitting_again(finished, monkeypatch) -> None:
    _, folder = finished
    before = (folder / "models/distilled/seed-0/model.safetensors").read_bytes()

    def never(*_):
        raise AssertionError("fitted again")

    monkeypatch.setattr(fitting, "gathered", never)
    Pipeline(build(_recipe()), folder).run()

    assert (folder / "models/distilled/seed-0/model.safetensors").read_bytes() == before


def test_scratch_is_the_same_student_on_labels(finished) -> None:
    _, folder = finished
    scratch, config = load_model(folder / "models/scratch/seed-0")
    distilled, other = load_model(folder / "models/distilled/seed-0")

    assert config == other
    assert {k: v.shape for k, v in scratch.state_dict().items()} == {
        k: v.shape for k, v in distilled.state_dict().items()
    }


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_rules_follow_every_kind_of_target(tmp_path, kind) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    y = (x[:, :2] > 0).astype(np.int64) if kind == "multi_label" else x[:, :1] * 2
    forest = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    teacher = forest(n_estimators=10, random_state=0).fit(x, y.squeeze())

    run = potstill.distill(
        RuleList() if kind == "regression" else DecisionTree(max_depth=3),
        teacher,
        (x, y),
        seeds=2,
        store="off",
        out=tmp_path / "run",
    )

    assert run.results["models"]["distilled"]["agreement"]["mean"] > 0.8
    assert run.results["models"]["distilled"]["rules"]["lines"]


def test_a_plan_says_that_it_is_quick() -> None:
    plan = potstill.plan(_recipe())

    assert plan.trainings == ()
    assert any("fitted in one go" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        # a misspelt student
        (
            {"student": {"model": {"source": "sklearn", "name": "decision_treee"}}},
            ModelError,
            "did you mean `decision_tree`",
        ),
        # seeds that cannot differ
        (
            {"student": {"model": {"source": "sklearn", "name": "rule_list", "rows": 1}}},
            RecipeError,
            "same for each of 2 seeds",
        ),
        # mixing
        ({"distill": {"mix": {"kind": "mixup"}}}, RecipeError, "leave `distill.mix` out"),
        # layers
        (
            {"distill": {"objective": [{"term": "weight_penalty"}]}},
            HandshakeError,
            "has no layers",
        ),
        # a metric that the task does not have
        ({"primary": "balanced_acuracy"}, RecipeError, "did you mean `balanced_accuracy`"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(changes, error, said) -> None:
    with pytest.raises(error, match=said):
        build(_recipe(**changes))


@pytest.mark.parametrize("name", ["breast-cancer-tree"])
def test_the_shipped_recipe_runs(tmp_path, name) -> None:
    overrides = [
        "seeds=1",
        "data.synthetic.rows=200",
        "measure.seconds=0.1",
        "measure.energy=false",
    ]

    run = potstill.run(load(name, overrides), out=tmp_path / "run")

    assert run.results["models"]["distilled"]["rules"]["count"] <= 8
