"""The record that a model is built from: what it refuses, and its way through JSON."""

import json

import pytest

from potstill.errors import ModelError
from potstill.models import ModelConfig


def a_config(**changes: object) -> ModelConfig:
    fields: dict[str, object] = {
        "source": "builtin",
        "name": "mlp",
        "options": {"hidden": (800, 800), "dropout": 0.5},
        "input_shape": (1, 28, 28),
        "num_outputs": 10,
    }
    return ModelConfig(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_config_survives_json() -> None:
    config = a_config()

    again = ModelConfig.from_json(json.loads(json.dumps(config.to_json())))

    assert again == config
    assert again.options["hidden"] == [800, 800]


def test_the_description_is_one_line_with_options_and_sizes() -> None:
    assert a_config().description == (
        "mlp (hidden=[800, 800], dropout=0.5), 1x28x28 inputs, 10 outputs"
    )
    assert a_config(source="timm", name="vit", options={}, input_shape=(30,)).description == (
        "timm vit, 30 inputs, 10 outputs"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": ()}, r"input shape \(\) is not usable"),
        ({"input_shape": (3, 0, 8)}, r"input shape \(3, 0, 8\) is not usable"),
        ({"input_shape": (3.0, 8, 8)}, "is not usable"),
        ({"num_outputs": 0}, "cannot have 0 outputs"),
        ({"num_outputs": "10"}, "cannot have '10' outputs"),
        ({"options": {"hidden": object()}}, "cannot be written as JSON"),
        ({"options": {"dropout": float("nan")}}, "cannot be written as JSON"),
    ],
)
def test_what_no_model_can_have_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        a_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2 and this version of Potstill reads format 1"),
        ({"name": 3}, "each of its type"),
        ({"input_shape": ["a"]}, "each of its type"),
        ({"options": None}, "each of its type"),
    ],
)
def test_a_record_that_is_not_ours_is_refused(changes: dict[str, object], message: str) -> None:
    record = {**a_config().to_json(), **changes}

    with pytest.raises(ModelError, match=message):
        ModelConfig.from_json(record)  # type: ignore[arg-type]


def test_changing_the_options_given_does_not_change_the_config() -> None:
    options = {"hidden": [8]}
    config = a_config(options=options)

    options["hidden"].append(9)

    assert config.options == {"hidden": [8]}
