"""Pairs of texts: aligned files and columns, a vocabulary learnt in the run, whole references."""

import gzip
import json
from pathlib import Path

import pytest

from potstill.data import load
from potstill.data.vocabulary import train_tokenizer
from potstill.errors import DataError, RecipeError
from potstill.functional.tokens import IGNORED

from .tiny import save_pairs

TRAINED = {"vocabulary": 300}


def pairs(**options: object):
    return load("pairs", {"tokenizer": TRAINED, **options}, target_kind="tokens")


def test_aligned_files_become_planes_labels_and_references(tmp_path) -> None:
    files = save_pairs(tmp_path)

    data = pairs(files=files)

    ids, mask, written, there = data.train.inputs[3].unbind(0)
    labels = data.train.labels[3]
    assert data.input_shape[0] == 4
    assert data.num_outputs == data.tokens.size
    assert labels[there > 0].tolist() == written[there > 0].tolist()
    assert set(labels[there == 0].tolist()) <= {IGNORED}
    assert int(written[int(there.sum()) - 1]) == 1  # the end is to be written too
    (read, said) = data.tokens.decode([ids[mask > 0].tolist(), written[there > 0].tolist()])
    assert said == read.upper() == data.references[int(data.train.ids[3])]
    first_test = int(data.test.ids[0])
    lines = (tmp_path / "test.high").read_text().splitlines()
    assert [data.references[first_test + i] for i in range(len(lines))] == lines


def test_compressed_files_and_columns_say_the_same(tmp_path) -> None:
    files = save_pairs(tmp_path, train=30, others=5)
    packed, tables = {}, {}
    for part, paths in files.items():
        packed[part] = [f"{path}.gz" for path in paths]
        texts = [Path(path).read_text(encoding="utf-8") for path in paths]
        for path, text in zip(packed[part], texts, strict=True):
            with gzip.open(path, "wt", encoding="utf-8") as file:
                file.write(text)
        table = tmp_path / f"{part}.jsonl"
        rows = zip(*(text.splitlines() for text in texts), strict=True)
        table.write_text("\n".join(json.dumps({"pair": {"a": a, "b": b}}) for a, b in rows))
        tables[part] = str(table)

    found = [
        pairs(files=files).fingerprint(),
        pairs(files=packed).fingerprint(),
        pairs(files=tables, columns=["pair.a", "pair.b"]).fingerprint(),
    ]

    assert len(set(found)) == 1


def test_a_vocabulary_writes_every_text_and_is_the_same_each_time() -> None:
    texts = ["Zwei Männer stehen am Herd.", "A man, 12 years old – »blue«"] * 3

    first, again = (train_tokenizer(texts, size=320) for _ in range(2))

    assert first.get_vocab() == again.get_vocab()
    for text in (*texts, "ñandú 漢字  two  spaces"):
        ids = first(text)["input_ids"]
        assert ids[-1] == first.eos_token_id
        assert first.unk_token_id not in ids
        assert first.decode(ids, skip_special_tokens=True) == f" {text}"


def test_long_texts_are_cut_and_said_and_references_stay_whole(tmp_path) -> None:
    data = pairs(files=save_pairs(tmp_path, train=50, others=10), max_length=4)

    assert data.input_shape == (4, 4)
    assert any("more than 4 tokens" in note for note in data.notes)
    assert max(len(text) for text in data.references.values()) > 12


def test_a_prefix_stands_before_what_is_read(tmp_path) -> None:
    data = pairs(files=save_pairs(tmp_path, train=20, others=4), prefix="shout: ")

    assert data.tokens.texts(data.test.inputs[:1, :2].numpy())[0].startswith("shout: ")


def test_files_that_are_not_aligned_are_refused(tmp_path) -> None:
    files = save_pairs(tmp_path, train=20, others=4)
    path = Path(files["train"][1])
    path.write_text(path.read_text(encoding="utf-8") + "ONE MORE\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"has 20 lines and .* 21"):
        pairs(files=files)


def test_an_empty_text_is_named_with_its_row(tmp_path) -> None:
    files = save_pairs(tmp_path, train=20, others=4)
    path = Path(files["test"][0])
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[2] = ""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    with pytest.raises(DataError, match="Row 2 of the test part"):
        pairs(files=files)


def test_what_is_missing_is_said(tmp_path) -> None:
    files = save_pairs(tmp_path, train=20, others=4)

    with pytest.raises(RecipeError, match="need a tokenizer"):
        load("pairs", {"files": files}, target_kind="tokens")
    with pytest.raises(RecipeError, match="must name two files"):
        pairs(files={"train": ["a", "b", "c"]})
    with pytest.raises(RecipeError, match="for `task: seq2seq`"):
        load("pairs", {"files": files, "tokenizer": TRAINED}, target_kind="single_label")
    with pytest.raises(RecipeError, match="leaves no room"):
        load("pairs", {"files": files, "tokenizer": {"vocabulary": 100}}, target_kind="tokens")
