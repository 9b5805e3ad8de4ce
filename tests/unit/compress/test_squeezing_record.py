"""What `compress.json` concludes of its rows, and how it is shown: pure arithmetic."""

import pytest

from potstill.compress.importance import Importance
from potstill.errors import RecipeError, StorageError
from potstill.pipeline.compression.options import Compression, Way
from potstill.pipeline.compression.plan import Plan, Planned
from potstill.pipeline.compression.record import Made, Reference, Row, record_of
from potstill.report import squeezed_markdown, squeezed_of


def row(way: Way, *, taught: bool, size: int, scores: tuple[float, ...]) -> Row:
    planned = Planned(way=way, nearest=size, overhead=10, reaches=size <= 1000)
    made = [
        Made(
            seed=seed,
            file=f"{way}/{seed}.onnx",
            bytes=size,
            parameters=7,
            flops=9,
            epochs=3,
            seconds=1.0,
            validation=score - 0.1,
            test={"accuracy": score},
        )
        for seed, score in enumerate(scores)
    ]
    return Row(planned=planned, taught=taught, made=tuple(made))


ROWS = [
    row(Way.QUANTISE, taught=True, size=4000, scores=(0.95, 0.95)),
    row(Way.PRUNE, taught=True, size=900, scores=(0.80, 0.82)),
    row(Way.PRUNE, taught=False, size=900, scores=(0.79, 0.78)),
    row(Way.ALL, taught=True, size=1000, scores=(0.90, 0.94)),
    row(Way.ALL, taught=False, size=1000, scores=(0.91, 0.89)),
]


def made_record(*, higher: bool = True) -> dict:
    left = Planned(way=Way.DISTIL, nearest=1500, overhead=10, reaches=False)
    plan = Plan(target=1000, ways=(*(each.planned for each in ROWS), left))
    teacher = Reference(bytes=10_000, parameters=70, test={"accuracy": [0.96]})
    latency = {each.key: {"p50": each.made[0].bytes / 1000} for each in ROWS}
    latency["teacher"] = {"p50": 9.0}
    return record_of(
        plan,
        ROWS,
        {"teacher": teacher},
        latency,
        primary="accuracy",
        higher=higher,
        about={"name": "x", "seeds": [0, 1], "sensitivity": None},
    )


def test_ratios_are_against_the_teachers_file() -> None:
    record = made_record()
    whole = {(way["way"], way["teacher"]): way for way in record["ways"]}

    best = whole["distil+prune+quantise", True]

    assert best["compression"] == 10
    assert best["speedup"] == 9
    assert best["retention"] == pytest.approx(0.92 / 0.96)
    assert best["shipped_seed"] == 1
    assert best["reaches"]
    assert not whole["quantise", True]["reaches"]


def test_the_gain_of_the_teacher_is_paired_over_seeds() -> None:
    gains = {due["way"]: due["gain"] for due in made_record()["due_to_teacher"]}

    assert set(gains) == {"prune", "distil+prune+quantise"}  # `quantise` has no other side here
    assert gains["prune"]["values"] == pytest.approx([0.01, 0.04])
    assert gains["distil+prune+quantise"]["mean"] == pytest.approx((-0.01 + 0.05) / 2)


def test_a_gain_is_positive_where_less_is_better() -> None:
    gains = {due["way"]: due["gain"] for due in made_record(higher=False)["due_to_teacher"]}

    assert gains["prune"]["values"] == pytest.approx([-0.01, -0.04])


def test_the_best_meets_the_size_and_what_is_beaten_in_all_is_not_on_the_front() -> None:
    record = made_record()
    front = {(way["way"], way["teacher"]) for way in record["ways"] if way["on_front"]}

    assert record["best"] == {
        "way": "distil+prune+quantise",
        "teacher": True,
        "file": "distil+prune+quantise/1.onnx",
    }
    assert front == {("quantise", True), ("prune", True), ("distil+prune+quantise", True)}


def test_it_is_shown_with_what_was_left_out() -> None:
    text = squeezed_markdown(squeezed_of(made_record()))

    assert "| quantise (larger) | with | 4,000 | 2.5 × |" in text
    assert "left out: distil (at least 1,500 bytes)" in text
    assert "distil+prune+quantise: +0.0200" in text
    assert squeezed_markdown(squeezed_of(None)) == ""


def test_a_record_that_is_broken_is_a_sentence() -> None:
    with pytest.raises(StorageError, match=r"compress\.json"):
        squeezed_of({"ways": []})


def test_epochs_are_shared_out_and_none_goes_without() -> None:
    options = Compression()

    assert options.shares(10, stages=3) == [3, 3, 4]
    assert options.shares(1, stages=3) == [1, 1, 1]
    assert options.importance is Importance.MAGNITUDE


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"to": 10, "ratio": 2.0}, "same size twice"),
        ({"ratio": 1.0}, "above 1"),
        ({"to": 0}, "bytes above 0"),
        ({"ways": ()}, "at least one way"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_wishes_out_of_range_are_sentences(wishes, sentence) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Compression(**wishes)
