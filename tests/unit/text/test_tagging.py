"""Tags of words: where labels stand, what counts as an entity, and the whole way."""

import json
import random

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

from potstill.build import build
from potstill.data.tokens import Tokens
from potstill.errors import DataError
from potstill.functional.tokens import IGNORED
from potstill.models import ModelConfig, create_model, shrunken_config
from potstill.pipeline import Pipeline
from potstill.recipe import parse
from potstill.signals import Batch
from potstill.tasks import Tagging
from potstill.tasks.entity_metrics import Entity, EntityScore, Figure, entities

from .tiny import PLAIN, WORDS, save_tokenizer

TAGS = ("O", "B-mood", "I-mood", "B-thing")
GOOD = ("fine", "great", "lovely", "bright")
THINGS = ("film", "story", "music")


def test_entities_are_those_of_conlleval() -> None:
    table = (  # tags, the first words of sentences, what is in them
        ("O B-a I-a O B-b", {0}, [Entity(1, 3, "a"), Entity(4, 5, "b")]),
        ("B-a B-a I-a", {0}, [Entity(0, 1, "a"), Entity(1, 3, "a")]),
        ("I-a I-b I-b", {0}, [Entity(0, 1, "a"), Entity(1, 3, "b")]),  # I- begins where none is
        ("B-a I-a I-a", {0, 2}, [Entity(0, 2, "a"), Entity(2, 3, "a")]),  # not across sentences
        ("noun O noun noun", {0}, [Entity(0, 1, "noun"), Entity(2, 4, "noun")]),
        ("O O", {0}, []),
    )
    for tags, starts, expected in table:
        words = tags.split()
        first = [place in starts for place in range(len(words))]

        assert list(entities(words, first)) == expected, tags


def test_scores_of_entities_by_hand() -> None:
    labels = torch.tensor([1, 2, 0, 3, 1, 2])
    said = torch.tensor([1, 0, 0, 3, 1, 2])  # the first mood is cut short
    first = torch.tensor([1, 0, 0, 0, 1, 0])
    digest = torch.stack([torch.zeros(6), said, torch.ones(6), first], dim=1).float()

    scores = {figure: float(EntityScore(TAGS, figure)(digest, labels)) for figure in Figure}
    split = EntityScore(TAGS, Figure.F1)
    for rows in (slice(0, 4), slice(4, 6)):
        split.update(digest[rows], labels[rows])

    assert scores == pytest.approx(
        {Figure.F1: 2 / 3, Figure.PRECISION: 2 / 3, Figure.RECALL: 2 / 3}
    )
    assert float(split.compute()) == pytest.approx(2 / 3)
    nothing = torch.zeros(2, 4)
    assert float(EntityScore(TAGS, Figure.F1)(nothing, torch.zeros(2, dtype=torch.int64))) == 0


