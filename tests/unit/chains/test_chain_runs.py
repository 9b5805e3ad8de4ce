"""Whole runs: chains, generations, peers, averages, unions by class, early exits."""

import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn

import potstill
from potstill.build import build
from potstill.errors import HandshakeError, PotstillError, RecipeError
from potstill.pipeline import Pipeline
from potstill.pipeline.ledger import Ledger
from potstill.recipe import load, parse
from potstill.testing import tiny_mlp
from potstill.train import MeanTeacher, Peers, TrainSettings

QUICK = {
    "name": "quick",
    "data": {"source": "builtin", "name": "digits", "limit": 200},
    "teacher": {"model": {"name": "mlp", "hidden": [32]}, "train": {"epochs": 2}},
    "student": {"model": {"name": "mlp", "hidden": [8]}},
    "distill": {"epochs": 2, "checkpoint_seconds": 0},
    "seeds": 2,
    "speed": "exact",
    "export": [],
    "measure": {"seconds": 0.02, "energy": False},
}
ASSISTANT = {
    **QUICK,
    "chain": {
        "assistants": [
            {
                "model": {"name": "mlp", "hidden": [16]},
                "distill": {"epochs": 3, "checkpoint_seconds": 0},
            }
        ],
        "direct": True,
        "together": True,
    },
}
_SPAWN = multiprocessing.get_context("forkserver")


class Slow:
    """A `Progress` whose steps last long enough to be killed in."""

    def begin(self, title, total_steps, done_steps) -> None:
        """Nothing."""

    def advance(self, steps_done) -> None:
        time.sleep(0.1)

    def note(self, text) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def run_slowly(folder: Path) -> None:
    Pipeline(build(parse(ASSISTANT)), folder, progress=Slow()).run()


def run(recipe: dict, folder: Path) -> dict:
    Pipeline(build(parse(recipe)), folder).run()
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def chained(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "chain"
    return folder, run(ASSISTANT, folder)


def test_every_link_is_a_stage_and_a_line_of_results_and_report(chained) -> None:
    folder, results = chained
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    assert {"assistant/1002", "direct/0", "direct/1", "distilled/0", "distilled/1"} <= set(stages)
    assert [(link["role"], link["taught_by"]) for link in results["chain"]] == [
        ("teacher", ""),
        ("assistant", "teacher"),
        ("distilled", "assistant"),
        ("direct", "teacher"),
    ]
    models = results["models"]
    assert models["teacher"]["parameters"] > models["assistant"]["parameters"]
    assert models["assistant"]["parameters"] > models["distilled"]["parameters"]
    assert len(models["direct"]["test"]["accuracy"]["values"]) == 2
    assert len(models["generations"]["test"]["accuracy"]["values"]) == 2
    page = (folder / "report.md").read_text()
    assert "| Assistant | Teacher |" in page
    assert "| Distilled | Assistant |" in page
    assert "Who taught whom" in (folder / "report.html").read_text()


def test_a_finished_chain_is_not_repeated_and_a_changed_link_changes_what_follows(
    chained, monkeypatch
) -> None:
    folder, _ = chained
    seen: list[Ledger] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (seen.append(self), close(self))[0])

    Pipeline(build(parse(ASSISTANT)), folder).run()
    assert seen[-1].ran == []

    link = {"model": {"name": "mlp", "hidden": [16]}, "distill": {"epochs": 1}}
    shorter = {**ASSISTANT, "chain": {**ASSISTANT["chain"], "assistants": [link]}}
    Pipeline(build(parse(shorter)), folder).run()
    ran = seen[-1].ran
    assert ran[0] == "assistant/1002"
    assert {"distilled/0", "distilled/1", "measure"} <= set(ran)
    assert not {"teacher/0", "scratch/0", "direct/0"} & set(ran)
    Pipeline(build(parse(ASSISTANT)), folder).run()


def test_a_chain_that_was_killed_in_its_assistant_ends_with_the_same_weights(
    chained, tmp_path
) -> None:
    reference, _ = chained
    folder = tmp_path / "killed"
    process = _SPAWN.Process(target=run_slowly, args=(folder,))
    process.start()
    while process.is_alive() and not (folder / "checkpoints" / "assistant-1002.pt").exists():
        time.sleep(0.005)
    assert process.is_alive(), "it must not be over before it is killed"
    process.kill()
    process.join()

    Pipeline(build(parse(ASSISTANT)), folder).run()

    for role in ("assistant/seed-1002", "distilled/seed-0", "distilled/seed-1", "direct/seed-1"):
        found, expected = (
            load_file(at / "models" / role / "model.safetensors") for at in (folder, reference)
        )
        for name, value in expected.items():
            assert found[name].equal(value), f"{role} {name}"


def test_generations_are_taught_one_by_the_other(tmp_path) -> None:
    results = run({**QUICK, "chain": {"generations": 3, "together": True}}, tmp_path / "born")
    assert [link["role"] for link in results["chain"]] == [
        "teacher", "generation-1", "generation-2", "distilled",
    ]  # fmt: skip
    models = results["models"]
    assert models["generations"]["parameters"] == 3 * models["distilled"]["parameters"]


def test_peers_and_averages_are_measured_as_the_teacher_they_have_become(tmp_path) -> None:
    peer = {"model": {"name": "mlp", "hidden": [12]}}
    mutual = run({**QUICK, "teacher": {"peers": [peer]}}, tmp_path / "mutual")
    assert len(mutual["models"]["peer-1"]["test"]["accuracy"]["values"]) == 2
    values = mutual["models"]["peer-1"]["test"]["accuracy"]["values"]
    assert mutual["models"]["teacher"]["test"]["accuracy"]["mean"] == values[0]

    own = run({**QUICK, "teacher": {"average": {"decay": 0.9}}}, tmp_path / "own")
    assert own["models"]["teacher"]["parameters"] == own["models"]["distilled"]["parameters"]
    assert (tmp_path / "own" / "models" / "teacher" / "seed-1" / "model.safetensors").is_file()


