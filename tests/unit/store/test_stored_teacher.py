"""A stored teacher answers as the live one did, about what it was asked, and about nothing else."""

import numpy as np
import pytest
import torch

from potstill.data import Augment, Mixup, Normalise
from potstill.errors import HandshakeError, StoreError
from potstill.losses import KD, CrossEntropy, Hint, LogitMSE
from potstill.protocols import LogitKind
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch, SparseLogits
from potstill.store import Store, StoreWriter, label
from potstill.store.codecs import DenseLogits, FloatTensor, make_codec
from potstill.tasks import Classification
from potstill.teachers import StoredTeacher
from potstill.train import Distiller, TensorBatches, TrainSettings
from potstill.train.handshake import shake_hands

from .stores import ALL, JITTER, Embedding, feed, key, logits, network, samples, write

IN_MEMORY = pytest.mark.parametrize("memory", [1 << 20, 0], ids=["in memory", "from the file"])


@IN_MEMORY
def test_it_answers_as_the_live_teacher_bit_for_bit(tmp_path, memory) -> None:
    write(tmp_path)
    stored, live = StoredTeacher(tmp_path, memory=memory), Embedding()

    for batch in feed().epoch(0):
        said = stored.signals(batch, layers=["2"])
        expected = live.signals(batch, layers=["2"])

        assert torch.equal(logits(said), logits(expected))
        assert torch.equal(said.features["2"], expected.features["2"])
        assert torch.equal(said.embedding, expected.embedding)
    offered = stored.offers()
    assert (offered.logits, offered.num_classes, offered.layers) == (LogitKind.RAW, 3, ("2",))


@IN_MEMORY
def test_a_shuffled_batch_gets_its_own_answers(tmp_path, memory) -> None:
    write(tmp_path)
    stored, live = StoredTeacher(tmp_path, memory=memory), Embedding()

    for batch in feed(shuffle=True).epoch(4):
        assert torch.equal(logits(stored.signals(batch)), logits(live.signals(batch)))


@IN_MEMORY
def test_views_rotate_and_each_has_its_own_answers(tmp_path, memory) -> None:
    shown = feed(augment=JITTER, views=3, shuffle=True)
    write(tmp_path, shown=feed(augment=JITTER, views=3), views=3)
    stored, live = StoredTeacher(tmp_path, memory=memory), Embedding()

    seen = []
    for epoch in range(5):
        batch = shown.batch(epoch, 1)
        seen.append(set(batch.view.tolist()))
        assert torch.equal(logits(stored.signals(batch)), logits(live.signals(batch)))

    assert seen == [{1}, {2}, {3}, {1}, {2}]


@IN_MEMORY
def test_sparse_answers_come_back_sparse(tmp_path, memory) -> None:
    codec = make_codec("topk", {"k": 2})
    write(tmp_path, codecs={"logits": codec})
    stored, live = StoredTeacher(tmp_path, memory=memory), Embedding()
    batch = feed(shuffle=True).batch(0, 0)

    said = stored.signals(batch).logits

    assert isinstance(said, SparseLogits)
    assert stored.offers().logits is LogitKind.SPARSE
    assert stored.offers().num_classes == said.num_classes == 3
    best = logits(live.signals(batch)).argmax(-1)
    assert torch.equal(said.ids_NK[torch.arange(16), said.logprobs_NK.argmax(-1)], best)


def test_a_term_that_needs_all_logits_refuses_sparse_ones(tmp_path) -> None:
    write(tmp_path, codecs={"logits": make_codec("topk", {"k": 2})})

    with pytest.raises(HandshakeError, match="it needs the teacher's logits of all classes"):
        shake_hands(
            network(),
            StoredTeacher(tmp_path),
            objective=1 * LogitMSE(),
            task=Classification(),
            batch=feed().batch(0, 0),
        )


@pytest.mark.parametrize("codec", ["fp16", "bf16"])
def test_a_narrow_codec_stays_within_its_bound(tmp_path, codec) -> None:
    write(tmp_path, codecs={"logits": DenseLogits(codec)})
    bound = {"fp16": 2**-11, "bf16": 2**-8}[codec]

    for batch in feed(shuffle=True).epoch(0):
        expected = logits(Embedding().signals(batch))
        error = (logits(StoredTeacher(tmp_path).signals(batch)) - expected).abs()
        assert bool((error <= bound * expected.abs() + 1e-5).all())


