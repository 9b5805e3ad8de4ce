"""Parts of a run that meet: they know of each other, or are refused before anything is trained."""

import numpy as np
import pytest
import torch
from torch import nn

import potstill
from potstill.build import build
from potstill.build.given import growing_source, made_student
from potstill.data import from_arrays
from potstill.errors import HandshakeError, PotstillError, RecipeError
from potstill.losses import KD, CrossEntropy, Ramp, scheduled
from potstill.losses.objective import objective_of
from potstill.pipeline import Pipeline, climbing, labelling, pipeline
from potstill.pipeline.fitting import parts_of
from potstill.pipeline.hastening import Hastening
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.planning import make_plan
from potstill.pipeline.training import CORRECTION, Assigned, train
from potstill.pipeline.workshop import Workshop
from potstill.protocols import LogitKind
from potstill.recipe import parse
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import Ensemble, ModuleTeacher
from potstill.teachers.calibrated import Calibrated
from potstill.testing import tiny_mlp
from potstill.train import MeanTeacher, Peers
from potstill.train.pace import EXACT_PACE as EXACT

MLP = {"name": "mlp", "hidden": [8]}
TREE = {"source": "sklearn", "name": "decision_tree"}
KD_ALONE = [{"term": "kd", "temperature": 1}]
FREE = {"images": 40, "chunks": 1, "steps": 4, "batch_size": 8}


