"""Groups, calibrated teachers, curricula, long tails: from the recipe to the report."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from potstill.build import build
from potstill.data import Curriculum, Pacing, Pick, Samples, ranks
from potstill.data.feed import Feed
from potstill.data.normalise import Normalise
from potstill.errors import DataError, HandshakeError, RecipeError
from potstill.losses import KD, ClassBalanced, CrossEntropy, LogitAdjusted, with_counts
from potstill.recipe import parse
from potstill.signals import Logits, Signals, Target
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.teachers.calibrated import Calibrated, best_temperature
from potstill.testing import TeacherContract, tiny_mlp

from .tiny import recipe, run, save_images

# Groups


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    sites = np.array(["north", "south", "east"])
    path = save_images(folder, group_train=sites[np.arange(240) % 3], group_test=sites[np.arange(80) % 3])  # fmt: skip  # noqa: E501
    content = recipe(path, teacher__calibrate=True, distill__curriculum={"start": 0.5})
    return folder / "run", run(content, folder / "run")


def test_the_worst_group_is_reported(grouped) -> None:
    folder, done = grouped
    groups = done.results["groups"]

    assert groups["rows"] == {"east": 26, "north": 27, "south": 27}
    with np.load(folder / "predictions.npz") as kept:
        right = kept["distilled_0"].argmax(1) == kept["labels"]
    each = {name: right[np.arange(80) % 3 == place].mean() for place, name in enumerate(("north", "south", "east"))}  # fmt: skip  # noqa: E501
    for name, value in each.items():
        assert groups["figures"]["distilled"][name]["mean"] == pytest.approx(value)
    assert groups["worst"]["distilled"]["mean"] == pytest.approx(min(each.values()))
    assert "worst group" in (folder / "report.md").read_text()


def test_a_column_may_name_the_group(tmp_path) -> None:
    lines = ["a,b,place,label", *(f"{i},{i % 7},{'xy'[i % 2]},{i % 3}" for i in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = {"source": "hf", "path": str(tmp_path / "t.csv"), "group": "place"}
    made = build(parse(recipe(tmp_path, data=data))).data

    assert made.groups == ("x", "y")
    assert made.features == ("a", "b")
    assert torch.equal(made.test.groups, made.test.inputs[:, 0].long() % 2)


def test_too_many_groups_are_taken_for_a_mistake(tmp_path) -> None:
    path = save_images(tmp_path, train=1200, group_train=np.arange(1200), group_test=np.arange(80))

    with pytest.raises(DataError, match="1200 groups, and 1000 are the most"):
        build(parse(recipe(path)))


# Calibration


def test_the_best_temperature_undoes_a_wrong_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5000, 4, generator=generator)
    labels = torch.distributions.Categorical(logits=logits).sample()

    found = best_temperature(3 * logits, labels)

    assert found == pytest.approx(3, rel=0.1)
    losses = [F.cross_entropy(3 * logits / (found * f), labels) for f in (0.97, 1, 1.03)]
    assert min(losses) == losses[1]
    assert best_temperature(torch.eye(4) * 9, torch.arange(4)) == pytest.approx(0.25, rel=0.05)


def test_the_run_calibrates_its_teacher(grouped) -> None:
    folder, done = grouped
    found = done.results["teacher_calibration"]

    assert found["temperature"] > 0
    for part in ("validation", "test"):
        assert set(found[part]) == {"ece", "nll"}
    assert found["validation"]["nll"]["after"] <= found["validation"]["nll"]["before"]
    told = done.results["models"]["teacher"]["calibration"]["ece"]["mean"]
    assert told == pytest.approx(found["test"]["ece"]["after"], abs=1e-6)
    assert "Calibration of the teacher" in (folder / "report.html").read_text()


class TestCalibrated(TeacherContract):
    @pytest.fixture
    def teacher(self):
        return Calibrated(ModuleTeacher(tiny_mlp(6, 8, 3), Classification()), 2.0)


def test_a_teacher_of_values_is_not_calibrated(tmp_path) -> None:
    from potstill.tasks import Regression

    with pytest.raises(HandshakeError, match="regression values, which cannot be calibrated"):
        Calibrated(ModuleTeacher(tiny_mlp(6, 1), Regression()), 2.0)
    content = recipe(tmp_path, teacher__calibrate=True) | {"task": "regression"}
    content["data"] = {"source": "builtin", "name": "diabetes"}
    with pytest.raises(RecipeError, match=r"`teacher\.calibrate` is for `task: classification`"):
        build(parse(content))


# Curricula


def _feed(how: Pick, *, start: float = 0.25, epochs: int = 4) -> tuple[Feed, torch.Tensor]:
    confidence = torch.rand(40, generator=torch.Generator().manual_seed(0))
    pacing = Pacing(Curriculum(how=how, start=start, until=0.5), ranks(confidence), epochs)
    samples = Samples(torch.zeros(40, 2), torch.arange(40), torch.arange(40) % 2)
    feed = Feed(samples=samples, batch_size=8, seed=3, normalise=Normalise(), pacing=pacing)
    return feed, confidence


def test_easy_samples_come_first_and_epochs_stay_as_long() -> None:
    feed, confidence = _feed(Pick.PICK)
    easiest = set(confidence.argsort(descending=True)[:10].tolist())

    for epoch, expected in ((0, 10), (1, 25), (2, 40), (3, 40)):
        seen = torch.cat([feed.batch(epoch, index).ids for index in range(5)])
        assert len(seen) == 40
        assert len(set(seen.tolist())) == expected
        if epoch == 0:
            assert set(seen.tolist()) == easiest
    first = feed.batch(0, 0).ids
    feed.batch(3, 1)
    assert torch.equal(feed.batch(0, 0).ids, first)


def test_hard_samples_may_count_less_instead() -> None:
    feed, confidence = _feed(Pick.WEIGH)
    easiest = set(confidence.argsort(descending=True)[:10].tolist())

    batch = feed.batch(0, 0)
    assert batch.weights.tolist() == pytest.approx([1.0 if i in easiest else 0.1 for i in batch.ids.tolist()])  # fmt: skip  # noqa: E501
    assert feed.batch(3, 0).weights.tolist() == [1.0] * 8


def test_the_run_ranks_what_it_teaches(grouped) -> None:
    folder, _ = grouped

    with np.load(folder / "confidence.npz") as kept:
        assert len(kept["confidence"]) == 160
        assert ((kept["confidence"] > 0.25) & (kept["confidence"] <= 1)).all()
    with pytest.raises(RecipeError, match=r"`curriculum\.start` is 0"):
        Curriculum(start=0)


# Weights of samples


def test_weighted_rows_count_as_if_they_stood_there_more_often() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(3, 4, generator=generator) for _ in range(2))
    often = torch.tensor([0, 0, 0, 1, 2])
    objective = KD() + CrossEntropy()

    def value(rows: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        target = Target(len(rows), rows % 4, weights=weights)
        return objective(
            Signals(Logits(student[rows])), Signals(Logits(teacher[rows])), target
        ).loss

    weighted = value(torch.arange(3), torch.tensor([3.0, 1.0, 1.0]))
    assert torch.allclose(weighted, value(often, None))


# Long tails


@pytest.mark.parametrize("tau", [0.0, 1.0, 0.5])
def test_logit_adjustment_is_its_formula(tau: float) -> None:
    logits, labels, counts = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 0]), (90, 9, 1)
    leaf = logits.clone().requires_grad_()
    total, count = LogitAdjusted(counts=counts, tau=tau)(
        Signals(Logits(leaf)), Signals(), Target(5, labels)
    )
    expected = 0.0
    for row, label in zip(logits.double(), labels.tolist(), strict=True):
        moved = [float(z) + tau * np.log(n / 100) for z, n in zip(row, counts, strict=True)]
        expected -= moved[label] - np.log(np.exp(moved).sum())

    assert count == 5
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(total, leaf)
    prior = tau * (torch.tensor(counts) / 100.0).log()
    assert torch.allclose(gradient, (logits + prior).softmax(-1) - F.one_hot(labels, 3), atol=1e-6)


def test_class_balanced_weights_are_those_of_the_effective_numbers() -> None:
    logits, labels, counts = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), (500, 50, 5)
    raw = [(1 - 0.99) / (1 - 0.99**n) for n in counts]
    weights = torch.tensor([3 * w / sum(raw) for w in raw])

    total, _ = ClassBalanced(counts=counts, beta=0.99)(
        Signals(Logits(logits)), Signals(), Target(4, labels)
    )
    plain = F.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(total, (plain * weights[labels]).sum())
    alike, _ = ClassBalanced(counts=counts, beta=0)(
        Signals(Logits(logits)), Signals(), Target(4, labels)
    )
    assert torch.allclose(alike, plain.sum())


def test_counts_are_those_of_what_students_learn_from(tmp_path) -> None:
    content = recipe(
        save_images(tmp_path), data__long_tail=10, data__omit=[1],
        distill__objective=[{"term": "kd"}, {"term": "logit_adjusted"}],
    )  # fmt: skip
    objective = build(parse(content)).objective

    assert objective.summands[1].term.counts == (40, 0, 9, 4)
    assert with_counts(objective, (1, 2, 3, 4)) == objective  # known ones stay
    with pytest.raises(RecipeError, match="how many samples each class has"):
        LogitAdjusted(counts=(0, 0))
    with pytest.raises(HandshakeError, match="knows the counts of 0 classes"):
        LogitAdjusted()(Signals(Logits(torch.zeros(1, 2))), Signals(), Target(1, torch.tensor([0])))