# Training


def _trained(teacher, shown, *, epochs: int = 3):
    distiller = Distiller(
        network(),
        teacher,
        objective=0.9 * KD(temperature=4) + 0.1 * CrossEntropy() + 0.5 * Hint("0", "2"),
        settings=TrainSettings(epochs=epochs, batch_size=16),
        runtime=Runtime(device="cpu"),
    )
    return distiller.fit(shown).student.state_dict()


def test_training_from_the_store_gives_the_same_weights(tmp_path) -> None:
    write(tmp_path)
    shown = feed(shuffle=True)

    live, stored = _trained(Embedding(), shown), _trained(StoredTeacher(tmp_path), shown)

    for name, value in live.items():
        assert torch.equal(stored[name], value), name


def test_training_from_rotating_views_gives_the_same_weights(tmp_path) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)
    shown = feed(augment=JITTER, views=2, shuffle=True)

    live, stored = _trained(Embedding(), shown), _trained(StoredTeacher(tmp_path), shown)

    for name, value in live.items():
        assert torch.equal(stored[name], value), name


def test_tensor_batches_can_be_labelled_too(tmp_path) -> None:
    x, y = torch.randn(64, 6), torch.arange(64) % 3
    batches = TensorBatches(x, y, batch_size=16, shuffle=False)
    teacher = Embedding()
    with StoreWriter(tmp_path, key=key(teacher, batches), codecs=ALL) as writer:
        label(teacher, batches, writer)

    stored = StoredTeacher(tmp_path, of=teacher)

    batch = TensorBatches(x, y, batch_size=16, seed=3).batch(1, 2)
    torch.testing.assert_close(logits(stored.signals(batch)), logits(teacher.signals(batch)))


# Refusals


def _refusal(stored: StoredTeacher, shown) -> str:
    with pytest.raises(HandshakeError) as refused:
        stored.signals(shown.batch(0, 0))
    return str(refused.value)


def test_another_teacher_is_refused(tmp_path) -> None:
    write(tmp_path)

    StoredTeacher(tmp_path, of=Embedding())
    with pytest.raises(StoreError, match=r"is of another teacher \(\w{12}…, asked for \w{12}…\)"):
        StoredTeacher(tmp_path, of=Embedding(seed=1))


def test_other_data_are_refused(tmp_path) -> None:
    write(tmp_path)
    stored = StoredTeacher(tmp_path)

    same = samples()
    changed = samples()
    changed.inputs[7, 2] += 1e-3
    said = _refusal(stored, feed(changed))
    stored.signals(feed(same).batch(0, 0))

    assert "is of another data set: 1 of 160 samples have other contents" in said
    assert f"first: sample {int(changed.ids[7])}" in said


def test_the_same_ids_on_other_samples_are_refused(tmp_path) -> None:
    write(tmp_path)
    given = samples()
    swapped = samples().rows(torch.arange(160))
    swapped.inputs[:2] = given.inputs[[1, 0]]

    assert "2 of 160 samples" in _refusal(StoredTeacher(tmp_path), feed(swapped))


def test_samples_that_were_not_labelled_are_counted(tmp_path) -> None:
    write(tmp_path, shown=feed(samples().rows(slice(0, 100))))

    said = _refusal(StoredTeacher(tmp_path), feed())

    assert "lacks 60 of the 160 samples and views that training shows" in said
    assert "Finish it with `potstill label`" in said


def test_another_normalisation_is_refused(tmp_path) -> None:
    write(tmp_path)
    other = Normalise(torch.zeros(6), torch.full((6,), 2.0))

    assert "another normalisation" in _refusal(StoredTeacher(tmp_path), feed(normalise=other))


def test_augmentation_over_a_store_without_is_refused(tmp_path) -> None:
    write(tmp_path)

    said = _refusal(StoredTeacher(tmp_path), feed(augment=JITTER, views=2))

    assert "labelled without augmentation and training augments with Augment(" in said


