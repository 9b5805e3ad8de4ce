"""Fast teachers: what they promise, what they keep from the exact one, how they are chosen."""

from dataclasses import replace

import torch
from torch import nn

from potstill.protocols import LogitKind
from potstill.runtime.fast import EXACT, Choice, State, Trial, choosing
from potstill.runtime.fast.quiet import quietly
from potstill.signals import Batch
from potstill.tasks import Classification
from potstill.teachers import Ensemble, FunctionTeacher, ModuleTeacher, OnnxTeacher, Relabelled
from potstill.teachers.fast import FastTeacher, Request, exact_of, hasten, rebuild

TASK = Classification()


def _net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)
        )


def _batches(number: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(16, 3, 8, 8, generator=generator) for _ in range(number)]
    return [Batch(inputs=x, labels=torch.arange(16) % 4) for x in inputs]


def _request(**changes) -> Request:
    return replace(Request(task=TASK, batches=_batches(), steps=1000), **changes)


def _picked(name: str, role: str = "teacher") -> Choice:
    trials = (Trial(name=name, state=State.CHOSEN),)
    return Choice(role=role, key="", answers="", steps=1, trials=trials)


def _fast(name: str, teacher=None, **changes) -> FastTeacher:
    made = rebuild(teacher or ModuleTeacher(_net(), TASK), _request(**changes), [_picked(name)])
    assert isinstance(made, FastTeacher)
    return made


def _values(teacher, batch, **options) -> torch.Tensor:
    return teacher.signals(batch, **options).logits.values_NC


def test_a_fast_teacher_answers_closely_and_has_a_fingerprint_of_its_own() -> None:
    exact, batch = ModuleTeacher(_net(), TASK), _batches()[0]
    fast = _fast("bf16 folded", exact)

    answer = _values(fast, batch)

    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, _values(exact, batch), atol=0.05, rtol=0.05)
    assert fast.fingerprint() != exact.fingerprint()
    assert fast.fingerprint() != _fast("folded", exact).fingerprint()
    assert fast.fingerprint() == _fast("bf16 folded", exact).fingerprint()
    assert exact_of(fast) is exact


def test_the_fingerprint_is_known_before_anything_is_prepared(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing was asked yet")

    monkeypatch.setattr(torch.onnx, "export", refuse)

    assert _fast("onnxruntime int8").fingerprint()


def test_only_ways_that_show_layers_are_tried_where_layers_are_wanted() -> None:
    teacher = ModuleTeacher(_net(), TASK)

    fast, (choice,) = hasten(teacher, _request(layers=("2",)))

    hidden = [t for t in choice.trials if "cannot show the layers" in t.reason]
    assert {t.name for t in hidden} >= {"folded", "compiled", "onnxruntime int8"}
    assert all(t.state is State.NOT_TRIED for t in hidden)
    (features,) = fast.signals(_batches()[0], layers=("2",)).features.values()
    assert features.shape == (16, 6, 6, 6)


def test_layers_of_a_fast_teacher_are_those_of_the_exact_one() -> None:
    exact, batch = ModuleTeacher(_net(), TASK), _batches()[0]
    fast = _fast("bf16 autocast", exact, layers=("1",))

    assert fast.offers().layers == exact.offers().layers
    found = fast.signals(batch, layers=("1",)).features["1"]

    assert found.dtype == torch.float32
    expected = exact.signals(batch, layers=("1",)).features["1"]
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


def test_a_way_that_hides_layers_does_not_offer_them() -> None:
    assert _fast("folded").offers().layers is None


def test_a_teacher_that_no_faster_way_exists_for_comes_back_as_it_is() -> None:
    teacher = FunctionTeacher(lambda x: x.flatten(1)[:, :4])

    assert hasten(teacher, _request()) == (teacher, ())


def test_all_members_of_an_ensemble_and_what_is_relabelled_are_hastened() -> None:
    members = [ModuleTeacher(_net(seed), TASK) for seed in (0, 1)]
    teacher = Relabelled(Ensemble(members), [3, 2, 1, 0])
    choices = [_picked("bf16 folded", f"teacher, member {n}") for n in (1, 2)]

    fast = rebuild(teacher, _request(), choices)

    batch = _batches()[0]
    assert fast.fingerprint() != teacher.fingerprint()
    torch.testing.assert_close(_values(fast, batch), _values(teacher, batch), atol=0.05, rtol=0.05)
    assert exact_of(fast).fingerprint() == teacher.fingerprint()


def test_the_choice_names_each_member(monkeypatch) -> None:
    monkeypatch.setattr(choosing, "FEWEST_STEPS", 10**9)
    teacher = Ensemble([ModuleTeacher(_net(seed), TASK) for seed in (0, 1)])

    _, choices = hasten(teacher, _request())

    assert [c.role for c in choices] == ["teacher, member 1", "teacher, member 2"]
    assert all(c.chosen.name == EXACT for c in choices)


def test_gradients_and_autocast_outside_do_not_reach_a_fast_teacher() -> None:
    fast, batch = _fast("folded"), _batches()[0]

    with torch.autocast("cpu", torch.bfloat16):
        answer = _values(fast, batch)

    assert not answer.requires_grad
    torch.testing.assert_close(answer, _values(fast, batch), atol=0, rtol=0)


def test_a_student_may_keep_a_fast_teachers_answers_for_its_backward_pass() -> None:
    fast, batch = _fast("folded"), _batches()[0]
    weight = torch.ones(4, requires_grad=True)

    (weight * _values(fast, batch)).sum().backward()

    assert weight.grad is not None


def test_an_onnx_teacher_in_eight_bits(tmp_path) -> None:
    path = tmp_path / "teacher.onnx"
    with quietly():
        program = torch.export.export(
            _net().eval(), (torch.zeros(2, 3, 8, 8),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
        torch.onnx.export(program, dynamo=True, verbose=False).save(path)
    exact = OnnxTeacher(path)
    with quietly():
        fast = _fast("onnxruntime int8", exact)
        batch = _batches()[0]
        answer = _values(fast, batch)

    expected = _values(exact, batch)
    assert not torch.equal(answer, expected)
    assert float((answer - expected).norm() / expected.norm()) < 0.1
    assert fast.offers().logits is LogitKind.RAW
    assert fast.fingerprint() != exact.fingerprint()


def test_a_way_that_breaks_the_answers_is_not_used(monkeypatch) -> None:
    class Far(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 4)

        def forward(self, x):
            return self.head(((x + 1e5) - 1e5).flatten(1))

    monkeypatch.setattr(choosing, "MARGIN", -1e9)  # whatever it costs: every way is tried
    monkeypatch.setattr(choosing, "WORTHWHILE", 1e9)
    torch.manual_seed(0)
    request = _request()
    tried = ("bf16 folded", "bf16 autocast", "folded", "channels_last")
    _try_only(monkeypatch, tried)

    fast, (choice,) = hasten(ModuleTeacher(Far(), TASK), request)

    by_name = {t.name: t for t in choice.trials}
    assert by_name["bf16 folded"].state is State.REFUSED
    assert choice.chosen.name != "bf16 folded"
    assert fast.signals(request.batches[0]).logits is not None


def _try_only(monkeypatch, names) -> None:
    from potstill.teachers import fast

    every = fast.torch_engines
    monkeypatch.setattr(
        fast, "torch_engines", lambda subject: [e for e in every(subject) if e.name in names]
    )
    monkeypatch.setattr(fast, "graph_engines", lambda _subject: [])
