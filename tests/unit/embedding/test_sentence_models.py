"""Encoders pool as their folder says, and static students start as the teacher's tokens."""

import json

import pytest
import torch
from transformers import AutoModel

from potstill.errors import ModelError
from potstill.functional.similarity import principal_directions
from potstill.models import ModelConfig, create_model, load_model, save_model, shrunken_config
from potstill.models.sentence import embedding_width

from .tiny import WIDTH, WORDS, save_sentence_encoder


def config(folder, **options: object) -> ModelConfig:
    return ModelConfig(
        source="hf",
        name=str(folder),
        options={"pooling": "auto", **options},
        input_shape=(2, 8),
        num_outputs=WIDTH,
    )


def planes() -> torch.Tensor:
    ids = torch.tensor([[2, 9, 11, 3, 0], [2, 7, 3, 0, 0]])
    return torch.stack([ids, (ids > 0).long()], dim=1)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_and_length_are_those_of_the_folder(tmp_path, pooling, normalise) -> None:
    save_sentence_encoder(tmp_path, pooling=pooling, normalise=normalise)
    model = create_model(config(tmp_path)).eval()

    said = model(planes())

    ids, mask = planes().unbind(1)
    states = AutoModel.from_pretrained(str(tmp_path)).eval()(ids, mask).last_hidden_state
    for row, kept in enumerate((4, 3)):
        tokens = states[row, :kept]
        expected = {"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.amax(0)}[pooling]
        expected = expected / expected.norm() if normalise else expected
        torch.testing.assert_close(said[row], expected, rtol=1e-5, atol=1e-6)


def test_a_folder_without_modules_is_the_mean(tmp_path) -> None:
    save_sentence_encoder(tmp_path, pooling="cls")
    (tmp_path / "modules.json").unlink()

    model = create_model(config(tmp_path))

    assert (model.pooling, model.normalise) == ("mean", True)
    assert embedding_width(config(tmp_path)) == WIDTH
    assert create_model(config(tmp_path, pooling="max", normalise=False)).pooling == "max"


def test_modules_that_are_not_read_are_refused(tmp_path) -> None:
    save_sentence_encoder(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.Dense"
    (tmp_path / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(ModelError, match="Dense"):
        create_model(config(tmp_path))


def test_an_encoder_is_built_again_without_its_folder(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    save_sentence_encoder(tmp_path / "there", pooling="max")
    made = create_model(config(tmp_path / "there")).eval()
    save_model(made, config(tmp_path / "there"), tmp_path / "kept")
    (tmp_path / "there" / "config.json").unlink()

    again, _ = load_model(tmp_path / "kept")

    assert torch.equal(again.eval()(planes()), made(planes()))


@pytest.mark.parametrize("width", [None, 5])
def test_a_static_student_starts_as_the_teachers_tokens(tmp_path, width) -> None:
    save_sentence_encoder(tmp_path)
    teacher = create_model(config(tmp_path)).eval()
    options = {"make": "static", "frame": [2, 3]} | ({} if width is None else {"width": width})
    made = shrunken_config(config(tmp_path), options)
    made = ModelConfig(**{**vars(made), "num_outputs": width or WIDTH})

    table = create_model(made).embedding.weight.detach()

    alone = [torch.tensor([[[2, token, 3], [1, 1, 1]]]) for token in range(len(WORDS))]
    with torch.no_grad():
        said = torch.cat([teacher(each) for each in alone])
    said = said - said.mean(dim=0)
    if width is not None:
        said = said @ principal_directions(said, width)
    harmonic = sum(1 / rank for rank in range(1, len(WORDS) + 1))
    for token, vector in enumerate(said):
        weight = 1e-4 / (1e-4 + 1 / (token + 1) / harmonic)
        expected = torch.zeros_like(vector) if token in (2, 3) else weight * vector
        torch.testing.assert_close(table[token], expected, rtol=1e-4, atol=1e-6)


def test_padding_and_dropout_of_a_static_encoder() -> None:
    options = {"vocabulary": 12, "dropout": 0.5}
    made = ModelConfig(
        source="builtin", name="static", options=options, input_shape=(2, 5), num_outputs=6
    )
    model = create_model(made)

    cut = planes()[:, :, :4]
    assert torch.equal(model.eval()(planes()), model(cut))
    torch.manual_seed(0)
    first, second = model.train()(cut), model(cut)
    assert not torch.equal(first, second)
