"""Every kind of teacher against numpy, what it offers, and its fingerprint."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import RidgeClassifier
from torch import nn

from potstill.errors import HandshakeError, ModelError
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.signals import Batch, Logits, Signals
from potstill.tasks import Classification, MultiLabel, Regression
from potstill.teachers import (
    Ensemble,
    EstimatorTeacher,
    FunctionTeacher,
    ModuleTeacher,
    OnnxTeacher,
    Relabelled,
)
from potstill.teachers.fitting import make_estimator
from potstill.testing import tiny_mlp

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = np.arange(40) % 3


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _said(teacher: Teacher, batch: Batch | None = None) -> np.ndarray:
    return teacher.signals(batch or Batch(X)).logits.values_NC.double().numpy()


class _Fixed(Teacher):
    """Answers what it was given."""

    def __init__(self, values: np.ndarray, kind: LogitKind = LogitKind.RAW) -> None:
        self.values, self.kind = values, kind

    def offers(self) -> Offers:
        return Offers(logits=self.kind, num_classes=self.values.shape[1])

    def fingerprint(self) -> str:
        return self.values.tobytes().hex()

    def signals(self, batch, *, layers=()) -> Signals:
        return Signals(logits=Logits(torch.from_numpy(self.values)))


_A = np.array([[2.0, 0.0, -1.0], [0.1, 0.2, 0.3]], dtype=np.float32)
_B = np.array([[0.0, 1.0, 0.5], [5.0, -5.0, 0.0]], dtype=np.float32)
_TWO = Batch(torch.zeros(2, 5))


# Modules


def test_a_module_answers_as_itself_in_eval_mode_with_its_layers() -> None:
    model = tiny_mlp(5, 7, 3, dropout=0.5, norm=True)
    teacher = ModuleTeacher(model, Classification())

    said = teacher.signals(Batch(X), layers=["0"])

    with torch.no_grad():
        assert torch.equal(said.logits.dense(), model(X))
        assert torch.equal(said.features["0"], model[0](X))
    assert teacher.offers().logits is LogitKind.RAW
    assert "0" in teacher.offers().layers
    assert ModuleTeacher(model, Regression()).offers().logits is LogitKind.VALUES


def test_the_fingerprint_of_a_module_follows_weights_buffers_and_preprocessing() -> None:
    model = tiny_mlp(5, 7, 3, norm=True)
    teacher = ModuleTeacher(model, Classification())
    first = teacher.fingerprint()

    teacher.signals(Batch(X))
    assert teacher.fingerprint() == first
    assert ModuleTeacher(model, Classification(), preprocessing="x/255").fingerprint() != first
    model[1].running_mean[0] += 1e-3  # a buffer
    second = teacher.fingerprint()
    assert second != first
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    assert teacher.fingerprint() != second


# Ensembles


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_the_mean_of_probabilities(weights) -> None:
    teacher = Ensemble([_Fixed(_A), _Fixed(_B)], weights=weights)
    w = np.array(weights or [1, 1], dtype=float) / sum(weights or [1, 1])

    expected = w[0] * _softmax(_A) + w[1] * _softmax(_B)

    np.testing.assert_allclose(np.exp(_said(teacher, _TWO)), expected, rtol=1e-5)
    assert teacher.offers() == Offers(logits=LogitKind.LOGPROBS, num_classes=3, members=2)


def test_the_mean_of_logits() -> None:
    teacher = Ensemble([_Fixed(_A), _Fixed(_B)], weights=[1, 3], combine="logits")

    np.testing.assert_allclose(_said(teacher, _TWO), 0.25 * _A + 0.75 * _B, rtol=1e-6)
    assert teacher.offers().logits is LogitKind.RAW


def test_the_mean_of_sigmoids_of_many_labels() -> None:
    teacher = Ensemble([_Fixed(_A), _Fixed(_B)], weights=[1, 3], multi_label=True)

    expected = 0.25 * _sigmoid(_A) + 0.75 * _sigmoid(_B)

    np.testing.assert_allclose(_sigmoid(_said(teacher, _TWO)), expected, rtol=1e-5)
    assert teacher.offers().logits is LogitKind.RAW


def test_the_mean_of_values() -> None:
    members = [_Fixed(_A, LogitKind.VALUES), _Fixed(_B, LogitKind.VALUES)]
    teacher = Ensemble(members, weights=[1, 3], confidence=True)

    np.testing.assert_allclose(_said(teacher, _TWO), 0.25 * _A + 0.75 * _B, rtol=1e-6)
    assert teacher.offers().logits is LogitKind.VALUES


@pytest.mark.parametrize("multi_label", [False, True])
def test_sure_members_weigh_more_sample_by_sample(multi_label) -> None:
    teacher = Ensemble(
        [_Fixed(_A), _Fixed(_B)], weights=[1, 3], confidence=True, multi_label=multi_label
    )

    def unsure(z):
        if multi_label:
            p = _sigmoid(z)
            each = -(p * np.log(p) + (1 - p) * np.log(1 - p))
            return each.mean(-1, keepdims=True) / np.log(2)
        p = _softmax(z)
        return -(p * np.log(p)).sum(-1, keepdims=True) / np.log(3)

    a, b = 0.25 * (1 - unsure(_A)), 0.75 * (1 - unsure(_B))
    turn = _sigmoid if multi_label else _softmax
    expected = (a * turn(_A) + b * turn(_B)) / (a + b)

    back = _sigmoid if multi_label else np.exp
    np.testing.assert_allclose(back(_said(teacher, _TWO)), expected, rtol=1e-4)


def test_members_that_are_all_unsure_still_answer() -> None:
    flat = _Fixed(np.zeros((2, 3), dtype=np.float32))

    said = _said(Ensemble([flat, flat], confidence=True), _TWO)

    np.testing.assert_allclose(np.exp(said), 1 / 3, rtol=1e-6)


def test_ensembles_that_make_no_sense_are_refused() -> None:
    with pytest.raises(HandshakeError, match="at least one teacher"):
        Ensemble([])
    with pytest.raises(HandshakeError, match="one positive weight for each"):
        Ensemble([_Fixed(_A)], weights=[1, 2])
    with pytest.raises(HandshakeError, match="positive weight"):
        Ensemble([_Fixed(_A)], weights=[0])
    with pytest.raises(HandshakeError, match="cannot be averaged"):
        Ensemble([_Fixed(_A), _Fixed(_A, LogitKind.VALUES)])
    with pytest.raises(HandshakeError, match=r"\[2, 3\] classes"):
        Ensemble([_Fixed(_A), _Fixed(_B[:, :2])]).offers()
    with pytest.raises(HandshakeError, match=r"\[2, 3\] classes.*label map"):
        _said(Ensemble([_Fixed(_A), _Fixed(np.ascontiguousarray(_B[:, :2]))]), _TWO)


# Estimators


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "xgboost", "lightgbm"])
def test_estimators_answer_with_their_probabilities(name) -> None:
    pytest.importorskip({"xgboost": "xgboost", "lightgbm": "lightgbm"}.get(name, "sklearn"))
    slim = {"max_iter": 5} if name == "gradient_boosting" else {"n_estimators": 5}
    estimator = make_estimator(name, slim, kind="single_label")
    estimator.fit(X.numpy(), Y)
    teacher = EstimatorTeacher(estimator, kind="single_label", num_outputs=3)

    said = _said(teacher, Batch(X * 0, raw=X))

    expected = np.clip(estimator.predict_proba(X.numpy()), 1e-7, 1)
    np.testing.assert_allclose(np.exp(said), expected, rtol=1e-5)
    assert teacher.reads_raw
    assert teacher.offers() == Offers(logits=LogitKind.LOGPROBS, num_classes=3)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
def test_estimators_of_many_labels(name) -> None:
    labels = (X[:, :2] > 0).numpy().astype(int)
    estimator = make_estimator(name, {}, kind="multi_label")
    estimator.fit(X.numpy(), labels)
    teacher = EstimatorTeacher(estimator, kind="multi_label", num_outputs=2, raw_inputs=False)

    said = _said(teacher)

    expected = np.stack([p[:, 1] for p in estimator.predict_proba(X.numpy())], axis=1)
    np.testing.assert_allclose(_sigmoid(said), np.clip(expected, 1e-7, 1 - 1e-7), rtol=1e-4)
    assert teacher.offers().logits is LogitKind.RAW


def test_estimators_of_values() -> None:
    estimator = RandomForestRegressor(3, random_state=0).fit(X.numpy(), X[:, 0].numpy())
    teacher = EstimatorTeacher(estimator, kind="regression", num_outputs=1, raw_inputs=False)

    np.testing.assert_allclose(_said(teacher)[:, 0], estimator.predict(X.numpy()), rtol=1e-6)
    assert teacher.offers().logits is LogitKind.VALUES


def test_a_class_that_was_never_seen_gets_no_probability() -> None:
    estimator = RandomForestClassifier(3, random_state=0).fit(X.numpy(), np.where(Y == 1, 3, Y))
    teacher = EstimatorTeacher(estimator, kind="single_label", num_outputs=4, raw_inputs=False)

    probabilities = np.exp(_said(teacher))

    np.testing.assert_allclose(probabilities[:, 1], 1e-7, rtol=1e-4)
    expected = np.clip(estimator.predict_proba(X.numpy()), 1e-7, 1)
    np.testing.assert_allclose(probabilities[:, [0, 2, 3]], expected, rtol=1e-5)


def test_an_estimator_without_probabilities_puts_all_on_its_decision() -> None:
    estimator = RidgeClassifier().fit(X.numpy(), Y)
    teacher = EstimatorTeacher(estimator, kind="single_label", num_outputs=3, raw_inputs=False)

    said = _said(teacher)

    assert (said.argmax(-1) == estimator.predict(X.numpy())).all()
    np.testing.assert_allclose(np.exp(said).max(-1), 1)


def test_estimators_that_do_not_fit_are_refused() -> None:
    forest = RandomForestClassifier(3).fit(X.numpy(), Y)

    with pytest.raises(ModelError, match="neither `predict_proba` nor `predict`"):
        EstimatorTeacher(object(), kind="single_label", num_outputs=3)
    with pytest.raises(ModelError, match=r"knows classes \[0, 1, 2\], the data have 2"):
        _said(EstimatorTeacher(forest, kind="single_label", num_outputs=2, raw_inputs=False))
    with pytest.raises(ModelError, match=r"takes raw inputs.*keep_raw=True"):
        _said(EstimatorTeacher(forest, kind="single_label", num_outputs=3))
    with pytest.raises(ModelError, match="Did you mean 'xgboost'"):
        make_estimator("xgbost", {}, kind="single_label")
    with pytest.raises(ModelError, match=r"no option 'n_estimator'\. Did you mean 'n_estimators'"):
        make_estimator("random_forest", {"n_estimator": 3}, kind="single_label")


def test_the_fingerprint_of_an_estimator_follows_its_fit() -> None:
    def made(seed: int) -> EstimatorTeacher:
        forest = RandomForestClassifier(3, random_state=seed).fit(X.numpy(), Y)
        return EstimatorTeacher(forest, kind="single_label", num_outputs=3, raw_inputs=False)

    teacher = made(0)
    before = teacher.fingerprint()
    _said(teacher)

    assert teacher.fingerprint() == before == made(0).fingerprint()
    assert made(1).fingerprint() != before
    copy = pickle.loads(pickle.dumps(teacher.estimator))
    again = EstimatorTeacher(copy, kind="single_label", num_outputs=3, raw_inputs=False)
    assert again.fingerprint() == before


# ONNX


def _onnx(path, *layers: nn.Module):
    model = nn.Sequential(nn.Linear(5, 3), *layers).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(15).reshape(3, 5) / 10)
    torch.onnx.export(
        model, (X,), path, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("probabilities", [False, True])
def test_an_onnx_file_answers_as_the_model_it_was_made_of(tmp_path, probabilities) -> None:
    path = tmp_path / "teacher.onnx"
    model = _onnx(path, *([nn.Softmax(-1)] if probabilities else []))
    teacher = OnnxTeacher(path, probabilities=probabilities, threads=1)

    said = _said(teacher, Batch(X[:7].clone().requires_grad_()))

    with torch.no_grad():
        expected = model(X[:7]).numpy()
    np.testing.assert_allclose(np.exp(said) if probabilities else said, expected, rtol=1e-4)
    kind = LogitKind.LOGPROBS if probabilities else LogitKind.RAW
    assert teacher.offers() == Offers(logits=kind, num_classes=3)
    assert not teacher.signals(Batch(X)).logits.dense().requires_grad


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_fingerprint_of_an_onnx_file_follows_its_bytes(tmp_path) -> None:
    _onnx(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    _onnx(tmp_path / "c.onnx", nn.ReLU())

    a, b, c = (OnnxTeacher(tmp_path / f"{n}.onnx").fingerprint() for n in "abc")

    assert a == b
    assert a != c
    assert OnnxTeacher(tmp_path / "a.onnx", raw_inputs=True).fingerprint() != a
    with pytest.raises(ModelError, match="cannot run on inputs"):
        _said(OnnxTeacher(tmp_path / "a.onnx"), Batch(torch.zeros(2, 4)))
    with pytest.raises(ModelError, match="takes raw inputs"):
        _said(OnnxTeacher(tmp_path / "a.onnx", raw_inputs=True))


def test_files_that_are_no_onnx_models_are_refused(tmp_path) -> None:
    (tmp_path / "bad.onnx").write_text("hello")

    with pytest.raises(ModelError, match="no ONNX file at"):
        OnnxTeacher(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="not an ONNX model"):
        OnnxTeacher(tmp_path / "bad.onnx")


# Functions and label maps


def test_a_function_answers_and_is_checked() -> None:
    teacher = FunctionTeacher(lambda x: x[:, :3] * 2, kind=LogitKind.LOGPROBS)

    np.testing.assert_allclose(_said(teacher), X[:, :3].numpy() * 2, rtol=1e-6)
    assert teacher.offers().logits is LogitKind.LOGPROBS
    with pytest.raises(ModelError, match=r"answered \(40,\) for 40 samples"):
        _said(FunctionTeacher(lambda x: x[:, 0]))
    with pytest.raises(ModelError, match="answered list"):
        _said(FunctionTeacher(lambda x: x.tolist()))


def test_functions_of_other_code_or_captured_values_have_other_fingerprints() -> None:
    def scaled(by: float) -> FunctionTeacher:
        return FunctionTeacher(lambda x: x[:, :3] * by)

    assert scaled(2.0).fingerprint() == scaled(2.0).fingerprint()
    assert scaled(2.0).fingerprint() != scaled(3.0).fingerprint()
    one = FunctionTeacher(lambda x: x, fingerprint="v1").fingerprint()
    assert one == FunctionTeacher(lambda x: -x, fingerprint="v1").fingerprint()
    assert one != FunctionTeacher(lambda x: x, fingerprint="v2").fingerprint()


def test_a_label_map_picks_columns() -> None:
    teacher = Relabelled(_Fixed(_A), [2, 0])

    np.testing.assert_array_equal(_said(teacher, _TWO), _A[:, [2, 0]].astype(float))
    assert teacher.offers() == Offers(logits=LogitKind.RAW, num_classes=2)
    values = _Fixed(_A, LogitKind.VALUES)
    assert Relabelled(values, [2, 0]).offers().logits is LogitKind.VALUES
    for wrong in ([3], [-1], []):
        with pytest.raises(HandshakeError, match="label_map"):
            Relabelled(_Fixed(_A), wrong)
    with pytest.raises(HandshakeError, match=r"class 9, the teacher has 3: 0 to 2"):
        _said(Relabelled(FunctionTeacher(lambda x: x[:, :3]), [0, 9]))


def test_multi_label_modules_offer_raw_logits() -> None:
    assert ModuleTeacher(tiny_mlp(5, 3), MultiLabel()).offers().logits is LogitKind.RAW
