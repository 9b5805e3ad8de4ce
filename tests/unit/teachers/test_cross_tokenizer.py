"""A teacher with another tokenizer, asked about the student's texts, and its student."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from potstill import losses as L
from potstill.errors import HandshakeError
from potstill.functional.tokens import IGNORED, next_tokens
from potstill.models import ModelConfig, create_model
from potstill.protocols import LogitKind
from potstill.signals import Batch, ForeignLogits, Logits, Signals
from potstill.tasks import CausalLM
from potstill.teachers import CrossTokenizer, ModuleTeacher
from potstill.train import Distiller, TrainSettings
from potstill.vocab import Vocabulary

from ..vocab import tiny

TASK = CausalLM()


def language_model(vocabulary: int, *, seed: int, width: int = 16) -> nn.Module:
    sizes: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
    }
    config = ModelConfig(
        source="hf",
        name="tiny",
        options={"model_type": "llama", "config": sizes},
        input_shape=(2, 24),
        num_outputs=vocabulary,
        purpose="causal_lm",
    )
    return create_model(config, seed=seed)


def batch_of(tokenizer, texts: list[str], *, answers_from: int = 0) -> Batch:
    ids = [[*tiny.encode(tokenizer)(text), tokenizer.eos_token_id] for text in texts]
    planes = torch.zeros(len(ids), 2, max(map(len, ids)), dtype=torch.int64)
    for row, tokens in enumerate(ids):
        planes[row, 0, : len(tokens)], planes[row, 1, : len(tokens)] = torch.tensor(tokens), 1
    answers = (torch.arange(planes.shape[2]) >= answers_from).expand(len(ids), -1)
    return Batch(
        inputs=planes,
        labels=next_tokens(planes[:, 0], planes[:, 1], answers),
        ids=torch.arange(len(ids)),
        positions=planes[:, 1].bool(),
    )


def teacher_of(student, theirs, *, seed: int = 5, columns: int | None = None, wider: int = 0):
    vocabulary = Vocabulary.of(theirs)
    model = language_model(vocabulary.size + wider, seed=seed).eval()
    wrapped = CrossTokenizer(
        ModuleTeacher(model, TASK),
        student_vocabulary=Vocabulary.of(student),
        teacher_vocabulary=vocabulary,
        encode=tiny.encode(theirs),
        num_classes=columns,
    )
    return model, wrapped


def step(student: nn.Module, teacher: object, batch: Batch, term: L.ArithmeticTerm):
    said, target = TASK.forward(student, batch), TASK.target(batch)
    value = term(said, teacher.signals(batch), target)
    student.zero_grad()
    value.total.backward()
    return value.total.detach(), {n: p.grad.clone() for n, p in student.named_parameters()}


@pytest.mark.parametrize("temperature", [1, 2])
@pytest.mark.parametrize("wider", [0, 13], ids=["as wide", "padded"])
def test_with_the_same_tokenizer_it_is_plain_distillation(temperature: int, wider: int) -> None:
    tokenizer = tiny.byte_level()
    batch = batch_of(tokenizer, tiny.TEXTS, answers_from=5)
    model, wrapped = teacher_of(tokenizer, tokenizer, wider=wider)
    student = language_model(len(tokenizer), seed=1).eval()

    got, slopes = step(student, wrapped, batch, L.CrossTokenizerKD(temperature=temperature))

    class Cut:
        def signals(self, given: Batch) -> Signals:
            with torch.no_grad():
                full = TASK.forward(model, given).logits.dense()
            return Signals(Logits(full[:, : len(tokenizer)]))

    plain, expected = step(student, Cut(), batch, L.KD(temperature=temperature))
    torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-5)
    for name, slope in expected.items():
        torch.testing.assert_close(slopes[name], slope, rtol=1e-4, atol=1e-5)


def test_a_model_is_its_own_best_student() -> None:
    tokenizer = tiny.byte_level()
    model, wrapped = teacher_of(tokenizer, tokenizer)
    student = language_model(len(tokenizer), seed=1).eval()
    student.load_state_dict(model.state_dict())
    student.requires_grad_()

    value, slopes = step(student, wrapped, batch_of(tokenizer, tiny.TEXTS), L.CrossTokenizerKD())

    assert abs(float(value)) < 1e-3
    assert max(float(slope.abs().max()) for slope in slopes.values()) < 1e-3


def test_rows_meet_where_the_same_bytes_were_read() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    batch = batch_of(mine, tiny.TEXTS)
    pieces, their_pieces = Vocabulary.of(mine).pieces, Vocabulary.of(theirs).pieces
    _, wrapped = teacher_of(mine, theirs)

    found = wrapped.signals(batch).logits

    assert isinstance(found, ForeignLogits)
    labels = batch.labels[batch.labels != IGNORED]
    assert found.num_rows == len(labels)
    spans = found.spans
    assert len(spans) > 30
    joined = 0
    for rows, ids, their_ids in zip(
        spans.student_rows_SA, spans.student_ids_SA, spans.teacher_ids_SB, strict=True
    ):
        assert labels[rows[rows >= 0]].tolist() == ids[ids >= 0].tolist()
        text = b"".join(pieces[i] or b"" for i in ids[ids >= 0])
        their_text = b"".join(their_pieces[i] or b"" for i in their_ids[their_ids >= 0])
        assert text == their_text
        joined += int((ids >= 0).sum() > 1 or (their_ids >= 0).sum() > 1)
    assert joined > 5


def test_packing_texts_changes_nothing() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    apart = batch_of(mine, tiny.TEXTS[:2])
    lengths = apart.inputs[:, 1].sum(-1).tolist()
    ids = torch.cat([apart.inputs[i, 0, :n] for i, n in enumerate(lengths)])
    places = torch.cat([torch.arange(n) for n in lengths])
    labels = torch.cat([apart.labels[i, :n] for i, n in enumerate(lengths)])
    planes = torch.stack([ids, torch.ones_like(ids), places])[None]
    packed = Batch(inputs=planes, labels=labels[None], positions=planes[:, 1].bool())
    _, wrapped = teacher_of(mine, theirs)
    student = language_model(len(mine), seed=1).eval()

    value, slopes = step(student, wrapped, packed, L.CrossTokenizerKD())

    expected, expected_slopes = step(student, wrapped, apart, L.CrossTokenizerKD())
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    for name, slope in expected_slopes.items():
        torch.testing.assert_close(slopes[name], slope, rtol=1e-3, atol=1e-4)


def test_padding_and_order_change_nothing() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    batch = batch_of(mine, tiny.TEXTS)
    _, wrapped = teacher_of(mine, theirs)
    student = language_model(len(mine), seed=1).eval()
    wide = replace(
        batch,
        inputs=nn.functional.pad(batch.inputs, (0, 5)),
        labels=nn.functional.pad(batch.labels, (0, 5), value=IGNORED),
    ).rows(torch.tensor([2, 0, 3, 1]))

    value, slopes = step(student, wrapped, wide, L.CrossTokenizerKD())

    expected, expected_slopes = step(student, wrapped, batch, L.CrossTokenizerKD())
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    for name, slope in expected_slopes.items():
        torch.testing.assert_close(slopes[name], slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("term", [L.CrossTokenizerKD(), L.ULD()], ids=repr)
def test_a_student_learns_from_a_teacher_with_other_tokens(term: L.RowTerm) -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    batch = batch_of(mine, tiny.TEXTS)
    _, wrapped = teacher_of(mine, theirs, columns=len(mine))
    student = language_model(len(mine), seed=1)
    distiller = Distiller(
        student, wrapped, objective=1 * term, task=TASK, settings=TrainSettings(lr=3e-3)
    )

    losses = [float(distiller.step(batch)["loss"]) for _ in range(25)]

    assert losses[-1] < 0.7 * losses[0]


def test_the_handshake_refuses_terms_that_need_the_same_tokens() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    _, wrapped = teacher_of(mine, theirs)
    student = language_model(len(mine), seed=1)
    distiller = Distiller(student, wrapped, objective=L.KD() + L.CrossEntropy(), task=TASK)

    with pytest.raises(HandshakeError, match=r"tokenizer of its own\. Use cross_tokenizer_kd"):
        distiller.step(batch_of(mine, tiny.TEXTS))


def test_offers_and_fingerprint_know_both_vocabularies() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    model, wrapped = teacher_of(mine, theirs, columns=384)
    again = teacher_of(mine, theirs)[1]
    other = teacher_of(tiny.byte_level(290, fewer=True), theirs)[1]

    assert wrapped.offers().logits is LogitKind.FOREIGN
    assert wrapped.offers().num_classes == 384
    assert wrapped.fingerprint() == again.fingerprint() != other.fingerprint()
    assert wrapped.around(wrapped.inner).fingerprint() == wrapped.fingerprint()
    assert model is wrapped.inner.model


def test_what_cannot_be_brought_to_the_students_rows_is_refused() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    _, wrapped = teacher_of(mine, theirs)
    batch = batch_of(mine, tiny.TEXTS)

    with pytest.raises(HandshakeError, match="label for each position"):
        wrapped.signals(replace(batch, labels=None))
    with pytest.raises(HandshakeError, match="layers cannot be compared"):
        wrapped.signals(batch, layers=["model.layers.0"])


def test_what_is_kept_of_its_rows_is_in_the_students_tokens() -> None:
    tokenizer = tiny.byte_level()
    batch = batch_of(tokenizer, tiny.TEXTS)
    model, wrapped = teacher_of(tokenizer, tokenizer)
    target = TASK.target(batch)

    found = TASK.digest(wrapped.signals(batch), target)

    with torch.no_grad():
        plain = TASK.digest(TASK.forward(model, batch), target)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_a_text_is_as_likely_as_the_teacher_finds_it() -> None:
    mine, theirs = tiny.byte_level(), tiny.sentencepiece()
    batch = batch_of(mine, tiny.TEXTS[:1])
    _, wrapped = teacher_of(mine, theirs)

    found = TASK.digest(wrapped.signals(batch), TASK.target(batch))

    foreign = wrapped.signals(batch).logits
    log_probs = foreign.logits.dense().log_softmax(-1)
    spans = foreign.spans
    there = spans.teacher_rows_SB >= 0
    told = log_probs[spans.teacher_rows_SB[there], spans.teacher_ids_SB[there]].sum()
    covered = torch.zeros(foreign.num_rows, dtype=torch.bool)
    covered[spans.student_rows_SA[spans.student_rows_SA >= 0]] = True
    torch.testing.assert_close(found[covered, 0].sum(), -told, rtol=1e-4, atol=1e-3)
    assert (found[~covered, 0] == torch.tensor(foreign.num_classes).log()).all()
    assert found[:, 1].max() < foreign.num_classes
