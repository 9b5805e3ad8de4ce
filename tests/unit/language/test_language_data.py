"""Texts, instructions and chats as rows of tokens: nothing lost, nothing asked that is given."""

import gzip
import json

import pytest
import torch
from datasets import Dataset

from potstill.data import load
from potstill.data.language.rows import Encoded, Rows, lay_out, packed
from potstill.data.vocabulary import END_OF_TEXT as END
from potstill.data.vocabulary import train_bpe
from potstill.errors import DataError, RecipeError
from potstill.functional.tokens import IGNORED

TEXTS = [f"the cat number {n} sat on the mat and said {n * n}." for n in range(60)]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def documents(*sizes: int) -> list[Encoded]:
    """Texts whose tokens are all different."""
    found, at = [], 1
    for size in sizes:
        found.append(Encoded(list(range(at, at + size))))
        at += size
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A tokenizer with a chat template, as people have it."""
    place = tmp_path_factory.mktemp("tokenizer")
    made = train_bpe([*TEXTS, "<|user|><|assistant|><|system|><|end|>"], vocabulary=320)
    made.chat_template = CHAT
    made.save_pretrained(str(place))
    return place


def written(path, rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def asked_texts(data) -> list[str]:
    """What each training row asks for, in words."""
    assert data.tokens is not None
    assert data.train.labels is not None
    rows = (row[row != IGNORED].tolist() for row in data.train.labels)
    return [data.tokens.tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize("length", [1, 4, 7, 23, 100])
def test_blocks_ask_for_every_token_but_the_first_once(length: int) -> None:
    table = lay_out(documents(9, 5, 10), Rows.BLOCKS, length=length, pad=0)

    labels = table.labels_NL[table.labels_NL != IGNORED]
    assert labels.tolist() == list(range(2, 25))
    given = table.planes_NPL[:, 0][table.labels_NL != IGNORED]
    assert (labels == given + 1).all()
    assert table.planes_NPL.shape[2] == length


def test_packed_rows_hold_every_text_once_and_start_places_again() -> None:
    texts = documents(9, 5, 10, 3, 2)

    table = lay_out(texts, Rows.PACKED, length=15, pad=0)

    ids, mask, places = table.planes_NPL.transpose(1, 0, 2)
    assert sorted(ids[mask > 0].tolist()) == list(range(1, 30))
    assert len(ids) == 2
    starts = ids[(places == 0) & (mask > 0)]
    assert sorted(starts.tolist()) == [1, 10, 15, 25, 28]
    labels = table.labels_NL[table.labels_NL != IGNORED]
    assert sorted(labels.tolist()) == sorted(set(range(1, 30)) - set(starts.tolist()))


def test_packing_is_tight_and_loses_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 33, (500,), generator=generator).tolist()

    rows = packed(sizes, 32)

    assert sorted(number for row in rows for number in row) == list(range(500))
    assert all(sum(sizes[number] for number in row) <= 32 for row in rows)
    assert len(rows) <= 1.05 * sum(sizes) / 32


def test_what_is_too_long_loses_its_end_and_is_counted() -> None:
    table = lay_out(documents(9, 3), Rows.SINGLE, length=5, pad=0)

    assert table.cut == 1
    assert table.planes_NPL[:, 0].tolist() == [[1, 2, 3, 4, 5], [10, 11, 12, 0, 0]]
    assert table.labels_NL.tolist() == [[2, 3, 4, 5, IGNORED], [11, 12, *[IGNORED] * 3]]


def test_rows_whose_answer_was_cut_off_are_left_out() -> None:
    texts = [Encoded([1, 2, 3, 4], [False, False, False, True]), Encoded([5, 6], [False, True])]

    table = lay_out(texts, Rows.SINGLE, length=3, pad=0)

    assert table.planes_NPL[:, 0, :2].tolist() == [[5, 6]]
    assert table.labels_NL[0, 0] == 6


def test_a_trained_vocabulary_is_the_same_again_and_writes_everything() -> None:
    one, other = (train_bpe(TEXTS, vocabulary=300) for _ in range(2))

    assert one.get_vocab() == other.get_vocab()
    assert len(one) <= 300
    odd = "naïve 猫 \t\n <b>"
    assert one.decode(one(odd)["input_ids"]) == odd
    assert one.eos_token == END
    with pytest.raises(RecipeError, match="257"):
        train_bpe(TEXTS, vocabulary=200)


def test_a_text_file_is_cut_into_parts_in_order(tmp_path) -> None:
    path = tmp_path / "corpus.txt.gz"
    path.write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    options = {"path": str(path), "max_length": 32, "tokenizer": {"vocabulary": 300}}

    data = load("text", options, target_kind="tokens", validation=0.2, test=0.2)

    assert data.tokens is not None
    assert data.num_outputs == data.tokens.size
    order = [*data.train.ids.tolist(), *data.validation.ids.tolist(), *data.test.ids.tolist()]
    assert order == list(range(len(order)))
    everything = "".join(
        data.tokens.tokenizer.decode(row[0][row[1] > 0].tolist())
        for part in (data.train, data.validation, data.test)
        for row in part.inputs
    )
    assert everything.startswith(TEXTS[0])
    assert TEXTS[-1][:-6] in everything


def test_lines_are_texts_of_their_own_when_packed(tmp_path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(TEXTS))
    options = {
        "path": str(path),
        "documents": "line",
        "rows": "packed",
        "max_length": 64,
        "tokenizer": {"vocabulary": 300},
    }

    data = load("text", options, target_kind="tokens")

    assert data.train.inputs.shape[1] == 3
    assert data.tokens is not None
    assert data.tokens.texts(data.train.inputs[:1].numpy())[0].startswith("the cat")


def test_of_instructions_only_the_answers_are_asked(folder, tmp_path) -> None:
    rows = [{"q": f"add {n} and 1", "a": f"it is {n + 1}"} for n in range(40)]
    options = {
        "files": {"train": written(tmp_path / "t.jsonl", rows)},
        "prompt": "q",
        "answer": "a",
        "template": "Q: {prompt}\nA: ",
        "tokenizer": str(folder),
        "max_length": 64,
    }

    data = load("hf", options, target_kind="tokens", validation=4, test=4)

    asked = asked_texts(data)
    assert all(text.startswith("it is ") and text.endswith(END) for text in asked)
    assert data.tokens is not None
    shown = data.tokens.texts(data.train.inputs.numpy())
    assert all(text.startswith("Q: add ") and "\nA: it is" in text for text in shown)
    everything = load(
        "hf", {**options, "answers_only": False}, target_kind="tokens", validation=4, test=4
    )
    assert all("add " in text for text in asked_texts(everything))


def test_of_chats_only_the_assistants_words_are_asked(folder, tmp_path) -> None:
    def talk(n: int) -> list[dict[str, str]]:
        return [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": f"what is {n}?"},
            {"role": "assistant", "content": f"a number, {n}"},
            {"role": "user", "content": "and more?"},
            {"role": "assistant", "content": f"one more: {n + 1}"},
        ]

    rows = [{"messages": talk(n)} for n in range(20)]
    for layout in ("single", "packed"):
        options = {
            "files": {"train": written(tmp_path / "t.jsonl", rows)},
            "messages": "messages",
            "tokenizer": str(folder),
            "rows": layout,
            "max_length": 400,
        }
        data = load("hf", options, target_kind="tokens", validation=2, test=2)

        for text in asked_texts(data):
            turns = text.split("<|end|>")
            assert turns[-1] == ""
            for first, second in zip(turns[0:-1:2], turns[1:-1:2], strict=True):
                assert first.startswith("a number, ")
                assert second == f"one more: {int(first.split()[-1]) + 1}"


def test_columns_of_plain_texts(folder, tmp_path) -> None:
    Dataset.from_dict({"text": [*TEXTS, "", " \n"]}).save_to_disk(str(tmp_path / "saved"))
    options = {"path": str(tmp_path / "saved"), "tokenizer": str(folder), "rows": "single"}

    data = load("hf", options, target_kind="tokens", validation=5, test=5)

    assert data.train.inputs.shape[:2] == (50, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "q"}, "go together"),  # an answer column is missing
        ({"messages": "nothing"}, "no column"),
        ({"messages": "q"}, "role"),
        ({"tokenizer": None}, "tokenizer"),
        ({"prompt": "q", "answer": "a", "template": "no place"}, "prompt"),
        ({"prompt": "q", "answer": "a", "rows": "blocks"}, "plain texts"),
        ({"prompt": "q", "answer": "a", "max_length": 2}, "asks for no token"),
    ],
)
def test_what_does_not_fit_is_said(folder, tmp_path, changes, words: str) -> None:
    rows = [{"q": "add 1 and 1", "a": "2", "text": "x"} for _ in range(8)]
    options = {
        "files": {"train": written(tmp_path / "t.jsonl", rows)},
        "tokenizer": str(folder),
        **changes,
    }

    with pytest.raises((DataError, RecipeError), match=words):
        load("hf", {k: v for k, v in options.items() if v}, target_kind="tokens")
