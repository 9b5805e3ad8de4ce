"""Language models of a run in 4 bits, by the command's own way."""

from pathlib import Path

import pytest

from potstill.compress.int4 import load_int4
from potstill.errors import RecipeError
from potstill.pipeline import Pipeline
from potstill.pipeline.compression import Compression, Quantised, Way, compress_experiment
from potstill.pipeline.experiment import Measuring
from potstill.report import squeezed_of
from potstill.train.evaluate import answers_of, score

from ..language.test_language_runs import experiment, made

QUICK = {
    "student": made(1, 32),
    "seeds": (0,),
    "measuring": Measuring(seconds=0.05, energy=False, prompts=0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("walks") / "run"
    Pipeline(experiment(**QUICK), folder).run()
    return folder


def test_teacher_and_students_lose_little_in_4_bits_and_are_read_back(run) -> None:
    asked = Compression(epochs=1, quantised=Quantised.TRAINING)

    record = compress_experiment(experiment(**QUICK), run, asked)

    assert [(way["way"], way["teacher"]) for way in record["ways"]] == [
        (name, taught) for name in ("quantise", "distil+quantise") for taught in (True, False)
    ]
    assert {each["way"] for each in record["skipped"]} == {
        "distil",
        "prune",
        "distil+prune",
        "distil+prune+quantise",
    }
    feed = experiment(**QUICK).learning.feed(
        experiment(**QUICK).data.test, experiment(**QUICK).data, seed=0, device="cpu"
    )
    for way in record["ways"]:
        assert way["compression"] > 2
        assert way["lost_by_rounding"] is not None
        assert way["trained_quantised"] == [0]
        module, _ = load_int4((run / way["files"]["0"]).parent)
        again = score(answers_of(module, feed, experiment().task), experiment().task)
        assert way["test"]["perplexity"]["mean"] == pytest.approx(again["perplexity"], rel=1e-4)
    shown = squeezed_of(record)
    assert shown is not None
    assert shown.intro.startswith("Weights in 4 bits.")
    assert sum("rounding alone costs" in note for note in shown.notes) == 4


def test_a_size_and_ways_that_are_not_there_are_refused(run) -> None:
    with pytest.raises(RecipeError, match="not cut to a size here"):
        compress_experiment(experiment(**QUICK), run, Compression(to=1000))
    with pytest.raises(RecipeError, match=r"of language models there are quantise and"):
        compress_experiment(experiment(**QUICK), run, Compression(ways=(Way.PRUNE,)))