@pytest.mark.parametrize(
    "other",
    [
        Augment(JITTER.ops, seed=8),  # another seed
        Augment.parse([{"op": "noise", "std": 0.4}], seed=7),  # another strength
        Augment((*JITTER.ops, *JITTER.ops), seed=7),  # one op more
    ],
)
def test_another_augmentation_is_refused(tmp_path, other) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)

    said = _refusal(StoredTeacher(tmp_path), feed(augment=other, views=2))

    assert "under another augmentation" in said
    assert repr(JITTER) in said
    assert repr(other) in said


def test_no_augmentation_over_augmented_views_is_refused(tmp_path) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)

    assert "holds augmented views alone" in _refusal(StoredTeacher(tmp_path), feed())


def test_fresh_views_are_refused_with_the_number_to_give(tmp_path) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)

    said = _refusal(StoredTeacher(tmp_path), feed(augment=JITTER))

    assert "a fresh view each epoch" in said
    assert "`store.views: 2`" in said


def test_more_views_than_there_are_is_refused(tmp_path) -> None:
    write(tmp_path, shown=feed(augment=JITTER, views=2), views=2)

    said = _refusal(StoredTeacher(tmp_path), feed(augment=JITTER, views=3))

    assert "lacks 160 of the 480 samples and views" in said
    assert "view 3" in said


def test_mixing_is_refused_at_the_handshake(tmp_path) -> None:
    write(tmp_path)

    with pytest.raises(HandshakeError, match=r"mixed samples \(mixup, cutmix\).*Switch mixing off"):
        shake_hands(
            network(),
            StoredTeacher(tmp_path),
            objective=1 * KD(),
            task=Classification(),
            batch=feed(mix=Mixup()).batch(0, 0),
        )


def test_an_empty_store_is_refused(tmp_path) -> None:
    shown = feed()
    StoreWriter(tmp_path, key=key(Embedding(), shown), codecs=ALL).close()

    assert "is empty" in _refusal(StoredTeacher(tmp_path), shown)


def test_a_layer_that_is_not_stored_is_refused_at_the_handshake(tmp_path) -> None:
    write(tmp_path)

    with pytest.raises(HandshakeError, match=r"the teacher has no layer '0'"):
        shake_hands(
            network(),
            StoredTeacher(tmp_path),
            objective=1 * Hint("0", "0"),
            task=Classification(),
            batch=feed().batch(0, 0),
        )


def test_batches_of_your_own_are_answered_on_trust_alone(tmp_path) -> None:
    write(tmp_path)
    batch = feed().batch(0, 2)
    own = Batch(batch.inputs, ids=batch.ids)

    with pytest.raises(HandshakeError, match="does not say what set it is from"):
        StoredTeacher(tmp_path).signals(own)
    said = StoredTeacher(tmp_path, check=False).signals(own)
    unknown = Batch(batch.inputs, ids=batch.ids + 10_000)

    assert torch.equal(logits(said), logits(Embedding().signals(batch)))
    with pytest.raises(HandshakeError, match=r"has nothing on sample \d+, view 0"):
        StoredTeacher(tmp_path, check=False).signals(unknown)


def test_fingerprints_tell_codecs_apart(tmp_path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    write(tmp_path / "c", codecs={**ALL, "logits": DenseLogits("fp16")})
    write(tmp_path / "d", teacher=Embedding(seed=1))

    a, b, c, d = (StoredTeacher(tmp_path / name).fingerprint() for name in "abcd")

    assert a == b
    assert len({a, c, d}) == 3


def test_a_store_of_features_alone_offers_no_logits(tmp_path) -> None:
    write(tmp_path, codecs={"features/2": FloatTensor("fp16")})

    offered = StoredTeacher(tmp_path).offers()

    assert (offered.logits, offered.layers) == (None, ("2",))
    assert np.all(Store(tmp_path).views_N == 0)


def test_a_run_refuses_a_store_as_its_teacher(tmp_path) -> None:
    import potstill

    write(tmp_path / "store")
    data = (torch.randn(90, 6).numpy(), (torch.arange(90) % 3).numpy())

    with pytest.raises(HandshakeError, match="Give the live teacher"):
        potstill.distill(network(), StoredTeacher(tmp_path / "store"), data, out=tmp_path / "run")
