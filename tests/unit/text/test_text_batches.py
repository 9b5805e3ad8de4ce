"""Batches of texts: cut to the longest, of like length, the same when asked for again."""

import torch

from potstill.data import Feed, Normalise, Samples
from potstill.data.order import by_length, epoch_order
from potstill.losses import Hint
from potstill.models import ModelConfig, create_model, load_model, save_model, shrunken_config
from potstill.models.shrunken import kept_layers
from potstill.runtime.texts import lengths_of, trimmed
from potstill.signals import Signals, Target

BERT = ModelConfig(
    source="hf",
    name="tiny",
    options={
        "model_type": "bert",
        "config": {
            "vocab_size": 50,
            "hidden_size": 16,
            "num_hidden_layers": 6,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
        },
    },
    input_shape=(2, 40),
    num_outputs=3,
)


def texts(count: int, *, longest: int = 40, seed: int = 0) -> torch.Tensor:
    """Planes `[N, 2, L]` of 3 to L tokens each."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest + 1, (count,), generator=generator)
    mask = (torch.arange(longest)[None] < lengths[:, None]).int()
    ids = torch.randint(4, 50, (count, longest), generator=generator).int() * mask
    return torch.stack([ids, mask], dim=1)


def feed(count: int = 405, batch_size: int = 10) -> Feed:
    samples = Samples(texts(count), torch.arange(count), torch.arange(count) % 3)
    return Feed(samples=samples, batch_size=batch_size, seed=3, normalise=Normalise(tokens=True))


def test_every_text_comes_once_whole_and_with_little_padding() -> None:
    batches = list(feed().epoch(1))

    seen = torch.cat([batch.ids for batch in batches if batch.ids is not None])
    assert seen.sort().values.tolist() == list(range(405))
    whole = texts(405)
    for batch in batches:
        assert batch.ids is not None
        assert batch.positions is not None
        longest = int(lengths_of(whole[batch.ids]).max())
        assert batch.inputs.dtype == torch.int64
        assert batch.inputs.shape[2] == min(40, -(-longest // 8) * 8)
        assert torch.equal(batch.inputs, whole[batch.ids][:, :, : batch.inputs.shape[2]].long())
        assert torch.equal(batch.positions, batch.inputs[:, 1] > 0)
    filled = sum(int(batch.inputs[:, 1].sum()) for batch in batches)
    assert filled > 0.8 * sum(batch.inputs[:, 1].numel() for batch in batches)


def test_a_batch_is_a_function_of_epoch_and_index() -> None:
    one, other = feed(), feed()
    later = one.batch(4, 7)

    again = other.batch(4, 7)

    assert torch.equal(later.inputs, again.inputs)
    assert not torch.equal(one.batch(5, 7).ids, again.ids)


def test_lengths_only_change_the_order() -> None:
    lengths = torch.arange(1003) % 17

    orders = [
        by_length(epoch_order(1003, seed=0, epoch=e), lengths, batch_size=10, seed=0, epoch=e)
        for e in (0, 1)
    ]

    for order in orders:
        assert order.sort().values.tolist() == list(range(1003))
        spread = [int(lengths[b].max() - lengths[b].min()) for b in order[:1000].split(10)]
        assert max(spread) <= 4
    batches = [{frozenset(b.tolist()) for b in order.split(10)} for order in orders]
    assert not batches[0] & batches[1]


def test_batches_of_small_sets_differ_from_epoch_to_epoch() -> None:
    lengths = torch.arange(160)  # sorted as a whole, there is one way to cut them into batches

    orders = [
        by_length(epoch_order(160, seed=0, epoch=e), lengths, batch_size=10, seed=0, epoch=e)
        for e in range(5)
    ]

    seen = {frozenset(b.tolist()) for order in orders for b in order.split(10)}
    assert len(seen) == 5 * 16


def test_padding_changes_neither_answers_nor_hints() -> None:
    model = create_model(BERT).eval()
    wide = texts(8, longest=24).long()
    wide = torch.nn.functional.pad(wide, (0, 16))
    narrow = trimmed(wide)
    assert narrow.shape[2] < wide.shape[2]

    torch.testing.assert_close(model(wide), model(narrow), rtol=1e-5, atol=1e-6)
    losses = []
    for planes in (narrow, wide):
        positions = planes[:, 1].bool()
        generator = torch.Generator().manual_seed(1)
        full = torch.randn(2, 8, 40, 5, generator=generator)[:, :, : planes.shape[2]]
        said, taught = Signals(features={"a": full[0]}), Signals(features={"b": full[1]})
        for distance in ("squared_error", "cosine"):
            target = Target(num_rows=8, positions=positions)
            losses.append(Hint("a", "b", distance=distance)(said, taught, target).total)

    torch.testing.assert_close(losses[:2], losses[2:])


def test_rows_that_do_not_count_take_their_positions_along() -> None:
    positions = texts(8, longest=12)[:, 1].bool()
    length = positions.shape[1]
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 8, length, 5, generator=generator)
    valid = torch.arange(8) % 3 > 0
    hint = Hint("a", "b")

    def total(rows: torch.Tensor, target: Target) -> torch.Tensor:
        said, taught = (
            Signals(features={"a": student[rows]}),
            Signals(features={"b": teacher[rows]}),
        )
        return hint(said, taught, target).total

    everything = torch.ones(8, dtype=torch.bool)
    found = total(everything, Target(num_rows=8, positions=positions, valid=valid))
    expected = total(valid, Target(num_rows=int(valid.sum()), positions=positions[valid]))

    torch.testing.assert_close(found, expected)


def test_layers_are_kept_with_their_weights() -> None:
    teacher = create_model(BERT, seed=5).state_dict()

    for keep, chosen in (("every_other", [0, 2, 4]), ("first", [0, 1, 2])):
        student = create_model(shrunken_config(BERT, {"layers": 3, "keep": keep}), seed=5)
        kept = student.state_dict()
        for place, origin in enumerate(chosen):
            name = "model.bert.encoder.layer.{}.output.dense.weight"
            assert torch.equal(kept[name.format(place)], teacher[name.format(origin)])
        assert "model.bert.encoder.layer.3.output.dense.weight" not in kept
    assert kept_layers(12, 6, "every_other") == [0, 2, 4, 6, 8, 10]


def test_students_are_rebuilt_without_their_teacher(tmp_path) -> None:
    planes = texts(5).long()
    for number, options in enumerate(
        (
            {"layers": 2},
            {"make": "transformer", "layers": 1, "width": 8, "heads": 2},
            {"make": "bag"},
            {"make": "bag", "width": 4},
        )
    ):
        config = shrunken_config(BERT, options)
        student = create_model(config, seed=1)
        save_model(student, config, tmp_path / str(number))

        again, described = load_model(tmp_path / str(number))

        assert "teacher" not in described.options
        assert torch.equal(student.eval()(planes), again.eval()(planes))


def test_a_bag_starts_from_the_teachers_table_and_ignores_padding() -> None:
    table = create_model(BERT, seed=2).state_dict()["model.bert.embeddings.word_embeddings.weight"]
    student = create_model(shrunken_config(BERT, {"make": "bag"}), seed=2).eval()
    planes = texts(6).long()

    assert torch.equal(student.state_dict()["embedding.weight"], table)
    torch.testing.assert_close(student(planes), student(trimmed(planes)))
    row = planes[:1, :, : int(lengths_of(planes[:1]))]
    expected = student.head(table[row[0, 0]].mean(0))
    torch.testing.assert_close(student(planes[:1])[0], expected)
