"""Encoders cut to the tokens that the learnt texts use."""

import json
from pathlib import Path

import pytest
import torch

from potstill.build import build
from potstill.errors import DataError
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


def content(folder: Path, **data: object) -> dict[str, object]:
    """A recipe whose training texts use few words."""
    few = [{"text": "fine film", "label": 1}, {"text": "dull film", "label": 0}] * 6
    files = {}
    for part in ("train", "test"):
        files[part] = str(folder / f"{part}.jsonl")
        Path(files[part]).write_text("\n".join(map(json.dumps, few)))
    read = {"source": "hf", "kind": "text", "inputs": "text", "validation": 2}
    return {
        "name": "cut",
        "task": "classification",
        "data": {**read, "files": files, "vocabulary": "used", **data},
        "teacher": {"model": {"source": "hf", "name": str(save_encoder(folder))}},
        "student": {"model": {"source": "teacher", "layers": 2}},
        "device": "cpu",
    }


def test_tokens_of_a_transfer_part_are_in_use_too(tmp_path) -> None:
    given = content(tmp_path)
    files = {**given["data"]["files"], "transfer": str(tmp_path / "more.jsonl")}
    (tmp_path / "more.jsonl").write_text(
        "\n".join(json.dumps({"text": "long music"}) for _ in "abc")
    )
    without = build(parse(given)).data

    data = build(parse({**given, "data": {**given["data"], "files": files}})).data

    kept = {WORDS[number] for number in data.tokens.kept}
    assert kept - {WORDS[number] for number in without.tokens.kept} == {"long", "music"}
    assert data.tokens.texts(data.transfer.inputs.numpy()) == ["long music"] * 3


def elsewhere(folder: Path) -> dict[str, object]:
    """Short labelled texts as a second source, in all tokens."""
    (folder / "encoder").mkdir()
    more = folder / "more.jsonl"
    more.write_text("\n".join(json.dumps({"text": "fine", "label": n % 2}) for n in range(40)))
    read = {"source": "hf", "kind": "text", "inputs": "text", "files": {"train": str(more)}}
    return {**read, "tokenizer": str(save_encoder(folder / "encoder"))}


def test_transfer_texts_of_a_second_source_are_padded(tmp_path) -> None:
    given = content(tmp_path, vocabulary="all", transfer=elsewhere(tmp_path))

    data = build(parse(given)).data

    assert set(data.tokens.texts(data.transfer.inputs.numpy())) == {"fine"}


def test_transfer_texts_in_other_tokens_are_refused(tmp_path) -> None:
    given = content(tmp_path, vocabulary="used", transfer=elsewhere(tmp_path))

    with pytest.raises(DataError, match=r"in other tokens \(22 of them\).*`files: \{train"):
        build(parse(given))


def test_transfer_texts_without_labels_are_a_part_of_the_data(tmp_path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("\n".join(json.dumps({"text": "fine film"}) for _ in range(4)))
    given = content(tmp_path)
    read = {key: given["data"][key] for key in ("source", "kind", "inputs")}
    transfer = {**read, "tokenizer": str(tmp_path), "files": {"train": str(more)}}

    with pytest.raises(DataError, match=r"`data.transfer`: .* label.*`files: \{…, transfer: …\}`"):
        build(parse({**given, "data": {**given["data"], "transfer": transfer}}))
