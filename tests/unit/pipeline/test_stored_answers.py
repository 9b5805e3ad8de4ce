"""Runs with a store: the same students as without one, decided once, said, and mended."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from potstill.build import build
from potstill.data import Augment
from potstill.errors import HandshakeError, RecipeError, StoreError
from potstill.pipeline import Pipeline, labelling
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.planning import make_plan
from potstill.protocols import LogitKind
from potstill.recipe import parse
from potstill.store import Store
from potstill.teachers import StoredTeacher

CNN = {
    "name": "quick",
    "data": {"source": "builtin", "name": "digits", "limit": 320},
    "teacher": {"model": {"name": "cnn"}, "train": {"epochs": 1}},
    "student": {"model": {"name": "mlp", "hidden": [8]}},
    "distill": {"epochs": 2, "batch_size": 32},
    "seeds": 2,
    "export": [],
    "speed": "exact",
    "measure": {"seconds": 0.05, "energy": False},
}
FLIP = [{"op": "jitter", "pixels": 1}]


class Notes:
    """A `Progress` that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[tuple[str, int]] = []

    def begin(self, title, total_steps, done_steps) -> None:
        self.begun.append((title, total_steps))

    def advance(self, steps_done) -> None:
        """Nothing."""

    def note(self, text) -> None:
        self.notes.append(text)

    def end(self) -> None:
        """Nothing."""


def run(folder: Path, monkeypatch, **changes) -> tuple[list[str], Notes]:
    """The stages that ran, and what was said."""
    seen: list[Ledger] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (seen.append(self), close(self))[0])
    notes = Notes()
    Pipeline(build(parse({**CNN, **changes})), folder, progress=notes).run()
    monkeypatch.undo()
    return seen[-1].ran, notes


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{seed} {name}": value
        for seed in (0, 1)
        for name, value in load_file(
            folder / "models" / "distilled" / f"seed-{seed}" / "last.safetensors"
        ).items()
    }


