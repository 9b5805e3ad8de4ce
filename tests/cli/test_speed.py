"""`speed` at the command line: the choice is printed, kept and can be switched off."""

import json

import yaml

from potstill.recipe import load
from potstill.runtime.fast import choosing

from .shared import call, write_recipe


def test_auto_is_the_default_and_says_what_it_chose(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(choosing, "FEWEST_STEPS", 5)
    recipe = write_recipe(tmp_path, store="off")

    assert call(monkeypatch, "run", recipe, "--out", tmp_path / "run") == 0

    printed = capsys.readouterr().out
    for line in ("speed: training teacher 0: ", "speed: student: ", "speed: teacher: "):
        assert line in printed
    kept = json.loads((tmp_path / "run" / "speed.json").read_text())["chosen"]
    tried = [trial for each in kept for c in each["choices"] for trial in c["trials"]]
    assert {t["state"] for t in tried} >= {"chosen"}
    assert [t for t in tried if t["name"] == "exact" and t["step_seconds"]]


def test_what_was_measured_is_remembered_in_the_users_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(choosing, "FEWEST_STEPS", 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = write_recipe(tmp_path, store="off")

    assert call(monkeypatch, "run", recipe, "--out", tmp_path / "run") == 0

    remembered = json.loads((tmp_path / "cache" / "potstill" / "speed.json").read_text())
    assert remembered["choices"]


def test_exact_measures_nothing(monkeypatch, tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path)

    assert call(monkeypatch, "run", recipe, "speed=exact", "--out", tmp_path / "run") == 0

    assert "speed:" not in capsys.readouterr().out
    assert not (tmp_path / "run" / "speed.json").exists()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["speed"] == []
    kept = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert kept["speed"] == "exact"


def test_bounds_are_values_of_the_recipe(tmp_path) -> None:
    recipe = load(str(write_recipe(tmp_path)), ["bounds.agreement=0.9"])

    assert recipe.bounds.agreement == 0.9


def test_a_word_that_is_no_speed_is_refused(monkeypatch, tmp_path, capsys) -> None:
    assert call(monkeypatch, "run", write_recipe(tmp_path), "speed=fast") == 1

    assert "'auto' or 'exact'" in capsys.readouterr().err
