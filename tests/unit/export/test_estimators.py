"""Estimators as ONNX files: their probabilities, their values, and what has no form."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from potstill.errors import ExportError
from potstill.export.estimator import export_estimator
from potstill.export.opened import open_artefact

pytest.importorskip("skl2onnx")

ROWS = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
LABELS = (ROWS[:, :3] + 0.5 * ROWS[:, 3:]).argmax(1)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=8, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=["forest", "pipeline"],
)
def test_the_file_gives_the_logarithm_of_the_probabilities(estimator, tmp_path: Path) -> None:
    estimator.fit(ROWS, LABELS)

    found = export_estimator(estimator, ROWS, tmp_path / "t.onnx", kind="single_label")

    said = open_artefact(tmp_path / "t.onnx").answer(ROWS[:7])
    assert np.exp(said) == pytest.approx(estimator.predict_proba(ROWS[:7]), abs=1e-5)
    assert found["agreement"] == 1.0
    assert np.isfinite(said).all()


def test_a_regression_gives_its_values(tmp_path: Path) -> None:
    forest = RandomForestRegressor(n_estimators=8, random_state=0).fit(ROWS, ROWS[:, 0])

    found = export_estimator(forest, ROWS, tmp_path / "t.onnx", kind="regression")

    said = open_artefact(tmp_path / "t.onnx").answer(ROWS[:7])
    assert said[:, 0] == pytest.approx(forest.predict(ROWS[:7]), abs=1e-4)
    assert found["agreement"] is None


class Guess:
    """An estimator that skl2onnx has never heard of."""


def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no ONNX form of Guess"):
        export_estimator(Guess(), ROWS, tmp_path / "t.onnx", kind="single_label")
    with pytest.raises(ExportError, match="multi_label targets are not written"):
        export_estimator(Guess(), ROWS, tmp_path / "t.onnx", kind="multi_label")
    assert list(tmp_path.iterdir()) == []
