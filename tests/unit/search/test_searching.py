"""A whole search on a tiny table: the teacher once, trials, the front, and the recipe that runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from potstill import api
from potstill.errors import RecipeError, StorageError
from potstill.pipeline.search_settings import Settings
from potstill.recipe import load
from potstill.report.searching import write_search_report

from ...cli.shared import arrays, write_recipe

EAGER = Settings(trials=4, runtime="torch")
QUICK = {"seeds": 1, "distill": {"epochs": 3, "batch_size": 32, "lr": 0.01}}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search by parameters, and what it found."""
    folder = tmp_path_factory.mktemp("search")
    recipe = write_recipe(folder, **QUICK)
    found = api.search_recipe(
        str(recipe), targets={"parameters": 400}, settings=EAGER, out=folder / "found"
    )
    return folder, found


def test_the_front_keeps_the_limit_and_the_trials_never_ask_the_teacher(searched) -> None:
    _, found = searched

    content = json.loads((found.folder / "search.json").read_text())
    trained = [t for t in found.trials if t.state in ("done", "pruned")]
    assert len(trained) == 4
    assert all(t.figures["parameters"] <= 400 for t in found.front)
    assert found.recommended.trial in found.front
    assert found.recommended.trial.score == max(t.score for t in found.front)
    assert content["teacher"]["labelled"] == 108, "every training sample, once"
    assert content["teacher"]["asked_by_trials"] == 0
    # each epoch reads every sample's answer; the dry run and the rehearsal read some more
    assert all(t.stored_answers >= 3 * 108 for t in trained if t.state == "done")
    assert content["counts"]["done"] == len([t for t in found.trials if t.state == "done"])


def test_the_recipes_own_student_is_among_them_to_compare_with(searched) -> None:
    _, found = searched

    assert found.own is not None
    assert found.own.number == 0
    assert found.own.values == {"family": "recipe", "terms": "recipe", "lr": 0.01}
    assert "mlp (hidden=[4])" in found.own.description


def test_refused_shapes_are_not_trained(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, **QUICK)
    found = api.search_recipe(
        str(recipe),
        targets={"parameters": 120},
        settings=Settings(trials=6, runtime="torch"),
        families=["mlp"],
        out=tmp_path / "found",
    )

    refused = [t for t in found.trials if t.state == "refused"]
    assert refused, "widths go up to 512"
    for trial in refused:
        assert trial.score is None
        assert trial.stored_answers == 0
        assert trial.reason.startswith("parameters")


def test_what_is_recommended_runs_and_finds_the_teacher_there(searched, monkeypatch) -> None:
    folder, found = searched
    recipe = load(str(found.recipe), ["export=[]"])

    assert recipe.name == "found"
    run = api.run(recipe, out=folder / "found")

    stages = json.loads((folder / "found" / "stages.json").read_text())["stages"]
    teacher = (folder / "found" / "models" / "teacher" / "seed-0" / "model.safetensors").stat()
    assert teacher.st_mtime < (folder / "found" / "search" / "search.json").stat().st_mtime
    assert "label" in stages
    assert run.models["distilled"]["parameters"] == found.recommended.trial.figures["parameters"]


def test_the_same_search_again_trains_nothing_and_more_trials_go_on(searched, monkeypatch) -> None:
    folder, before = searched
    recipe, targets = str(folder / "quick.yaml"), {"parameters": 400}

    again = api.search_recipe(recipe, targets=targets, settings=EAGER, out=folder / "found")
    assert [t.values for t in again.trials] == [t.values for t in before.trials]

    more = Settings(trials=5, runtime="torch")
    longer = api.search_recipe(recipe, targets=targets, settings=more, out=folder / "found")
    assert sum(t.state in ("done", "pruned") for t in longer.trials) == 5

    with pytest.raises(StorageError, match="is of another search"):
        api.search_recipe(recipe, targets={"parameters": 500}, settings=EAGER, out=folder / "found")


def test_a_target_no_student_meets_is_said_before_training_with_the_nearest(tmp_path) -> None:
    recipe = write_recipe(tmp_path, **QUICK)

    with pytest.raises(RecipeError) as refusal:
        api.search_recipe(
            str(recipe),
            targets={"parameters": 10},
            settings=EAGER,
            families=["mlp"],
            out=tmp_path / "none",
        )

    said = str(refusal.value)
    # the recipe's own: 5 inputs, 4 hidden, 3 outputs: 5*4+4 + 4*3+3 = 39; width 8 has more
    assert "No student of recipe, mlp meets the target (parameters ≤ 10)" in said
    assert "nearest is mlp (hidden=[4]), 5 inputs, 3 outputs, with parameters 39 > 10" in said
    assert not (tmp_path / "none" / "models").exists(), "no teacher was trained"


def test_test_data_are_not_read(tmp_path: Path) -> None:
    scores = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        content = arrays()
        if number:
            content["x_test"] = np.random.default_rng(5).normal(size=content["x_test"].shape) * 9
            content["y_test"] = (content["y_test"] + 1) % 3
        recipe = write_recipe(folder, content=content, **QUICK)
        settings = Settings(trials=2, runtime="torch")
        found = api.search_recipe(str(recipe), settings=settings, out=folder / "found")
        scores.append([(dict(t.values), t.curve) for t in found.trials])

    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "tagging"}, "this recipe's task is tagging"),
        ({"chain": {"generations": 2}}, "`chain` has no place in it"),
        (
            {"student": {"model": {"source": "sklearn", "name": "decision_tree"}}},
            "a student that is fitted",
        ),
    ],
)
def test_what_no_search_can_go_through_is_refused_in_a_sentence(tmp_path, changes, said) -> None:
    recipe = write_recipe(tmp_path, **{**QUICK, **changes})

    with pytest.raises(RecipeError, match=said):
        api.search_recipe(str(recipe), settings=EAGER, out=tmp_path / "none")


def test_an_unknown_family_is_refused_with_the_nearest(tmp_path) -> None:
    recipe = write_recipe(tmp_path, **QUICK)

    with pytest.raises(
        RecipeError, match="no family `mpl` for samples of kind table; did you mean"
    ):
        api.search_recipe(str(recipe), families=["mpl"], settings=EAGER, out=tmp_path / "none")


def test_the_page_has_the_front_with_recipes_and_needs_no_network(searched) -> None:
    _, found = searched

    page = write_search_report(found.folder).read_text()

    figures = json.loads(page.partition('id="figures">')[2].partition("</script>")[0])
    points = [t for t in figures["front"]["data"] if t.get("mode") == "markers"]
    hovers = [text for trace in points for text in trace["text"]]
    assert any("student:" in text and "objective" in text for text in hovers)
    content = json.loads((found.folder / "search.json").read_text())
    assert f"Recommended is trial {content['recommended']['trial']}" in page
    assert "https://" not in page.partition('id="plotly"')[0].replace("http://www.w3.org", "")
    assert yaml.safe_load(found.recipe.read_text())["name"] == "found"
