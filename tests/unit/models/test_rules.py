"""Trees and rule lists against scikit-learn and against plain loops."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from potstill.errors import ModelError
from potstill.export.onnx import export_onnx
from potstill.export.parity import check_parity
from potstill.models import DecisionTree, ModelConfig, RuleList, load_model, save_model
from potstill.models.rule_growing import answered, grow_list, grow_tree
from potstill.models.rule_students import build_rules, config_of_fitter, drawn_rows, fit_rules
from potstill.models.rules import FitRows, first_holding

TREE = {"max_leaf_nodes": 8, "max_depth": None, "min_samples_leaf": 5}


@pytest.fixture(scope="module")
def iris() -> FitRows:
    inputs, labels = load_iris(return_X_y=True)
    return FitRows(inputs.astype(np.float32), np.eye(3)[labels], labels.astype(np.int64))


@pytest.fixture(scope="module")
def soft() -> FitRows:
    """Tumours, with made-up soft targets."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    sure = 1 / (1 + np.exp(-np.random.default_rng(0).normal(3 * (2 * labels - 1), 1.5)))
    targets = np.stack([1 - sure, sure], axis=1)
    return FitRows(inputs.astype(np.float32), targets, labels.astype(np.int64))


def _config(fitter, rows: FitRows) -> ModelConfig:
    return config_of_fitter(
        fitter, input_shape=(rows.inputs_NF.shape[1],), num_outputs=rows.targets_NK.shape[1]
    )


def _by_loops(rules, row) -> tuple[float, ...]:
    """The definition: the first rule of which every condition holds."""
    for rule in rules:
        for feature, threshold, above in rule.conditions:
            if (row[feature] > np.float32(threshold)) != above:
                break
        else:
            return rule.answer
    raise AssertionError("no rule holds")


def test_a_tree_on_labels_is_the_usual_classification_tree(iris) -> None:
    usual = DecisionTreeClassifier(max_leaf_nodes=5, random_state=0).fit(
        iris.inputs_NF, iris.labels_N
    )

    paths = grow_tree(iris.inputs_NF, iris.targets_NK, {"max_leaf_nodes": 5}, seed=0)
    rules = answered(paths, iris, kind="single_label")

    said = np.array([rules[n].answer for n in first_holding(paths, iris.inputs_NF)]).argmax(1)
    assert len(paths) == 5
    assert (said == usual.predict(iris.inputs_NF)).all()


def test_leaves_answer_the_mean_of_their_soft_targets(soft) -> None:
    theirs = DecisionTreeRegressor(random_state=0, **TREE).fit(soft.inputs_NF, soft.targets_NK)
    mean_NK, leaf_N = theirs.predict(soft.inputs_NF), theirs.apply(soft.inputs_NF)
    size_N = np.bincount(leaf_N)[leaf_N][:, None]
    prior_K = soft.targets_NK.mean(0)

    paths = grow_tree(soft.inputs_NF, soft.targets_NK, TREE, seed=0)
    rules = answered(paths, soft, kind="single_label")

    said = np.exp([rules[n].answer for n in first_holding(paths, soft.inputs_NF)])
    np.testing.assert_allclose(said, (size_N * mean_NK + prior_K) / (size_N + 1), atol=1e-7)
    assert sum(rule.rows for rule in rules) == len(soft.inputs_NF)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("fitter", [DecisionTree(), RuleList(max_rules=4)])
def test_the_module_answers_as_its_rules_say(soft, fitter, kind) -> None:
    mean, std = soft.inputs_NF.mean(0), soft.inputs_NF.std(0)

    def normalise(raw):
        return (raw - torch.from_numpy(mean)) / torch.from_numpy(std)

    module, rules = fit_rules(_config(fitter, soft), soft, kind=kind, normalise=normalise, seed=0)

    said = module(normalise(torch.from_numpy(soft.inputs_NF)))
    by_loops = [_by_loops(rules, row) for row in soft.inputs_NF]
    torch.testing.assert_close(said, torch.tensor(by_loops, dtype=torch.float32))


def test_the_order_of_the_rows_does_not_matter(soft) -> None:
    order = np.random.default_rng(1).permutation(len(soft.inputs_NF))

    mine = grow_tree(soft.inputs_NF, soft.targets_NK, TREE, seed=0)
    other = grow_tree(soft.inputs_NF[order], soft.targets_NK[order], TREE, seed=0)

    assert mine == other


def test_thresholds_are_as_short_as_the_data_allow() -> None:
    age = np.array([[40], [54], [55], [70]], dtype=np.float32)
    dose = np.array([[0.081], [0.0853], [0.0861], [0.09]], dtype=np.float32)
    targets = np.eye(2)[[0, 0, 1, 1]]

    (years, *_), *_ = grow_tree(age, targets, {}, seed=0)
    (grams, *_), *_ = grow_tree(dose, targets, {}, seed=0)

    assert years.threshold == 54.0
    assert grams.threshold == 0.086


def test_each_rule_of_a_list_decides_what_earlier_ones_left(soft) -> None:
    options = {"max_rules": 3, "max_conditions": 2, "min_samples_leaf": 5}

    paths = grow_list(soft.inputs_NF, soft.targets_NK, **options, seed=0)

    which = first_holding(paths, soft.inputs_NF)
    assert len(paths) <= 4
    assert paths[-1] == ()
    assert all(len(path) <= 2 for path in paths)
    assert all((which == number).sum() >= 5 for number in range(len(paths) - 1))


def test_a_student_is_rebuilt_from_its_folder_without_running_code(soft, tmp_path) -> None:
    config = _config(DecisionTree(max_leaf_nodes=6), soft)
    module, _ = fit_rules(config, soft, kind="single_label", normalise=lambda x: x, seed=0)
    inputs = torch.from_numpy(soft.inputs_NF)

    save_model(module, config, tmp_path)
    again, read = load_model(tmp_path)

    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert read == config
    assert torch.equal(again(inputs), module(inputs))


def test_the_exported_file_answers_alike(soft, tmp_path) -> None:
    config = _config(RuleList(), soft)
    module, _ = fit_rules(config, soft, kind="single_label", normalise=lambda x: x, seed=0)
    inputs = torch.from_numpy(soft.inputs_NF)

    export_onnx(module, inputs[:2], tmp_path / "rules.onnx")
    parity = check_parity(module, tmp_path / "rules.onnx", inputs)

    assert parity["max_difference"] == 0.0
    assert parity["agreement"] == 1.0


def test_a_seed_draws_its_share_of_the_rows() -> None:
    first, again, other = (drawn_rows(100, share=0.9, seed=seed) for seed in (0, 0, 1))

    assert len(first) == len(set(first.tolist())) == 90
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        # a name that is near
        ("decision_trees", {}, "did you mean `decision_tree`"),
        # an option that is near
        ("decision_tree", {"max_leaves": 3}, "did you mean `max_leaf_nodes`"),
        # out of range
        ("decision_tree", {"max_leaf_nodes": 1}, "give a whole number from 2 to 1024"),
        # of another type
        ("rule_list", {"max_rules": "three"}, "give a whole number"),
        # no share
        ("rule_list", {"rows": 1.5}, "above 0 and at most 1"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(name, options, said) -> None:
    config = ModelConfig(
        source="sklearn", name=name, options=options, input_shape=(4,), num_outputs=2
    )

    with pytest.raises(ModelError, match=said):
        build_rules(config)
