"""Encoders cut to the tokens that the training texts use."""

import pytest
import torch

from potstill.build import build
from potstill.models import create_model, without_kept
from potstill.pipeline.trimming import vocabulary_notes
from potstill.recipe import parse

from .tiny import WORDS, save_encoder, save_texts


@pytest.mark.parametrize(
    "student",
    [
        {"source": "teacher", "layers": 2},
        {"source": "teacher", "make": "bag"},
        {"source": "hf", "model_type": "bert", "config": {"hidden_size": 8, "num_hidden_layers": 1,
         "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}},
    ],
    ids=["layers", "bag", "random"],
)  # fmt: skip
def test_teacher_and_students_have_the_rows_in_use(tmp_path, student: dict[str, object]) -> None:
    folder = save_encoder(tmp_path)
    files = save_texts(tmp_path, train=6, test=4)
    experiment = build(
        parse(
            {
                "name": "cut",
                "task": "classification",
                "data": {
                    "source": "hf",
                    "files": files,
                    "kind": "text",
                    "inputs": "text",
                    "vocabulary": "used",
                    "validation": 2,
                },
                "teacher": {"model": {"source": "hf", "name": str(folder)}},
                "student": {"model": student},
                "device": "cpu",
            }
        )
    )
    data, kept = experiment.data, torch.tensor(experiment.data.tokens.kept)
    small = experiment.teacher.module.eval()
    whole = create_model(without_kept(experiment.teacher.config)[0]).eval()
    planes = data.train.inputs.long()
    old = planes.clone()
    old[:, 0] = kept[planes[:, 0]]

    with torch.no_grad():
        mine, theirs = small(planes), whole(old)

    made = experiment.student.make(0)
    table = next(m for m in made.modules() if isinstance(m, torch.nn.Embedding))
    assert len(kept) < len(WORDS)
    assert small.model.config.vocab_size == table.num_embeddings == len(kept)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    (note,) = vocabulary_notes(data, made)
    assert f"{len(kept)} of {len(WORDS)}" in note
