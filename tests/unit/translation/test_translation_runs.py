"""The whole way of a translation: teacher, its texts, students, BLEU, what is shipped."""

import json

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import potstill
from potstill.build import build
from potstill.data import load
from potstill.errors import RecipeError
from potstill.export.translator import OnnxTranslator
from potstill.losses import CrossEntropy
from potstill.measure.translation import sentence_bleu, translation_scores
from potstill.models import ModelConfig, create_model
from potstill.pipeline import Keep, Pipeline, Sequences
from potstill.pipeline.labelling import label_experiment
from potstill.pipeline.rewriting import HALF, WRITTEN, nearest
from potstill.recipe import parse
from potstill.train import TrainSettings

from .tiny import save_pairs, sizes


def recipe(files: dict[str, list[str]], **changes: object) -> potstill.Recipe:
    made: dict[str, object] = {
        "name": "capitals",
        "task": "seq2seq",
        "data": {"source": "pairs", "files": files, "tokenizer": {"vocabulary": 290}},
        "teacher": {
            "model": {
                "source": "hf",
                "model_type": "marian",
                "config": {**sizes("marian", width=32), "init_std": 0.05},
            },
            "train": {"epochs": 14, "batch_size": 16, "lr": 4e-3, "warmup": 0.1},
        },
        "student": {"model": {"source": "teacher", "decoder_layers": 1}},
        "distill": {
            "objective": [
                {"term": "kd", "temperature": 1, "weight": 0.5},
                {"term": "cross_entropy", "weight": 0.5},
            ],
            "sequences": {"beams": 2, "share": 0.5},
            "epochs": 2,
            "batch_size": 16,
            "lr": 4e-3,
        },
        "seeds": 2,
        "export": ["hf", "onnx"],
        "speed": "exact",
        "store": "on",
        "measure": {"energy": False, "seconds": 0.1},
        "device": "cpu",
    }
    return parse({**made, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("capitals")
    made = recipe(save_pairs(place))
    run = Pipeline(build(made), place / "run").run()
    return made, place / "run", run


def test_a_run_is_judged_by_bleu_and_selected_by_perplexity(finished) -> None:
    _, _, run = finished

    results = run.results
    assert (results["task"], results["primary"], results["selected_by"]) == (
        "seq2seq",
        "bleu",
        "perplexity",
    )
    assert results["higher_is_better"]
    for role, count in (("teacher", 1), ("scratch", 2), ("distilled", 2)):
        test = results["models"][role]["test"]
        assert len(test["bleu"]["values"]) == count
        assert {"chrf", "length_ratio", "perplexity", "token_accuracy"} <= set(test)
    assert results["verdict"]["helped"] in {"yes", "no", "unclear"}
    assert results["models"]["distilled"]["parameters"] < results["models"]["teacher"]["parameters"]


def test_word_level_answers_come_from_the_store(finished) -> None:
    _, folder, run = finished

    assert run.results["store"]["used"]
    assert (folder / "store" / "manifest.json").exists()


def test_what_is_shipped_opens_in_transformers_and_writes_the_same(finished) -> None:
    _, folder, run = finished
    place = folder / "export" / "distilled"
    opened = AutoModelForSeq2SeqLM.from_pretrained(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    name = f"distilled_{run.results['models']['distilled']['shipped_seed']}"
    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()[:5]]

    for line in lines:
        ids = tokenizer(line["source"], return_tensors="pt").input_ids
        written = opened.generate(input_ids=ids, max_new_tokens=20, num_beams=1, do_sample=False)
        said = tokenizer.decode(written[0], skip_special_tokens=True).strip()
        assert said == line[name]


def test_onnx_files_write_what_the_student_writes(finished) -> None:
    _, folder, run = finished
    opened = OnnxTranslator(folder / "export" / "distilled-onnx")
    tokenizer = AutoTokenizer.from_pretrained(folder / "export" / "distilled")
    name = f"distilled_{run.results['models']['distilled']['shipped_seed']}"
    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]

    told = tokenizer([line["source"] for line in lines], padding=True, return_tensors="np")
    written = opened.write(
        told["input_ids"], told["attention_mask"], start=0, end=1, pad=0, longest=20
    )

    said = [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    assert said == [line[name] for line in lines]
    parity = json.loads((folder / "export" / "parity.json").read_text())["models"]
    assert parity["distilled-onnx"]["relative"] <= parity["distilled-onnx"]["bound"]


def test_scores_are_those_of_the_texts_kept(finished) -> None:
    _, folder, run = finished

    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]

    assert len(lines) == 40
    again = translation_scores([x["teacher_0"] for x in lines], [x["reference"] for x in lines])
    assert again["bleu"] == run.results["models"]["teacher"]["test"]["bleu"]["mean"]
    assert all(line["reference"] == line["source"].upper() for line in lines)


def test_the_teacher_writes_its_share_of_the_texts(finished) -> None:
    _, folder, _ = finished

    head, *lines = (folder / "sequences" / WRITTEN).read_text().splitlines()

    assert json.loads(head)["format"] == 1
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 120
    assert len({entry["id"] for entry in entries}) == 120
    assert not (folder / "sequences" / HALF).exists()


def test_writing_goes_on_where_it_was_cut_and_ends_with_the_same_texts(finished) -> None:
    made, folder, _ = finished
    path = folder / "sequences" / WRITTEN
    head, *lines = path.read_text().splitlines()
    kept = [json.dumps({**json.loads(line), "kept": True}) for line in lines[:70]]
    (folder / "sequences" / HALF).write_text("\n".join([head, *kept, lines[70][:20]]))
    path.unlink()

    Pipeline(build(made), folder).run()

    again = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert sum("kept" in entry for entry in again) == 70
    texts = [{e["id"]: e["target"] for e in es} for es in (map(json.loads, lines), again)]
    assert texts[0] == texts[1]


def test_labelling_finds_the_texts_and_the_answers_about_them(finished) -> None:
    made, folder, _ = finished
    before = (folder / "sequences" / WRITTEN).read_bytes()

    store = label_experiment(build(made), folder)

    assert len(store) == 240
    assert (folder / "sequences" / WRITTEN).read_bytes() == before


def test_python_does_the_same(tmp_path) -> None:
    data = load(
        "pairs",
        {"files": save_pairs(tmp_path, train=32, others=6), "tokenizer": {"vocabulary": 290}},
        target_kind="tokens",
    )
    config = ModelConfig(
        source="hf",
        name="tiny",
        options={"model_type": "t5", "config": sizes("t5")},
        input_shape=data.input_shape,
        num_outputs=data.num_outputs,
        purpose="seq2seq",
    )

    run = potstill.distill(
        lambda: create_model(config, seed=1),
        create_model(config, seed=0),
        data,
        objective=CrossEntropy(),
        sequences=Sequences(beams=2, keep=Keep.NEAREST),
        settings=TrainSettings(epochs=1, batch_size=16),
        seeds=1,
        out=tmp_path / "run",
    )

    assert run.results["primary"] == "bleu"
    lines = (tmp_path / "run" / "sequences" / WRITTEN).read_text().splitlines()
    assert len(lines) == 33


def test_sequences_are_for_texts_that_are_written(tmp_path) -> None:
    files = save_pairs(tmp_path, train=20, others=4)
    wrong = {"task": "classification", "data": {"source": "builtin", "name": "digits"}}

    with pytest.raises(RecipeError, match=r"distill\.sequences.*task: seq2seq"):
        build(recipe(files, **wrong))


def test_what_cannot_be_shipped_is_said_before_training(tmp_path) -> None:
    files = save_pairs(tmp_path, train=20, others=4)

    with pytest.raises(RecipeError, match=r"ask for `export: \[hf, onnx\]`"):
        build(recipe(files, export=["onnx"]))


def test_the_beam_nearest_to_the_data_is_kept() -> None:
    beams = ["a dog runs", "a black dog runs in the snow", "the cat"]

    assert nearest(beams, "a black dog runs through the snow") == beams[1]
    assert nearest(beams, "the cat") == beams[2]


def test_bleu_is_a_hundred_for_the_reference_and_by_hand_for_a_slip() -> None:
    reference = "the cat sat on the mat today"

    assert translation_scores([reference], [reference])["bleu"] == pytest.approx(100)
    found = translation_scores(["the cat sat on the mat now"], [reference])["bleu"]
    by_hand = (6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25  # shares of 1- to 4-grams that occur
    assert found == pytest.approx(100 * by_hand)
    assert sentence_bleu("the cat", reference) < sentence_bleu("the cat sat on the", reference)
