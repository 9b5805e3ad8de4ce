"""What every term, teacher and task must hold. Subclass one and say how yours is made."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from potstill.protocols import LogitKind, Task, Teacher, Term
from potstill.signals import Batch, LazyLogits, Logits, Partial, Signals, Target


def _dense(signals: Signals) -> Tensor:
    assert signals.logits is not None, "logits are missing"
    assert isinstance(signals.logits, Logits | LazyLogits), "dense logits are expected here"
    return signals.logits.dense()


class TermContract(ABC):
    """For terms on logits whose rows do not know of each other."""

    @abstractmethod
    def make(self) -> Term:
        """The term."""

    @abstractmethod
    def example(self) -> tuple[Signals, Signals, Target]:
        """Student (with gradient), teacher and target of at least four rows."""

    def _value(
        self, student: Signals, teacher: Signals, target: Target
    ) -> tuple[Partial, Tensor | None]:
        leaf = _dense(student).detach().clone().requires_grad_()
        partial = self.make()(replace(student, logits=Logits(leaf)), teacher, target)
        (gradient,) = torch.autograd.grad(partial.total, leaf)
        return partial, gradient

    def _cut(self, rows: Tensor) -> tuple[Signals, Signals, Target]:
        student, teacher, target = self.example()

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        def logits(signals: Signals) -> Signals:
            if signals.logits is None:
                return signals
            return replace(signals, logits=Logits(_dense(signals)[rows]))

        labels, valid, labelled = of(target.labels), of(target.valid), of(target.labelled)
        cut = Target(len(rows), labels=labels, valid=valid, labelled=labelled)
        return logits(student), logits(teacher), cut

    def test_value_is_a_finite_scalar_with_gradient(self) -> None:
        """A sum over rows that can be followed back to the student."""
        partial, gradient = self._value(*self.example())
        assert partial.total.shape == ()
        assert torch.isfinite(partial.total)
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0, "a term without gradient teaches nothing"

    def test_count_is_known_before_any_model_has_run(self) -> None:
        """`count` gives what the call gives, and carries no gradient."""
        student, teacher, target = self.example()
        partial, _ = self._value(student, teacher, target)
        assert int(partial.count) == int(self.make().count(target))
        assert not getattr(partial.count, "requires_grad", False)

    def test_two_parts_add_up_to_the_whole(self) -> None:
        """Cutting a batch changes neither sum, count nor gradient."""
        _, _, target = self.example()
        rows = torch.arange(target.num_rows)
        whole, gradient = self._value(*self._cut(rows))
        parts = [self._value(*self._cut(part)) for part in (rows[:1], rows[1:])]
        total = torch.stack([p.total for p, _ in parts]).sum()
        torch.testing.assert_close(total, whole.total, rtol=1e-5, atol=1e-6)
        assert sum(int(p.count) for p, _ in parts) == int(whole.count)
        gradients = torch.cat([g for _, g in parts if g is not None])
        assert gradient is not None
        torch.testing.assert_close(gradients, gradient, rtol=1e-5, atol=1e-6)

    def test_order_of_rows_does_not_matter(self) -> None:
        """Permuted rows give the same sum."""
        _, _, target = self.example()
        rows = torch.arange(target.num_rows)
        one, _ = self._value(*self._cut(rows))
        other, _ = self._value(*self._cut(rows.flip(0)))
        torch.testing.assert_close(one.total, other.total, rtol=1e-5, atol=1e-6)

    def test_rows_that_do_not_count_may_hold_anything(self) -> None:
        """NaN in a masked row reaches neither the sum nor the gradient of the others."""
        student, teacher, target = self.example()
        valid = torch.arange(target.num_rows) > 0
        values = _dense(student).detach().clone()
        values[0] = torch.nan
        masked = replace(target, valid=valid)
        partial, gradient = self._value(replace(student, logits=Logits(values)), teacher, masked)
        only, expected = self._value(*self._cut(torch.arange(1, target.num_rows)))
        torch.testing.assert_close(partial.total, only.total, rtol=1e-5, atol=1e-6)
        assert gradient is not None
        assert expected is not None
        torch.testing.assert_close(gradient[1:], expected, rtol=1e-5, atol=1e-6)
        assert not gradient[0].any()

    def test_lazy_logits_give_the_same(self) -> None:
        """Computed in chunks behind a head, value and gradient are those of dense logits."""
        student, teacher, target = self.example()
        expected, gradient = self._value(student, teacher, target)
        leaf = _dense(student).detach().clone().requires_grad_()
        head = nn.Linear(leaf.shape[1], leaf.shape[1], bias=False).requires_grad_(False)
        nn.init.eye_(head.weight)
        lazy = LazyLogits(leaf, head, chunk_rows=max(1, len(leaf) // 2))
        total = self.make()(replace(student, logits=lazy), teacher, target).total
        torch.testing.assert_close(total, expected.total, rtol=1e-5, atol=1e-6)
        (found,) = torch.autograd.grad(total, leaf)
        assert gradient is not None
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6)

    def test_the_teacher_gets_no_gradient(self) -> None:
        """The teacher's signals are constants."""
        student, teacher, target = self.example()
        if teacher.logits is None:
            return
        leaf = _dense(teacher).detach().clone().requires_grad_()
        total = self.make()(student, replace(teacher, logits=Logits(leaf)), target).total
        assert torch.autograd.grad(total, leaf, allow_unused=True)[0] is None

    def test_name_is_in_snake_case(self) -> None:
        """The key of the log."""
        name = self.make().name
        assert name == name.lower()
        assert name.isidentifier()