def test_teachers_of_different_classes_are_trained_on_theirs_and_merged(tmp_path) -> None:
    member = {"model": {"name": "mlp", "hidden": [32]}, "train": {"epochs": 12, "lr": 5e-3}}
    left, right = {**member, "classes": [4, 3, 2, 1, 0]}, {**member, "classes": [5, 6, 7, 8, 9]}
    recipe = {
        **QUICK,
        "data": {"source": "builtin", "name": "digits"},
        "teacher": {"ensemble": [left, right], "combine": "logits"},
        "distill": {
            "objective": [{"term": "members_kd"}, {"term": "cross_entropy", "weight": 0.3}],
            "epochs": 2,
        },
    }
    folder = tmp_path / "two"
    results = run(recipe, folder)
    assert results["store"]["used"] is False
    config = json.loads((folder / "models" / "teacher" / "seed-0" / "config.json").read_text())
    assert config["num_outputs"] == 5
    assert results["models"]["teacher"]["test"]["accuracy"]["mean"] > 0.5
    assert results["warnings"] == []


def test_samples_name_their_teacher_by_a_file_or_a_column(tmp_path) -> None:
    member = QUICK["teacher"]
    path = tmp_path / "route.npy"
    np.save(path, np.arange(1797) % 2)
    recipe = {**QUICK, "teacher": {"ensemble": [member, member], "route": {"path": str(path)}}}
    results = run(recipe, tmp_path / "run")
    assert "each sample names its own" in results["models"]["teacher"]["description"]

    np.save(path, np.arange(1797) % 3)
    with pytest.raises(PotstillError, match="from 0 to 1"):
        build(parse(recipe))
    table = {
        **recipe,
        "data": {"source": "builtin", "name": "breast_cancer"},
        "teacher": {
            "ensemble": [member, member],
            "route": {"feature": "mean radius", "values": [10, 20]},
        },
    }
    assert build(parse(table)).teacher.route.reads_raw
    table["teacher"]["route"]["feature"] = "mean radios"
    with pytest.raises(RecipeError, match="mean radios"):
        build(parse(table))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chain": {"direct": True}}, "neither was"),
        ({"chain": {"generations": 2, "assistants": [{"model": {}}]}}, "both were"),
        ({"teacher": {}}, "none of them"),
        ({"teacher": {"average": {}}, "chain": {"generations": 2}}, "grows with"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_sentence(change, said) -> None:
    with pytest.raises(RecipeError, match=said):
        parse({**QUICK, **change})


def test_from_python_an_assistant_an_average_and_peers(tmp_path) -> None:
    rows, labels = load_digits(return_X_y=True)
    data = (rows[:200].astype("float32"), labels[:200])
    common = {"seeds": 1, "speed": "exact", "settings": TrainSettings(epochs=1)}

    def student() -> nn.Module:
        return tiny_mlp(64, 8, 10)

    potstill.distill(
        student, tiny_mlp(64, 32, 10), data, assistants=[lambda: tiny_mlp(64, 16, 10)],
        out=tmp_path / "chain", **common,
    )  # fmt: skip
    stages = json.loads((tmp_path / "chain" / "stages.json").read_text())["stages"]
    assert any(name.startswith("assistant/") for name in stages)

    potstill.distill(student, MeanTeacher(), data, out=tmp_path / "own", **common)
    peers = Peers({"other": lambda: tiny_mlp(64, 12, 10)}, key="other")
    potstill.distill(student, peers, data, out=tmp_path / "mutual", **common)
    models = json.loads((tmp_path / "mutual" / "results.json").read_text())["models"]
    assert models["other"]["parameters"] == models["teacher"]["parameters"]


def test_a_link_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path) -> None:
    hint = {"objective": [{"term": "hint", "student_layer": "nowhere", "teacher_layer": "fc"}]}
    link = {"model": {"name": "mlp", "hidden": [16]}, "distill": hint}
    recipe = {**QUICK, "chain": {"assistants": [link]}}
    with pytest.raises(HandshakeError, match="nowhere"):
        run(recipe, tmp_path / "run")
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())["stages"]
    assert not any(name.startswith(("assistant", "scratch")) for name in stages)


DIGITS = "data={source: builtin, name: digits, limit: 200}"


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("teacher-assistant", ["chain.assistants.0.distill.epochs=1"]),
        ("born-again", []),
        ("mutual", []),
        ("two-teachers", [f"teacher.ensemble.{n}.train.epochs=1" for n in (0, 1)]),
        ("early-exits", []),
        ("own-teacher", []),
    ],
)
def test_shipped_recipes_run(name, overrides, tmp_path) -> None:
    small = ["seeds=1", "distill.epochs=1", "speed=exact", "export=[]", "measure.energy=false"]
    if load(name).teacher.model is not None:
        small.append("teacher.train.epochs=1")
    recipe = load(name, [DIGITS, *small, *overrides, "measure.seconds=0.02"])
    Pipeline(build(recipe), tmp_path / name).run()
    results = json.loads((tmp_path / name / "results.json").read_text())
    assert results["models"]["distilled"]["test"]["accuracy"]["values"]
    if name == "early-exits":
        assert results["exits"]["layers"] == ["layer1", "layer2", "last"]
        assert "first sure one" in (tmp_path / name / "report.md").read_text()
