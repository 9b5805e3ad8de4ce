"""Encoder-decoders: the shift, teacher forcing, invariances, writing, and students."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import log_softmax, pad

from potstill.errors import ModelError
from potstill.functional.tokens import IGNORED, shifted_right
from potstill.losses import KD, CrossEntropy
from potstill.models import create_model, load_model, save_model
from potstill.models.encoder_decoder import TranslationModel
from potstill.models.shrunken import shrunken_config
from potstill.models.translators import spread
from potstill.protocols import TokenModel
from potstill.signals import Batch, LazyLogits, Signals, SparseLogits
from potstill.tasks import Seq2Seq
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TrainSettings

from .tiny import KINDS, VOCABULARY, batch, config, model

TASK = Seq2Seq()
OBJECTIVE = 0.7 * KD(temperature=2) + 0.3 * CrossEntropy()


def gradients(student: torch.nn.Module, given: Batch, *, accumulate: int = 1) -> list[torch.Tensor]:
    teacher = ModuleTeacher(model(seed=9, layers=1), TASK)
    settings = TrainSettings(accumulate=accumulate)
    made = Distiller(student, teacher, objective=OBJECTIVE, task=TASK, settings=settings)
    made.prepare(given)
    student.eval()
    return made.gradients(given)[1]


def test_the_decoder_is_given_the_token_before() -> None:
    written = torch.tensor([[5, 6, 1, 0], [7, 1, 0, 0]])

    assert shifted_right(written, 3).tolist() == [[3, 5, 6, 1], [3, 7, 1, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_forcing_is_the_loss_of_transformers(kind: str) -> None:
    student = model(kind).eval()
    given = batch([5, 9, 3], [7, 2, 4])
    if kind != "t5":  # published Marian models add such a bias to their logits
        student.model.final_logits_bias.normal_()

    said = TASK.forward(student, given)

    assert isinstance(student, TokenModel)
    ours = CrossEntropy()(said, Signals(), TASK.target(given))
    ids, mask = given.inputs[:, 0], given.inputs[:, 1]
    theirs = student.model(input_ids=ids, attention_mask=mask, labels=given.labels)
    assert ours.count == 13
    torch.testing.assert_close(ours.total / ours.count, theirs.loss)
    torch.testing.assert_close(student(given.inputs), theirs.logits)


def test_the_divergence_is_the_sum_by_hand() -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given = batch([5, 3], [4, 2])

    said, taught = TASK.forward(student, given), TASK.forward(teacher, given)
    partial = KD(temperature=2)(said, taught, TASK.target(given))

    with torch.no_grad():
        p, q = (log_softmax(m(given.inputs).double() / 2, -1) for m in (teacher, student))
    by_hand = 0.0
    for text, length in enumerate((4, 2)):
        for place in range(length):  # logits at a place are for the token at that place
            row = p[text, place]
            by_hand += 4 * float((row.exp() * (row - q[text, place])).sum())
    assert partial.count == 6
    assert float(partial.total.detach()) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_the_gradient(kind: str) -> None:
    narrow = batch([9, 4, 7], [3, 8, 5])
    more = pad(narrow.inputs, (0, 7))
    labels = pad(narrow.labels, (0, 7), value=IGNORED)
    wide = replace(narrow, inputs=more, labels=labels, positions=more[:, 1].bool())

    found = gradients(model(kind), narrow)

    torch.testing.assert_close(gradients(model(kind), wide), found)
    assert any(float(g.abs().max()) > 1e-4 for g in found)


def test_splitting_or_permuting_a_batch_does_not_change_the_gradient() -> None:
    given = batch([9, 2, 7, 5], [3, 8, 5, 1])

    whole = gradients(model(), given)

    torch.testing.assert_close(gradients(model(), given, accumulate=4), whole)
    permuted = given.rows(torch.tensor([2, 0, 3, 1]))
    torch.testing.assert_close(gradients(model(), permuted), whole)


def test_all_tokens_kept_are_the_dense_teacher() -> None:
    student, teacher = model(seed=1).eval(), model(seed=2).eval()
    given = batch([9, 4], [3, 6])
    target = TASK.target(given)
    taught = TASK.forward(teacher, given).logits
    assert isinstance(taught, LazyLogits)
    kept, ids = log_softmax(taught.dense().detach() / 2, -1).topk(VOCABULARY, -1)
    sparse = SparseLogits(ids, kept, torch.zeros(len(kept)), VOCABULARY, 2.0)

    found = []
    for logits in (taught, sparse):
        student.zero_grad()
        partial = KD(temperature=2)(TASK.forward(student, given), Signals(logits=logits), target)
        partial.total.backward()
        grads = [p.grad.clone() for p in student.parameters() if p.grad is not None]
        found.append([partial.total.detach(), *grads])

    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_decoder_layer_is_refused_for_hints() -> None:
    with pytest.raises(ModelError, match="layer of the decoder"):
        TASK.forward(model(), batch([3], [3]), layers=["model.model.decoder.layers.0"])


@pytest.mark.parametrize("kind", KINDS)
def test_writing_is_the_likeliest_token_each_time_and_no_neighbour_matters(kind: str) -> None:
    writer = model(kind, seed=4).eval()
    assert isinstance(writer, TranslationModel)
    given = batch([9, 2, 6], [1, 1, 1])

    together = writer.write(given.inputs, longest=6)

    for row in range(3):
        start = writer.model.config.decoder_start_token_id
        said = [start]
        alone = given.inputs[row : row + 1]
        for _ in range(6):
            logits = writer.model(
                input_ids=alone[:, 0, : int(alone[:, 1].sum())],
                decoder_input_ids=torch.tensor([said]),
            ).logits
            said.append(int(logits[0, -1].argmax()))
            if said[-1] == 1:
                break
        assert together[row, : len(said)].tolist() == said
        assert set(together[row, len(said) :].tolist()) <= {0}


def test_a_wider_search_finds_likelier_texts() -> None:
    writer = model(seed=6).eval()
    given = batch([5, 8], [1, 1])

    def likelihood(written: torch.Tensor) -> torch.Tensor:
        targets = pad(written[:, 1:], (0, 24 - written.shape[1] + 1))
        there = (targets.cumsum(-1) > 0) & (targets.roll(1, -1) != 1)
        there[:, 0] = True
        planes = pad(given.inputs[:, :2], (0, 24 - given.inputs.shape[2]))
        full = torch.stack([planes[:, 0], planes[:, 1], targets, there.long()], dim=1)
        logprobs = log_softmax(writer(full), -1)
        picked = logprobs.gather(-1, targets[..., None])[..., 0].masked_fill(targets == 0, 0.0)
        return picked.sum(-1) / (targets != 0).sum(-1)

    with torch.no_grad():
        greedy = likelihood(writer.write(given.inputs, longest=8))
        searched = likelihood(writer.write(given.inputs, beams=8, longest=8))

    assert bool((searched >= greedy - 1e-5).all())


def test_layers_that_stay_are_spread() -> None:
    assert [spread(6, k) for k in (1, 2, 3, 6)] == [[0], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_of_fewer_layers_has_the_teachers_weights_and_writes(kind: str) -> None:
    teacher = model(kind, seed=3, layers=3)
    wanted = shrunken_config(config(kind, layers=3), {"decoder_layers": 1, "encoder_layers": 2})

    student = create_model(wanted, seed=3).eval()

    inner, original = student.model, teacher.model
    for part, kept in (("encoder", [0, 2]), ("decoder", [0])):
        stacks = [getattr(m, f"get_{part}")() for m in (inner, original)]
        layers, theirs = (getattr(s, "layers", None) or s.block for s in stacks)
        assert len(layers) == len(kept)
        for mine, number in zip(layers, kept, strict=True):
            torch.testing.assert_close(mine.state_dict(), theirs[number].state_dict())
    assert student.write(batch([5], [1]).inputs, beams=2, longest=5).shape[0] == 1


def test_a_student_cannot_have_more_layers_than_the_teacher() -> None:
    with pytest.raises(ModelError, match="5 layers cannot be kept of the 2"):
        create_model(shrunken_config(config(), {"decoder_layers": 5}), seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_student_of_the_teachers_type(kind: str) -> None:
    options = {"make": "transformer", "encoder_layers": 2, "decoder_layers": 1, "width": 8}

    student = create_model(shrunken_config(config(kind), {**options, "heads": 2}), seed=0)

    assert student.head.in_features == 8
    assert student.head.out_features == VOCABULARY
    decoder = student.model.get_decoder()
    assert len(getattr(decoder, "layers", None) or decoder.block) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_student_comes_back_without_its_teacher(kind: str, tmp_path) -> None:
    wanted = shrunken_config(config(kind, layers=3), {"decoder_layers": 2})
    student = create_model(wanted, seed=5).eval()

    save_model(student, wanted, tmp_path)
    loaded, described = load_model(tmp_path)

    assert described.source == "hf"
    given = batch([4, 6], [5, 3])
    torch.testing.assert_close(loaded.eval()(given.inputs), student(given.inputs))