def recipe(**changes: object) -> dict:
    content: dict = {
        "name": "meeting",
        "data": {"source": "builtin", "name": "digits", "limit": 120},
        "teacher": {
            "model": {"name": "mlp", "hidden": [12], "batch_norm": True},
            "train": {"epochs": 1},
        },
        "student": {"model": MLP},
        "distill": {"epochs": 1, "correct_bias": "off"},
        "seeds": 1,
        "speed": "exact",
        "export": [],
        "device": "cpu",
        "measure": {"seconds": 0.02, "energy": False},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return content


AVERAGE, PEERS = {"average": {}}, {"peers": [{"model": MLP}]}
CHAIN = {"assistants": [{"model": {"name": "mlp", "hidden": [10]}}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": AVERAGE, "distill__data_free": FREE}, "data_free.* ready before"),
        ({"teacher": PEERS, "distill__curriculum": {}}, "curriculum.* ready before"),
        ({"teacher": {**PEERS, "calibrate": True}}, "calibrate.* is for teachers that are models"),
        ({"teacher": {**PEERS, "train": {}}}, "teacher.train.* leave it out"),
        ({"teacher": AVERAGE, "store": "on"}, "store: on.* ready before"),
        (
            {"teacher": PEERS, "student__model": TREE, "distill__objective": KD_ALONE},
            "fitted in one go",
        ),
        (
            {
                "student__model": TREE,
                "distill__objective": KD_ALONE,
                "distill__curriculum": {},
            },
            "no order",
        ),
        ({"chain": CHAIN, "student__head": "teacher"}, "made of the teacher itself"),
        ({"distill__data_free": FREE}, "cross_entropy.* needs labels"),
        (
            {
                "distill__data_free": FREE,
                "distill__objective": KD_ALONE,
                "teacher__label_map": list(range(9, -1, -1)),
            },
            "no `label_map`",
        ),
        (
            {
                "teacher": {
                    "ensemble": [{"model": MLP, "train": {"epochs": 1}}] * 2,
                    "calibrate": True,
                },
                "distill__objective": [{"term": "members_kd"}],
            },
            "each of them",
        ),
        (
            {
                "data": {"source": "builtin", "name": "diabetes"},
                "task": "regression",
                "distill__objective": [{"term": "squared_error"}],
                "distill__correct_bias": "auto",
            },
            "correct_bias: auto",
        ),
        (
            {
                "data": {"source": "builtin", "name": "diabetes"},
                "task": "regression",
                "distill__objective": [{"term": "squared_error"}],
                "distill__curriculum": {},
            },
            "one class a sample",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        build(parse(recipe(**changes)))


def test_the_verbs_refuse_it_too(tmp_path) -> None:
    data = from_arrays(np.zeros((40, 4), np.float32), np.arange(40) % 2)
    with pytest.raises(RecipeError, match="ready before"):
        potstill.distill(
            lambda: nn.Linear(4, 2), MeanTeacher(), data, calibrate=True, out=tmp_path / "run"
        )
    with pytest.raises(RecipeError, match="nothing to store"):
        labelling.label_experiment(build(parse(recipe(teacher=AVERAGE))), tmp_path / "label")
    with pytest.raises(RecipeError, match="last link"):
        labelling.label_experiment(build(parse(recipe(chain=CHAIN))), tmp_path / "label")


@pytest.fixture
def ran(monkeypatch) -> list[list[str]]:
    """The stages that each run did."""
    seen: list[list[str]] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda self: (seen.append(self.ran), close(self))[0])
    return seen


def test_other_images_are_labelled_and_learnt_anew_by_links_as_well(tmp_path, ran) -> None:
    free = {
        "data__source": "builtin", "data__normalise": "none", "chain": CHAIN,
        "distill__objective": KD_ALONE, "store": "on",
    }  # fmt: skip
    Pipeline(build(parse(recipe(**free, distill__data_free=FREE))), tmp_path).run()
    more = {**FREE, "steps": 6}
    Pipeline(build(parse(recipe(**free, distill__data_free=more))), tmp_path).run()

    assert {"images", "assistant/1002", "label", "distilled/0"} <= set(ran[-1])
    assert not {"teacher/0", "scratch/0"} & set(ran[-1])


def test_each_of_a_chain_compares_layers_of_its_own_teacher(tmp_path, monkeypatch) -> None:
    taught: dict[str, Assigned] = {}
    paced = []

    def note(shop: Workshop, task: Assigned) -> dict[str, object]:
        taught[task.role] = task
        return train(shop, task)

    for module in (pipeline, climbing):
        monkeypatch.setattr(module, "train", note)
    monkeypatch.setattr(
        Hastening, "pace", lambda self, name, *_, **given: (paced.append((name, given)), EXACT)[1]
    )
    content = recipe(
        teacher__model={"name": "cnn", "width": 4, "depth": 3},
        chain={"assistants": [{"model": {"name": "mlp", "hidden": [12, 12]}}], "direct": True},
        student__model={"name": "mlp", "hidden": [8, 8]},
        distill__objective=[
            {"term": "hint", "student_layer": "auto", "teacher_layer": "auto"},
            {"term": "cross_entropy"},
        ],
    )
    Pipeline(build(parse(content)), tmp_path).run()

    assert list(taught) == ["scratch", "assistant", "direct", "distilled"]
    for role in ("assistant", "direct", "distilled"):
        wanted, teacher = taught[role].objective.needs().teacher_layers, taught[role].teacher
        assert wanted
        assert teacher is not None
        assert set(wanted) <= set(teacher.offers().layers or ())
    assert taught["direct"].objective != taught["distilled"].objective
    (student,) = [given for name, given in paced if name == "student"]
    wanted = student["objective"].needs().teacher_layers
    assert set(wanted) <= set(student["teacher"].offers().layers)


def test_a_teacher_of_other_classes_is_trained_again(tmp_path, ran) -> None:
    def run(first: list[int], second: list[int]) -> None:
        train = {"epochs": 1}
        members = [{"model": MLP, "classes": c, "train": train} for c in (first, second)]
        content = recipe(teacher={"ensemble": members, "combine": "logits"})
        Pipeline(build(parse(content)), tmp_path).run()

    run([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    run([4, 3, 2, 1, 0], [5, 6, 7, 8, 9])

    assert "teacher/0" in ran[-1]
    assert "teacher/1" not in ran[-1]


def test_a_student_that_is_fitted_again_has_lost_its_correction(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "correct", lambda _shop, _teacher: {})
    content = recipe(student__model=TREE, distill__objective=KD_ALONE)
    Pipeline(build(parse(content)), tmp_path).run()
    marker = tmp_path / "models" / "distilled" / "seed-0" / CORRECTION
    marker.write_text("{}")
    (marker.parent / "model.safetensors").unlink()
    Pipeline(build(parse(content)), tmp_path).run()

    assert not marker.exists()


def test_a_calibrated_teacher_shows_its_layers_and_is_one() -> None:
    net, batch = tiny_mlp(4, 6, 3), Batch(torch.randn(5, 4))
    each = [ModuleTeacher(net, Classification()) for _ in range(2)]
    assert Calibrated(each[0], 2.0).trace(batch) == each[0].trace(batch) != ()

    several = Calibrated(Ensemble(each), 2.0)
    assert several.offers().logits is LogitKind.LOGPROBS
    assert several.offers().members == len(several.signals(batch).members) == 0


def test_peers_begin_by_the_seed_alone_and_differ_between_seeds() -> None:
    data = from_arrays(np.zeros((40, 4), np.float32), np.arange(40) % 3)
    student = made_student(lambda: tiny_mlp(4, 6, 3), data)
    source = growing_source(Peers({"peer": lambda: nn.Linear(4, 3)}, key="p"), student, data)

    def first_weights(seed: int) -> torch.Tensor:
        torch.rand(int(torch.randint(1, 9, ())))
        teacher = source.make(seed)
        potstill.Distiller(student.make(seed), teacher, objective=KD() + CrossEntropy()).prepare(
            Batch(torch.randn(8, 4), torch.arange(8) % 3)
        )
        return next(iter(next(iter(teacher.modules.values())).parameters())).detach().cpu()

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_classes_weigh_in_terms_that_move_and_in_an_assistants_own() -> None:
    smoothing = {"from": 0.1, "to": 0.0}
    own = {"epochs": 1, "objective": [{"term": "kd"}, {"term": "cross_entropy"}]}
    experiment = build(
        parse(
            recipe(
                class_weights="balanced",
                distill__objective=[
                    {"term": "kd"},
                    {"term": "cross_entropy", "label_smoothing": smoothing},
                ],
                chain={"assistants": [{"model": MLP, "distill": own}]},
            )
        )
    )

    assert experiment.chain is not None
    moved = experiment.objective.summands[1].term.during(0.5)
    (link,) = experiment.chain.links
    for term in (moved, link.objective.summands[1].term):
        assert isinstance(term, CrossEntropy)
        assert term.class_weights is not None
        assert len(term.class_weights) == 10


def test_a_fitted_student_takes_no_option_that_moves_nor_weights_nor_whole_batches() -> None:
    moving = scheduled(KD(temperature=4), temperature=Ramp(4, 1))
    for term in (moving, CrossEntropy(class_weights=(1.0, 2.0)), potstill.losses.DIST()):
        with pytest.raises(HandshakeError):
            parts_of(objective_of(term))


def test_a_plan_counts_what_students_will_learn_on() -> None:
    free = {**FREE, "images": 400}
    content = recipe(distill__data_free=free, distill__objective=KD_ALONE, distill__batch_size=20)
    plan = make_plan(build(parse(content)))
    steps = {each.role: each.steps for each in plan.trainings}

    assert steps["distilled"] == 20
    assert abs(steps["scratch"] - 20) <= 5


def test_a_chain_with_a_tree_in_it_is_planned() -> None:
    chain = {"assistants": [{"model": TREE}]}
    plan = make_plan(build(parse(recipe(chain=chain, distill__objective=KD_ALONE))))
    assert [model.role for model in plan.models] == ["teacher", "student", "assistant"]

    fitted = recipe(chain=CHAIN, distill__objective=KD_ALONE, student__model=TREE)
    roles = [each.role for each in make_plan(build(parse(fitted))).trainings]
    assert roles == ["teacher", "assistant"]