class TeacherContract(ABC):
    """For every source of signals."""

    @abstractmethod
    def make(self) -> Teacher:
        """The teacher; equal ones at every call."""

    @abstractmethod
    def batch(self) -> Batch:
        """A batch that it can answer, of at least two rows."""

    def make_another(self) -> Teacher | None:
        """One with other answers; `None` if there is no such thing."""
        return None

    def layers(self) -> Sequence[str]:
        """Some layers that it offers."""
        return ()

    def test_answers_have_a_row_for_each_sample(self) -> None:
        """Dense logits `[B, C]`, with as many columns as offered."""
        teacher, batch = self.make(), self.batch()
        values = _dense(teacher.signals(batch))
        offered = teacher.offers()
        assert offered.logits is not None
        assert values.ndim == 2
        assert len(values) == len(batch)
        assert offered.num_classes in {None, values.shape[1]}
        assert torch.isfinite(values).all()

    def test_log_probabilities_are_what_they_are_called(self) -> None:
        """Up to a constant a row: their softmax is a distribution without ties by accident."""
        teacher = self.make()
        if teacher.offers().logits is LogitKind.LOGPROBS:
            p = _dense(teacher.signals(self.batch())).softmax(-1)
            torch.testing.assert_close(p.sum(-1), torch.ones(len(p)))

    def test_answers_carry_no_gradient(self) -> None:
        """Whether or not gradients are switched on, also for inputs that ask for one."""
        batch = self.batch()
        asking = replace(batch, inputs=batch.inputs.clone().requires_grad_())
        with torch.enable_grad():
            said = self.make().signals(asking, layers=self.layers())
        assert not _dense(said).requires_grad
        assert not any(f.requires_grad for f in said.features.values())

    def test_answers_can_be_repeated(self) -> None:
        """The same batch, the same answers, from the same and from an equal teacher."""
        teacher, batch = self.make(), self.batch()
        first = _dense(teacher.signals(batch))
        assert torch.equal(first, _dense(teacher.signals(batch)))
        assert torch.equal(first, _dense(self.make().signals(batch)))

    def test_rows_do_not_know_of_each_other(self) -> None:
        """A part of the batch gets the same answers as in the whole of it."""
        teacher, batch = self.make(), self.batch()
        whole = _dense(teacher.signals(batch))
        part = _dense(teacher.signals(batch.rows(slice(1, None))))
        torch.testing.assert_close(part, whole[1:], rtol=1e-5, atol=1e-5)

    def test_fingerprint_follows_the_answers(self) -> None:
        """Equal teachers have equal ones, asking changes nothing, others have others."""
        teacher, another = self.make(), self.make_another()
        before = teacher.fingerprint()
        teacher.signals(self.batch())
        assert teacher.fingerprint() == before == self.make().fingerprint()
        assert before == before.lower()
        assert int(before, 16) >= 0
        if another is not None:
            assert another.fingerprint() != before

    def test_layers_that_are_offered_can_be_read(self) -> None:
        """`features` holds what was asked for."""
        teacher, batch = self.make(), self.batch()
        features = teacher.signals(batch, layers=self.layers()).features
        assert set(features) == set(self.layers())
        assert all(len(f) == len(batch) for f in features.values())
        assert set(self.layers()) <= set(teacher.offers().layers or ())


class TaskContract(ABC):
    """For every task."""

    @abstractmethod
    def make(self) -> Task:
        """The task."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A model that it can call."""

    @abstractmethod
    def batch(self) -> Batch:
        """A labelled batch."""

    def test_forward_gives_the_rows_of_the_target(self) -> None:
        """Logits and target agree on the number of rows, and the logits carry gradient."""
        task, batch = self.make(), self.batch()
        values = _dense(task.forward(self.model(), batch))
        assert len(values) == task.target(batch).num_rows
        assert values.requires_grad

    def test_metrics_include_the_primary_and_take_the_scores(self) -> None:
        """Metrics are fresh and finite, and the primary is among them."""
        task, batch = self.make(), self.batch()
        outputs = _dense(task.forward(self.model(), batch)).detach()
        labels = task.target(batch).labels
        assert labels is not None
        whole = labels.to(torch.int64) if task.kind == "multi_label" else labels
        values = task.metrics(outputs.shape[-1])(task.scores(outputs), whole)
        assert task.primary in values
        assert all(torch.isfinite(v) for v in values.values())

    def test_the_default_objective_learns(self) -> None:
        """A few steps of the supervised loss bring it down."""
        from potstill.runtime.fabric import Runtime
        from potstill.train import Distiller, TrainSettings

        distiller = Distiller(
            self.model(),
            task=self.make(),
            settings=TrainSettings(lr=1e-2, schedule="constant"),  # type: ignore[arg-type]
            runtime=Runtime(device="cpu"),
        )
        losses = [float(distiller.step(self.batch())["loss"]) for _ in range(30)]
        assert losses[-1] < losses[0]

    def test_features_are_read_by_name(self) -> None:
        """Every leaf of the model can be tapped, and no hook stays behind."""
        task, model, batch = self.make(), self.model(), self.batch()
        names = [
            name for name, module in model.named_modules() if name and not [*module.children()]
        ]
        features = task.forward(model, batch, layers=names).features
        assert set(features) == set(names)
        assert not any(m._forward_hooks for m in model.modules())
