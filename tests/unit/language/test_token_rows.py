"""One row a token that is asked: which rows, whose, what is kept of them, and invariances."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import log_softmax

from potstill.functional.tokens import IGNORED, asked, next_tokens
from potstill.losses import KD, CrossEntropy, Hint
from potstill.protocols import TokenModel
from potstill.signals import Batch, LazyLogits, Logits, Signals, SparseLogits
from potstill.tasks import CausalLM
from potstill.tasks.token_rows import digest_of_rows
from potstill.teachers import Ensemble, ModuleTeacher
from potstill.train import Distiller, TrainSettings

from .tiny import VOCABULARY, batch, model, planes

TASK = CausalLM()
OBJECTIVE = 0.7 * KD(temperature=2) + 0.3 * CrossEntropy()


def gradients(student: torch.nn.Module, *batches: Batch, accumulate: int = 1) -> list[torch.Tensor]:
    teacher = ModuleTeacher(model(seed=9, layers=1), TASK)
    settings = TrainSettings(accumulate=accumulate)
    made = Distiller(student, teacher, objective=OBJECTIVE, task=TASK, settings=settings)
    (only,) = batches
    made.prepare(only)
    student.eval()
    return made.gradients(only)[1]


def test_a_position_is_asked_for_the_token_after_it_within_its_text() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 0]])
    texts = torch.tensor([[1, 1, 1, 2, 2, 0]])

    labels = next_tokens(ids, texts)

    assert labels.tolist() == [[6, 7, IGNORED, 9, IGNORED, IGNORED]]


def test_only_answers_are_asked_for_and_the_first_of_them_too() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 0]])
    texts = torch.tensor([[1, 1, 1, 1, 0]])
    answers = torch.tensor([[False, False, True, True, False]])

    labels = next_tokens(ids, texts, answers)

    assert labels.tolist() == [[IGNORED, 7, 8, IGNORED, IGNORED]]
    found = asked(labels)
    assert found.index_N.tolist() == [1, 2]
    assert found.labels_N.tolist() == [7, 8]


def test_rows_say_whose_they_are() -> None:
    given = batch([4, 1, 3])

    target = TASK.target(given)

    assert target.num_rows == 5
    assert target.samples is not None
    assert target.samples.tolist() == [0, 0, 0, 2, 2]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_the_loss_is_that_of_transformers(kind: str) -> None:
    student = model(kind).eval()
    given = batch([9, 4, 7])

    said, target = TASK.forward(student, given), TASK.target(given)

    assert isinstance(said.logits, LazyLogits)
    ours = CrossEntropy()(said, Signals(), target)
    ids, mask = given.inputs.unbind(1)
    theirs = student.model(
        input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, IGNORED)
    )
    torch.testing.assert_close(ours.total / ours.count, theirs.loss)


def test_the_divergence_is_the_sum_by_hand() -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given = batch([6, 3])
    said, taught = TASK.forward(student, given), TASK.forward(teacher, given)

    partial = KD(temperature=2)(said, taught, TASK.target(given))

    with torch.no_grad():
        p, q = (log_softmax(m(given.inputs).double() / 2, -1) for m in (teacher, student))
    by_hand = 0.0
    for text, length in enumerate((6, 3)):
        for place in range(length - 1):
            row = p[text, place]
            by_hand += 4 * float((row.exp() * (row - q[text, place])).sum())
    assert partial.count == 7
    assert float(partial.total.detach()) == pytest.approx(by_hand, rel=1e-5)


def test_padding_does_not_change_the_gradient() -> None:
    narrow, wide = batch([9, 4, 7]), batch([9, 4, 7])
    more = torch.nn.functional.pad(wide.inputs, (0, 7))
    wide = replace(
        wide,
        inputs=more,
        labels=torch.nn.functional.pad(wide.labels, (0, 7), value=IGNORED),
        positions=more[:, 1].bool(),
    )

    torch.testing.assert_close(gradients(model(), narrow), gradients(model(), wide))


def test_splitting_a_batch_does_not_change_the_gradient() -> None:
    given = batch([9, 2, 7, 5, 1, 12])

    whole = gradients(model(), given)

    for pieces in (2, 3, 6):
        torch.testing.assert_close(gradients(model(), given, accumulate=pieces), whole)


def test_the_order_of_texts_does_not_change_the_gradient() -> None:
    given = batch([9, 2, 7, 5])

    torch.testing.assert_close(
        gradients(model(), given), gradients(model(), given.rows(torch.tensor([2, 0, 3, 1])))
    )


def test_chunks_do_not_change_value_or_gradient() -> None:
    given = batch([9, 2, 7, 5])
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    found = []
    for rows in (None, 1, 3, 100):
        student.zero_grad()
        said, taught = TASK.forward(student, given), TASK.forward(teacher, given)
        assert isinstance(said.logits, LazyLogits)
        chunked = replace(said, logits=replace(said.logits, chunk_rows=rows))
        value = OBJECTIVE(chunked, taught, TASK.target(given))
        value.loss.backward()
        found.append([value.loss.detach(), *(p.grad.clone() for p in student.parameters())])

    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_a_model_of_itself_has_nothing_to_learn() -> None:
    student = model(seed=4).eval()
    given = batch([9, 2, 7])
    said = TASK.forward(student, given)

    partial = KD(temperature=3)(said, TASK.forward(student, given), TASK.target(given))
    partial.total.backward()

    assert abs(float(partial.total.detach())) < 1e-4
    assert all(float(p.grad.abs().max()) < 1e-5 for p in student.parameters())


def test_a_batch_without_a_question_teaches_nothing_and_breaks_nothing() -> None:
    given = batch([5, 4])
    silent = replace(given, labels=torch.full_like(given.labels, IGNORED))

    found = gradients(model(), silent)

    assert all(bool((g == 0).all()) for g in found)


def test_all_classes_kept_are_the_dense_teacher() -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given = batch([9, 4])
    said, target = TASK.forward(student, given), TASK.target(given)
    taught = TASK.forward(teacher, given).logits
    assert isinstance(taught, LazyLogits)
    logprobs = log_softmax(taught.dense().detach() / 2, -1)
    kept, ids = logprobs.topk(VOCABULARY, -1)
    sparse = SparseLogits(ids, kept, torch.zeros(len(kept)), VOCABULARY, 2.0)

    found = []
    for logits in (taught, sparse):
        student.zero_grad()
        said = TASK.forward(student, given)
        partial = KD(temperature=2)(said, Signals(logits=logits), target)
        partial.total.backward()
        found.append([partial.total.detach(), *(p.grad.clone() for p in student.parameters())])

    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_labels_and_a_sparse_teacher_are_learnt_from_together() -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given = batch([9, 4])
    target = TASK.target(given)
    logprobs = log_softmax(TASK.forward(teacher, given).logits.dense().detach() / 2, -1)
    kept, ids = logprobs.topk(5, -1)
    tail = 1 - kept.exp().sum(-1)
    taught = Signals(logits=SparseLogits(ids, kept, tail, VOCABULARY, 2.0))

    found = []
    for lazy in (True, False):
        student.zero_grad()
        said = TASK.forward(student, given)
        if not lazy:
            said = replace(said, logits=Logits(said.logits.dense()))
        value = OBJECTIVE(said, taught, target)
        value.loss.backward()
        found.append([value.loss.detach(), *(p.grad.clone() for p in student.parameters())])

    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_digest_keeps_likelihood_choice_and_confidence() -> None:
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(50) % 11
    head = torch.nn.Linear(11, 11, bias=False)
    torch.nn.init.eye_(head.weight)
    logprobs = log_softmax(logits.double(), -1)
    kept, ids = logprobs.float().topk(11, -1)

    expected = torch.stack(
        [
            -logprobs.gather(1, labels[:, None])[:, 0],
            logits.argmax(-1).double(),
            logprobs.max(-1).values.exp(),
        ],
        dim=1,
    ).float()

    sparse = SparseLogits(ids, kept, torch.zeros(50), 11, 1.0)
    for form in (Logits(logits), LazyLogits(logits, head), sparse):
        torch.testing.assert_close(digest_of_rows(form, labels).detach(), expected)


def test_kept_classes_share_the_tail_in_a_digest() -> None:
    kept = SparseLogits(
        torch.tensor([[2, 0]]), torch.tensor([[0.6, 0.2]]).log(), torch.tensor([0.2]), 6, 1.0
    )

    digest = digest_of_rows(kept, torch.tensor([5]))

    assert digest[0].exp().tolist()[0] == pytest.approx(4 / 0.2)


def test_metrics_are_over_all_tokens_together() -> None:
    student = model().eval()
    given = batch([9, 4, 7])
    target = TASK.target(given)

    digest = TASK.digest(TASK.forward(student, given), target)
    values = TASK.metrics(3)(TASK.scores(digest.detach()), target.labels)

    ids, mask = given.inputs.unbind(1)
    theirs = student.model(
        input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, IGNORED)
    ).loss
    assert float(values["nll"]) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert float(values["perplexity"]) == pytest.approx(float(theirs.detach().exp()), rel=1e-5)
    assert 0 <= float(values["token_accuracy"]) <= 1


def packed(lengths: list[int], *, seed: int = 0) -> tuple[Batch, Batch]:
    """The same texts one by one, and side by side in one row with places that begin again."""
    apart = batch(lengths, seed=seed)
    pieces = [apart.inputs[i, 0, :n] for i, n in enumerate(lengths)]
    ids = torch.cat(pieces)[None]
    texts = torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)])[None]
    places = torch.cat([torch.arange(n) for n in lengths])[None]
    inputs = torch.stack([ids, torch.ones_like(ids), places], dim=1)
    pad = torch.nn.functional.pad(inputs, (0, 3))
    row_of = torch.nn.functional.pad(texts, (0, 3))
    together = Batch(
        inputs=pad,
        labels=next_tokens(pad[:, 0], row_of),
        ids=torch.arange(1),
        positions=pad[:, 1].bool(),
    )
    return apart, together


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_packed_texts_do_not_see_each_other(kind: str) -> None:
    apart, together = packed([6, 3, 8])

    alone, packed_grads = (gradients(model(kind), given) for given in (apart, together))

    torch.testing.assert_close(packed_grads, alone, rtol=1e-4, atol=1e-6)


def test_an_ensemble_of_language_models_is_their_mean() -> None:
    given = batch([5, 7])
    members = [ModuleTeacher(model(seed=s), TASK) for s in (1, 2)]

    said = Ensemble(members).signals(given).logits

    each = [log_softmax(m.signals(given).logits.dense(), -1).exp() for m in members]
    torch.testing.assert_close(said.dense().exp(), (each[0] + each[1]) / 2)


def test_models_say_what_goes_into_their_head() -> None:
    student = model("gpt2").eval()
    given = batch([5, 5])

    assert isinstance(student, TokenModel)
    logits = student.head(student.states(given))
    ids, mask = given.inputs.unbind(1)
    torch.testing.assert_close(logits, student.model(input_ids=ids, attention_mask=mask).logits)
    torch.testing.assert_close(student(planes([5, 5])), logits)


def by_text(student: torch.nn.Module, teacher: torch.nn.Module, given: Batch) -> torch.Tensor:
    """The mean over texts of the mean over their tokens, text by text."""
    losses = []
    for number in range(len(given)):
        one = given.rows(slice(number, number + 1))
        said, taught = TASK.forward(student, one), TASK.forward(teacher, one)
        losses.append(OBJECTIVE(said, taught, TASK.target(one)).loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("lazy", [True, False])
def test_every_text_counts_alike_when_reduced_by_sequence(lazy: bool) -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given, task = batch([9, 2, 7, 5]), CausalLM(reduction="sequence")
    expected = by_text(student, teacher, given)
    expected.backward()
    wanted = [p.grad.clone() for p in student.parameters()]
    student.zero_grad()

    said, taught = task.forward(student, given), task.forward(teacher, given)
    if not lazy:
        said = replace(said, logits=Logits(said.logits.dense()))
    value = OBJECTIVE(said, taught, task.target(given))
    value.loss.backward()

    torch.testing.assert_close(value.loss, expected)
    torch.testing.assert_close([p.grad for p in student.parameters()], wanted)


def test_splits_and_packing_do_not_change_the_mean_over_texts() -> None:
    task = CausalLM(reduction="sequence")
    apart, together = packed([6, 3, 8])
    found = []
    for given, pieces in ((apart, 1), (apart, 3), (together, 1)):
        student = model(seed=3)
        teacher = ModuleTeacher(model(seed=9, layers=1), task)
        settings = TrainSettings(accumulate=pieces)
        made = Distiller(student, teacher, objective=OBJECTIVE, task=task, settings=settings)
        made.prepare(given)
        student.eval()
        found.append(made.gradients(given)[1])

    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_hints_between_layers_do_not_change_when_a_batch_is_split(reduction: str) -> None:
    given, task = batch([9, 2, 7, 5, 3, 12]), CausalLM(reduction=reduction)
    layer = "model.model.layers.0"
    found = []
    for pieces in (1, 3):
        student = model(seed=3)
        teacher = ModuleTeacher(model(seed=9), task)
        settings = TrainSettings(accumulate=pieces)
        objective = CrossEntropy() + 5 * Hint(layer, layer)
        made = Distiller(student, teacher, objective=objective, task=task, settings=settings)
        made.prepare(given)
        student.eval()
        found.append(made.gradients(given)[1])

    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