def tagged(count: int, *, seed: int) -> list[dict[str, object]]:
    """Moods of one or two words, things, and plain words."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(chance.randint(1, 6)):
            kind = chance.random()
            if kind < 0.3:
                size = chance.randint(1, 2)
                words += [chance.choice(GOOD[:2]), chance.choice(GOOD[2:])][:size]
                tags += ["B-mood", "I-mood"][:size]
            elif kind < 0.5:
                words.append(chance.choice(THINGS))
                tags.append("B-thing")
            else:
                words.append(chance.choice(("the", "was", "a", "with", "very")))
                tags.append("O")
        rows.append({"tokens": words, "tags": tags})
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tags")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=len(TAGS),
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForTokenClassification(config).save_pretrained(str(folder / "encoder"))
    save_tokenizer(folder / "encoder")
    files = {}
    for seed, (part, count) in enumerate({"train": 256, "test": 64}.items()):
        files[part] = str(folder / f"{part}.jsonl")
        lines = [json.dumps(row) for row in tagged(count, seed=seed)]
        (folder / f"{part}.jsonl").write_text("\n".join(lines))
    return folder, files


def recipe(place, **changes: object):
    folder, files = place
    made: dict[str, object] = {
        "name": "tiny-tags",
        "task": "tagging",
        "data": {"source": "hf", "files": files, "inputs": "tokens", "label": "tags"},
        "teacher": {
            "model": {"source": "hf", "name": str(folder / "encoder")},
            "train": {"epochs": 6, "batch_size": 16, "lr": 3e-3},
        },
        "student": {"model": {"source": "teacher", "layers": 1, "ffn": 16}},
        "distill": {
            "epochs": 3,
            "batch_size": 16,
            "lr": 3e-3,
            "objective": [{"term": "kd", "weight": 0.9}, {"term": "cross_entropy", "weight": 0.1}],
        },
        "seeds": 1,
        "measure": {"energy": False, "seconds": 0.2},
        "device": "cpu",
    }
    return parse({**made, **changes})


def test_the_first_token_of_a_word_has_its_tag(tmp_path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##do", "it"])}
    words = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]"))

    planes, places, unread = tokens.words([["it", "undo", "it"], ["undo"]], max_length=16)

    assert planes[0, 0].tolist() == [2, 6, 4, 5, 6, 3]
    assert places.tolist() == [[-1, 0, 1, -1, 2, -1], [-1, 0, -1, -1, -1, -1]]
    assert unread == 0
    assert tokens.words([["it", "undo", "it"]], max_length=4)[2] == 1


def test_labels_stand_at_words(place) -> None:
    data = build(recipe(place)).data
    rows = tagged(64, seed=1)

    assert data.classes == TAGS
    assert data.num_outputs == 4
    for row, planes, labels in zip(rows, data.test.inputs, data.test.labels, strict=True):
        asked = labels[labels != IGNORED].tolist()
        assert [data.classes[number] for number in asked] == row["tags"]
        at_words = (labels != IGNORED).nonzero()[:, 0].tolist()
        assert at_words == list(range(1, len(row["tags"]) + 1))
        assert int(planes[1].sum()) == len(row["tags"]) + 2


def test_rows_are_words_and_padding_changes_nothing() -> None:
    config = ModelConfig(
        source="hf",
        name="tiny",
        options={
            "model_type": "bert",
            "config": {
                "vocab_size": 50,
                "hidden_size": 16,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            },
        },
        input_shape=(2, 12),
        num_outputs=4,
        purpose="tagging",
    )
    model = create_model(shrunken_config(config, {"layers": 2}), seed=1).eval()
    ids = torch.randint(4, 50, (3, 12))
    mask = (torch.arange(12)[None] < torch.tensor([[12], [5], [7]])).long()
    labels = torch.where(mask > 0, torch.randint(0, 4, (3, 12)), IGNORED)
    labels[:, ::3] = IGNORED
    task = Tagging(TAGS)

    together = Batch(inputs=torch.stack([ids, mask], dim=1), labels=labels)
    said = task.forward(model, together)
    alone = [
        task.forward(
            model, Batch(inputs=together.inputs[i : i + 1, :, :n], labels=labels[i : i + 1, :n])
        )
        for i, n in enumerate((12, 5, 7))
    ]

    dense = said.logits.dense()
    torch.testing.assert_close(dense, torch.cat([each.logits.dense() for each in alone]))
    everywhere = model(together.inputs)
    torch.testing.assert_close(dense, everywhere[labels != IGNORED])
    digest = task.digest(said, task.target(together))
    assert digest[:, 3].sum() == 3
    with pytest.raises(Exception, match="about every word"):
        create_model(shrunken_config(config, {"make": "bag"}))


def test_the_whole_way(place, tmp_path) -> None:
    run = Pipeline(build(recipe(place)), tmp_path / "run").run()

    models = run.results["models"]
    assert run.results["primary"] == "f1"
    assert models["teacher"]["test"]["f1"]["mean"] > 0.9
    assert set(models["distilled"]["test"]) == {"f1", "precision", "recall", "token_accuracy"}
    assert models["distilled"]["latency_ms"]["engine"] == "onnxruntime"
    session = onnxruntime.InferenceSession(str(run.folder / "export" / "distilled.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(str(run.folder / "export" / "tokenizer"))
    told = tokenizer([["the", "film"], [PLAIN[0]]], is_split_into_words=True, padding=True)
    names = [given.name for given in session.get_inputs()]
    (logits,) = session.run(["logits"], {n: np.asarray(told[n], dtype=np.int64) for n in names})
    assert logits.shape == (2, 4, 4)
    assert (run.folder / "report.html").is_file()


def test_what_cannot_be_tagged_is_said(place, tmp_path) -> None:
    rows = [{"tokens": ["a", "film"], "tags": ["O"]}] * 8
    path = tmp_path / "short.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    odd = {"source": "hf", "files": {"train": str(path)}}

    with pytest.raises(DataError, match="2 words and 1 tags"):
        build(recipe(place, data=odd))
    with pytest.raises(DataError, match="no column `mood`"):
        build(recipe(place, data={"source": "hf", "files": place[1], "label": "mood"}))
