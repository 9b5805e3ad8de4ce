"""What contrastive terms remember is in the checkpoint, and nowhere in the student."""

import pytest
import torch

from potstill.losses import CRD, KD, SRD, QueueSimilarity
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.testing import TinyClasses, tiny_mlp
from potstill.train import Distiller, TrainSettings


class Killed(Exception):
    """The power is gone."""


class Fuse:
    """A `Progress` that ends everything after some steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def begin(self, title, total_steps, done_steps) -> None:
        """Nothing."""

    def advance(self, steps_done) -> None:
        if steps_done == self._steps:
            raise Killed

    def note(self, text) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def _distiller() -> Distiller:
    objective = 0.5 * CRD(queue=24, dim=5) + QueueSimilarity(queue=40) + 0.1 * SRD() + KD()
    return Distiller(
        tiny_mlp(6, 8, 3, dropout=0.2, norm=True),
        ModuleTeacher(tiny_mlp(6, 12, 3, seed=4), Classification()),
        objective=objective,
        settings=TrainSettings(epochs=4, checkpoint_seconds=0.0, lr=1e-2),
    )


def test_a_killed_training_goes_on_with_what_it_remembered(tmp_path) -> None:
    data, whole = TinyClasses(), _distiller()
    expected = whole.fit(data, seed=1)
    with pytest.raises(Killed):
        _distiller().fit(data, seed=1, folder=tmp_path, progress=Fuse(7))

    resumed = _distiller()
    found = resumed.fit(data, seed=1, folder=tmp_path)

    for one, other in ((found.student, expected.student), (resumed.module, whole.module)):
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, value in other.state_dict().items():
            assert torch.equal(one.state_dict()[name], value), name
    kept = {name for name in resumed.module.state_dict() if "memor" in name}
    assert len(kept) == 3 * 3  # two queues and one, of three buffers each
    plain = tiny_mlp(6, 8, 3, dropout=0.2, norm=True)
    assert list(found.student.state_dict()) == list(plain.state_dict())


def test_auto_and_the_names_it_chose_train_the_same_student() -> None:
    data, chosen = TinyClasses(), _distiller()
    expected = chosen.fit(data, seed=1)
    named = Distiller(
        tiny_mlp(6, 8, 3, dropout=0.2, norm=True),
        ModuleTeacher(tiny_mlp(6, 12, 3, seed=4), Classification()),
        objective=eval(  # as `results.json` keeps it
            repr(chosen.objective),
            {"CRD": CRD, "QueueSimilarity": QueueSimilarity, "SRD": SRD, "KD": KD},
        ),
        settings=chosen.settings,
    )

    found = named.fit(data, seed=1)

    assert "auto" not in repr(named.objective)
    for name, value in expected.student.state_dict().items():
        assert torch.equal(found.student.state_dict()[name], value), name