def same(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a store, and the same one without."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        said = run(folder / "stored", patch)
        run(folder / "live", patch, store="off")
    return folder, said


def test_a_run_with_a_store_gives_the_same_students_bit_for_bit(finished) -> None:
    folder, (ran, notes) = finished

    assert same(folder / "stored", folder / "live")
    assert "label" in ran
    assert ran.index("teacher/0") < ran.index("label") < ran.index("scratch/0")
    assert ("label", 9) in notes.begun
    assert (folder / "stored" / "store" / "manifest.json").is_file()
    assert not (folder / "live" / "store").exists()


def test_the_decision_and_its_reason_are_said_and_kept(finished) -> None:
    folder, (_, notes) = finished
    sentence = "the teacher is asked about each sample once instead of 4 times."

    kept = json.loads((folder / "stored" / "store.json").read_text())
    results = json.loads((folder / "stored" / "results.json").read_text())
    off = json.loads((folder / "live" / "results.json").read_text())

    assert f"store: yes, {sentence}" in notes.notes
    assert (kept["format"], kept["used"], kept["reason"]) == (1, True, sentence)
    assert results["store"]["records"] == len(Store(folder / "stored" / "store")) == 288
    assert results["store"]["bytes"] == 288 * 40
    assert (off["store"]["used"], off["store"]["reason"]) == (
        False,
        "the recipe says `store: off`.",
    )


def test_nothing_is_done_twice_and_more_seeds_ask_the_teacher_nothing(
    finished, tmp_path, monkeypatch
) -> None:
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")

    assert run(folder, monkeypatch)[0] == []
    ran, _ = run(folder, monkeypatch, seeds=3)

    assert [stage for stage in ran if stage in {"label", "distilled/0", "distilled/1"}] == []
    assert "distilled/2" in ran


@pytest.mark.parametrize("lost", ["everything", "a shard", "the manifest"])
def test_a_store_that_was_deleted_is_written_anew(finished, lost, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")
    match lost:
        case "everything":
            shutil.rmtree(folder / "store")
        case "a shard":
            (folder / "store" / "000000.shard").unlink()
        case "the manifest":
            (folder / "store" / "manifest.json").unlink()
    shutil.rmtree(folder / "models" / "distilled" / "seed-1")

    ran, _ = run(folder, monkeypatch)

    assert {"label", "distilled/1"} <= set(ran)
    assert same(folder, finished[0] / "live")


def test_another_teacher_writes_the_runs_own_store_anew(finished, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")
    longer = {**CNN["teacher"], "train": {"epochs": 2}}
    before = Store(folder / "store").manifest.key.teacher

    ran, _ = run(folder, monkeypatch, teacher=longer)

    assert "label" in ran
    assert Store(folder / "store").manifest.key.teacher != before


def test_a_store_of_ones_own_is_shared_and_never_deleted(finished, tmp_path, monkeypatch) -> None:
    store = {"path": str(tmp_path / "shared")}
    first = shutil.copytree(finished[0] / "stored", tmp_path / "first")
    second = shutil.copytree(finished[0] / "stored", tmp_path / "second")

    run(first, monkeypatch, store=store)
    stamp = (tmp_path / "shared" / "000000.shard").stat().st_mtime_ns
    run(second, monkeypatch, store=store)

    assert same(second, finished[0] / "live")
    assert (tmp_path / "shared" / "000000.shard").stat().st_mtime_ns == stamp
    longer = {**CNN["teacher"], "train": {"epochs": 2}}
    with pytest.raises(StoreError, match="its teacher has other weights"):
        run(second, monkeypatch, store=store, teacher=longer)
    assert len(Store(tmp_path / "shared")) == 288


def test_views_are_rotated_through_and_shared_by_the_seeds(finished, tmp_path, monkeypatch) -> None:
    distill = {**CNN["distill"], "epochs": 4, "augment": FLIP}
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")

    ran, notes = run(folder, monkeypatch, distill=distill, store={"views": 2})

    store = Store(folder / "store")
    assert store.table.views == (1, 2)
    assert len(store) == 2 * 288
    assert "label" in ran
    assert "store: yes, the teacher is asked about each sample 2 times instead of 8 times." in (
        notes.notes
    )
    live = shutil.copytree(finished[0] / "live", tmp_path / "live")
    run(live, monkeypatch, distill=distill, store="off")
    assert not same(folder, live), "fresh views are others"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # each row: what the recipe says, and what is said of it
        ({"distill": {"epochs": 9, "mix": {"kind": "mixup"}}}, "mixing makes new samples"),
        (
            {"distill": {"epochs": 9, "augment": FLIP}},
            r"a fresh view each epoch; give `store\.view",
        ),
        ({"distill": {"epochs": 1}, "seeds": 1}, "1 passes over the samples do not pay for 1 of"),
        (
            {"distill": {"epochs": 9, "objective": [{"term": "cross_entropy"}]}},
            "asks the teacher n",
        ),
        ({"store": "off"}, "the recipe says"),
    ],
)
def test_a_store_that_does_not_pay_is_not_written(changes, reason) -> None:
    plan = make_plan(build(parse({**CNN, **changes})))

    assert not plan.store.used
    assert plan.store.reason.startswith(reason) or __import__("re").search(
        reason, plan.store.reason
    )


def test_a_store_larger_than_its_share_of_the_disk_is_not_written(monkeypatch) -> None:
    from potstill.pipeline import storing

    monkeypatch.setattr(storing, "_free_bytes", lambda _folder: 5 * 288 * 40 - 1)
    plan = make_plan(build(parse(CNN)))

    assert not plan.store.used
    assert "20% of the free disk is 0.0 MB" in plan.store.reason

    monkeypatch.setattr(storing, "_free_bytes", lambda _folder: 5 * 288 * 40)
    assert make_plan(build(parse(CNN))).store.used


@pytest.mark.parametrize(
    "distill",
    [{"epochs": 9, "mix": {"kind": "mixup"}}, {"epochs": 9, "augment": FLIP}],
)
def test_a_store_that_is_asked_for_and_cannot_serve_is_refused(distill, tmp_path) -> None:
    recipe = parse({**CNN, "distill": distill, "store": "on"})

    with pytest.raises(RecipeError, match="`store` is asked for, and"):
        make_plan(build(recipe))


def test_views_without_augmentation_are_refused() -> None:
    with pytest.raises(RecipeError, match="nothing is augmented"):
        make_plan(build(parse({**CNN, "store": {"views": 3}})))


def test_the_plan_says_what_labelling_and_students_take() -> None:
    plan = make_plan(build(parse(CNN)))

    by_role = {t.role: t for t in plan.trainings}
    assert plan.store.used
    assert plan.store.bytes == 288 * 40
    assert by_role["label"].steps == 9
    assert by_role["distilled"].step_ms <= by_role["scratch"].step_ms * 1.001
    assert plan.seconds == pytest.approx(sum(t.seconds for t in plan.trainings))


def test_a_sparse_codec_is_a_recipe_away(finished, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")

    run(folder, monkeypatch, store={"use": "auto", "codec": {"codec": "topk", "k": 4}})

    offered = StoredTeacher(folder / "store").offers()
    assert (offered.logits, offered.num_classes) == (LogitKind.SPARSE, 10)
    codec = Store(folder / "store").signal("logits").codec
    assert codec.options()["temperature"] == 4, "as the objective's"
    assert not same(folder, finished[0] / "live")


def test_what_cannot_be_learnt_from_the_store_is_said_before_labelling(
    finished, tmp_path, monkeypatch
) -> None:
    folder = shutil.copytree(finished[0] / "stored", tmp_path / "run")
    asked: list[int] = []
    whole = labelling.label

    def counting(*arguments, **options):
        done = whole(*arguments, **options)
        asked.append(done.asked)
        return done

    monkeypatch.setattr(labelling, "label", counting)
    codec = {"codec": "topk", "k": 4, "temperature": 2}
    with pytest.raises(HandshakeError, match="temperature 4"):
        Pipeline(build(parse({**CNN, "store": {"codec": codec}})), folder).run()

    assert asked == [32], "one batch"


def test_words_for_the_store_are_the_same_in_yaml_and_python() -> None:
    forms = {
        "auto": parse({**CNN, "store": "auto"}),
        "off": parse({**CNN, "store": False}),  # as YAML 1.1 reads `off`
        "on": parse({**CNN, "store": {"path": "s3://bucket/store"}}),
    }

    assert {word: recipe.store.use for word, recipe in forms.items()} == {w: w for w in forms}
    for recipe in forms.values():
        assert parse(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(RecipeError, match=r"`store\.pth` is not a key; did you mean `path`"):
        parse({**CNN, "store": {"pth": "x"}})
    with pytest.raises(RecipeError, match="sometimes"):
        parse({**CNN, "store": "sometimes"})
    assert Augment.parse(FLIP).ops
