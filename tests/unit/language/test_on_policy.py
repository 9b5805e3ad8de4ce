"""On-policy samples: whose rows they are, what is asked in them, and that nothing else changes."""

import math
import signal
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from potstill.data import Feed, Normalise, Samples
from potstill.errors import DataError, HandshakeError, Interrupted, RecipeError
from potstill.functional.tokens import IGNORED, next_tokens
from potstill.generation import HuggingFaceEngine, Sampling
from potstill.losses import KD, CrossEntropy, MiniLLM, ReverseKL, SampledReverseKL
from potstill.runtime.fabric import Runtime
from potstill.signals import Batch
from potstill.tasks import CausalLM
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TrainSettings
from potstill.train.on_policy import OnPolicy
from potstill.train.replay import Replay
from potstill.train.rollout import Rollout

from .tiny import VOCABULARY, model

PAD, END = 0, VOCABULARY - 1
LENGTHS, PROMPTS = (12, 7, 15, 9, 11, 6), (4, 3, 8, 2, 5, 3)


def questions(lengths=LENGTHS, prompts=PROMPTS, *, seed: int = 0) -> Batch:
    """Samples of these lengths whose tokens behind the prompt are asked for."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, END, (len(lengths), longest), generator=generator) * mask
    answers = torch.arange(longest)[None] >= torch.tensor(prompts)[:, None]
    return Batch(
        inputs=torch.stack([ids, mask], dim=1),
        labels=next_tokens(ids, mask, answers),
        ids=torch.arange(len(lengths)) + 100,
        positions=mask.bool(),
    )


def rollout(*, ends=(END,), seed: int = 0, total: int = 100, **settings: object) -> Rollout:
    sampling = settings.pop("sampling", Sampling(max_new_tokens=6))
    made = Rollout(
        OnPolicy(sampling=sampling, **settings),
        HuggingFaceEngine(ends=ends, pad=PAD),
        pad=PAD,
        seed=seed,
    )
    made.plan_steps(total)
    return made


def distiller(
    *, roll: Rollout | None, student=None, objective=None, **settings: object
) -> Distiller:
    return Distiller(
        model(seed=1) if student is None else student,
        ModuleTeacher(model(seed=2, width=32), CausalLM()),
        objective=objective or 0.8 * KD(temperature=1) + 0.2 * CrossEntropy(),
        task=CausalLM(),
        settings=TrainSettings(lr=1e-2, **settings),
        runtime=Runtime(device="cpu"),
        rollout=roll,
    )


def weights(trained: Distiller) -> list[Tensor]:
    return [p.detach().clone() for p in trained.student.parameters()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# What a replaced row is


def test_a_replaced_row_keeps_its_prompt_and_asks_for_what_was_written() -> None:
    batch, student = questions(), model(seed=1)

    made = rollout(fraction=1.0)(batch, student, step=3)

    assert made.origin is None
    for row, start in enumerate(PROMPTS):
        ids, mask = made.inputs[row]
        length = int(mask.sum())
        assert torch.equal(ids[:start], batch.inputs[row, 0, :start])
        assert start < length <= start + 6
        assert mask[:length].all()
        assert (ids[length:] == PAD).all()
        assert (made.labels[row, : start - 1] == IGNORED).all()
        assert torch.equal(made.labels[row, start - 1 : length - 1], ids[start:length])
        assert (made.labels[row, length - 1 :] == IGNORED).all()
        assert torch.equal(made.positions[row], mask.bool())
    assert not made.labelled.any()


def test_logprobs_belong_to_the_labels() -> None:
    batch, student = questions(), model(seed=1).eval()

    made = rollout(fraction=0.5)(batch, student, step=0)

    written = ~made.labelled
    assert int(written.sum()) == 3
    asked = made.labels != IGNORED
    assert torch.equal(~made.logprobs.isnan(), asked & written[:, None])
    with torch.no_grad():
        logits = student(made.inputs)
    expected = logits.log_softmax(-1).gather(2, made.labels.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(
        made.logprobs[asked & written[:, None]], expected[asked & written[:, None]]
    )


def test_rows_that_are_not_chosen_stay_as_they_were() -> None:
    batch = questions()

    made = rollout(fraction=0.5)(batch, model(seed=1), step=0)

    for row in made.labelled.nonzero()[:, 0].tolist():
        length = batch.inputs.shape[2]
        assert torch.equal(made.inputs[row, :, :length], batch.inputs[row])
        assert not made.inputs[row, :, length:].any()
        assert torch.equal(made.labels[row, :length], batch.labels[row])
        assert (made.labels[row, length:] == IGNORED).all()


def test_of_a_chat_the_last_answer_is_written() -> None:
    ids = torch.arange(1, 13)[None]
    ones = torch.ones_like(ids)
    answers = torch.tensor([[0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]]).bool()
    chat = Batch(inputs=torch.stack([ids, ones], dim=1), labels=next_tokens(ids, ones, answers))

    made = rollout(fraction=1.0)(chat, model(seed=1), step=0)

    assert torch.equal(made.inputs[0, 0, :7], ids[0, :7])
    assert (made.labels[0, :6] == IGNORED).all(), "the first answer is not the student's"
    assert (made.labels[0, 6] != IGNORED).all()


def test_texts_without_a_question_have_their_first_tokens_as_prompt() -> None:
    ids = torch.arange(1, 25).view(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    texts = Batch(
        inputs=torch.stack([ids * mask, mask], dim=1), labels=next_tokens(ids * mask, mask)
    )

    one = rollout(fraction=1.0)(texts, model(seed=1), step=0)
    five = rollout(fraction=1.0, prompt_tokens=5)(texts, model(seed=1), step=0)

    begins = [(made.labels != IGNORED).int().argmax(1).tolist() for made in (one, five)]
    assert begins == [[0, 0], [4, 1]]  # of the short text, all but its last token


def test_rows_that_ask_nothing_are_left_alone() -> None:
    batch = questions()
    batch.labels[2] = IGNORED

    made = rollout(fraction=1.0)(batch, model(seed=1), step=0)

    assert made.labelled.tolist() == [False, False, True, False, False, False]
    assert (made.labels[2] == IGNORED).all()


# How many rows


@pytest.mark.parametrize(("fraction", "size"), [(0.5, 4), (0.3, 7), (0.1, 3), (1 / 3, 9), (1.0, 5)])
def test_the_fraction_holds_over_steps_and_hardly_differs_between_them(fraction, size) -> None:
    batch = questions([8] * size, [4] * size)
    roll, student = rollout(fraction=fraction, sampling=Sampling(max_new_tokens=1)), model(seed=1)
    roll._engine = Repeating()  # what is written is of no matter here

    made = [roll(batch, student, step=step) for step in range(60)]

    counts = [0 if m.labelled is None else int((~m.labelled).sum()) for m in made]
    assert sum(counts) == math.floor(60 * fraction * size + 1e-6)
    assert max(counts) - min(counts) <= 1
    each = sum((~m.labelled).int() for m in made if m.labelled is not None)
    expected = 60 * fraction
    assert (each - expected).abs().max() <= 3.5 * math.sqrt(expected * (1 - fraction)) + 1


class Repeating:
    """An engine that writes token 3 twice, and counts."""

    def __init__(self) -> None:
        self.prompts: list[int] = []

    def write(self, model, prompts, sampling, *, seed, keys=None):
        from potstill.generation import Written

        self.prompts.append(len(prompts))
        size = len(prompts)
        return Written(
            ids=torch.full((size, 2), 3),
            lengths=torch.full((size,), 2),
            logprobs=torch.full((size, 2), -1.0),
            ended=torch.zeros(size, dtype=torch.bool),
        )


def test_nothing_is_written_before_its_time() -> None:
    roll, batch = rollout(fraction=1.0, after=0.25, total=10), questions()

    made = [roll(batch, model(seed=1), step=step) is batch for step in range(10)]

    assert made == [True] * 3 + [False] * 7


def test_fraction_0_trains_as_without_a_rollout_bit_for_bit() -> None:
    batches = [questions(seed=seed) for seed in range(4)]
    plain, none = distiller(roll=None), distiller(roll=rollout(fraction=0.0))

    for batch in batches:
        plain.step(batch)
        none.step(batch)

    assert_same(weights(none), weights(plain))


def test_with_fraction_1_the_answers_of_the_data_do_not_matter() -> None:
    batches = [questions(seed=seed) for seed in range(3)]
    first, second = distiller(roll=rollout(fraction=1.0)), distiller(roll=rollout(fraction=1.0))

    for batch in batches:
        first.step(batch)
        ids, labels = batch.inputs[:, 0].clone(), batch.labels
        starts = torch.tensor(PROMPTS)[:, None]
        behind = (torch.arange(ids.shape[1])[None] >= starts) & batch.inputs[:, 1].bool()
        ids[behind] = 1
        other = torch.stack([ids, batch.inputs[:, 1]], dim=1)
        second.step(replace(batch, inputs=other, labels=torch.where(labels < 0, labels, 1)))

    assert_same(weights(second), weights(first))


# What is learnt from


def test_the_gradient_is_that_of_the_divergence_on_what_the_student_wrote() -> None:
    batch, student, teacher = questions(), model(seed=1), model(seed=2, width=32)
    roll = rollout(fraction=0.5)
    made = roll(batch, student, step=0)
    trained = distiller(roll=None, student=student, objective=ReverseKL(temperature=1))

    trained.prepare(made)
    loss, found = trained.gradients(made)

    exact, judge = student.double(), teacher.double().eval()
    exact.zero_grad()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(made)):
        alone = made.inputs[row : row + 1, :, : int(made.inputs[row, 1].sum())]
        q, p = exact(alone)[0].log_softmax(-1), judge(alone)[0].log_softmax(-1).detach()
        for place in (made.labels[row] != IGNORED).nonzero()[:, 0].tolist():
            total = total + (q[place].exp() * (q[place] - p[place])).sum()
            count += 1
    (total / count).backward()
    torch.testing.assert_close(loss.double(), total.detach() / count, rtol=1e-5, atol=0)
    expected = [p.grad for p in exact.parameters() if p.grad is not None]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-6)


def test_labels_are_learnt_from_the_data_alone() -> None:
    batch, student = questions(), model(seed=1)
    made = rollout(fraction=0.5)(batch, student, step=0)
    trained = distiller(roll=None, student=student, objective=CrossEntropy())
    trained.prepare(made)

    mixed_loss, mixed = trained.gradients(made)
    plain_loss, plain = trained.gradients(batch.rows(made.labelled))

    torch.testing.assert_close(mixed_loss, plain_loss)
    for mine, theirs in zip(mixed, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_micro_batches_give_the_gradient_of_the_whole(accumulate) -> None:
    batch, student = questions(), model(seed=1)
    made = rollout(fraction=0.5)(batch, student, step=0)
    whole = distiller(roll=None, student=student)
    parts = distiller(roll=None, student=student, accumulate=accumulate)
    whole.prepare(made)
    parts.prepare(made)

    _, expected = whole.gradients(made)
    _, found = parts.gradients(made)

    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_write_their_own_rows_as_one_would_write_all(ranks) -> None:
    batch, student = questions(), model(seed=1)
    alone = rollout(fraction=0.5)(batch, student, step=4)

    for rank in range(ranks):
        mine = slice(len(batch) * rank // ranks, len(batch) * (rank + 1) // ranks)
        part = rollout(fraction=0.5)(batch, student, step=4, rank=rank, ranks=ranks)
        length = min(part.inputs.shape[2], alone.inputs.shape[2])
        assert torch.equal(part.inputs[mine, :, :length], alone.inputs[mine, :, :length])
        assert torch.equal(part.labels[mine, :length], alone.labels[mine, :length])
        whole = part.labelled[mine] if part.labelled is not None else torch.ones(len(batch))[mine]
        assert torch.equal(whole.bool(), alone.labelled[mine])


# Replay


def test_the_fraction_rises_when_the_validation_loss_does() -> None:
    roll = rollout(fraction=0.0, replay=Replay(rise=0.4, tolerance=0.1))

    seen = []
    for loss in (2.0, 2.05, 2.2, 1.5, 1.7, 1.9, 2.1):
        roll.validated(loss)
        seen.append(roll.fraction)

    assert seen == pytest.approx([0, 0, 0.4, 0.4, 0.8, 1.0, 1.0])


def test_a_full_buffer_is_drawn_from_more_and_more() -> None:
    batch, engine = questions([8] * 10, [4] * 10), Repeating()
    roll = rollout(fraction=1.0, total=40, replay=Replay(capacity=25))
    roll._engine = engine

    for step in range(40):
        roll(batch, model(seed=1), step=step)
    figures = roll.figures()

    assert engine.prompts[:3] == [10, 10, 10], "until it is full, all are new"
    assert sum(engine.prompts[3:23]) > 2 * sum(engine.prompts[23:])
    expected = 30 + sum(10 * (1 - step / 40) for step in range(3, 40))
    assert figures["written"] == pytest.approx(expected, abs=8)
    assert figures["written"] + figures["replayed"] == 400
    assert figures["tokens"] == 2 * figures["written"]


def test_what_is_replayed_was_written_before() -> None:
    student, roll = model(seed=1), rollout(fraction=1.0, total=2, replay=Replay(capacity=6))
    first = roll(questions(), student, step=0)
    known = {tuple(row[0][row[1] > 0].tolist()) for row in first.inputs}

    second = roll(questions(seed=9), student, step=1)

    found = [tuple(row[0][row[1] > 0].tolist()) for row in second.inputs]
    assert sum(text in known for text in found) >= 3
    for row, text in enumerate(found):
        if text in known:
            place = [tuple(r[0][r[1] > 0].tolist()) for r in first.inputs].index(text)
            length = min(first.labels.shape[1], second.labels.shape[1])
            assert torch.equal(second.labels[row, :length], first.labels[place, :length])
            assert torch.equal(
                second.logprobs[row, :length].nan_to_num(9.0),
                first.logprobs[place, :length].nan_to_num(9.0),
            )


# Whole trainings


class Crash(Exception):
    pass


class Watch:
    """A `Progress` that breaks the training off at a step, by a crash or by Ctrl-C."""

    def __init__(self, *, crash_at: int = -1, stop_at: int = -1) -> None:
        self._crash_at, self._stop_at = crash_at, stop_at

    def begin(self, title, total_steps, done_steps) -> None:
        """Nothing."""

    def advance(self, steps_done) -> None:
        if steps_done == self._crash_at:
            raise Crash
        if steps_done == self._stop_at:
            signal.raise_signal(signal.SIGINT)

    def note(self, text) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def feed(*, shuffle: bool, size: int = 20) -> Feed:
    chance = torch.Generator().manual_seed(3)
    lengths = torch.randint(6, 16, (size,), generator=chance).tolist()
    batch = questions(lengths, [max(2, n // 2) for n in lengths], seed=5)
    samples = Samples(batch.inputs.int(), batch.ids, batch.labels)
    return Feed(
        samples=samples, batch_size=8, seed=2, normalise=Normalise(tokens=True), shuffle=shuffle
    )


def train(folder, watch: Watch | None = None, *, replay: bool = True, seconds: float = 0.0):
    settings = Replay(capacity=7, rise=0.5, tolerance=-0.0) if replay else None
    roll = rollout(fraction=0.5, after=0.2, seed=11, replay=settings)
    student = model("gpt2", seed=1)
    return distiller(roll=roll, student=student, epochs=4, checkpoint_seconds=seconds).fit(
        feed(shuffle=True), feed(shuffle=False), seed=4, folder=folder, progress=watch
    )


@pytest.mark.parametrize("replay", [True, False])
def test_a_training_that_was_broken_off_goes_on_to_the_same_weights(tmp_path, replay) -> None:
    whole = train(None, replay=replay)

    with pytest.raises(Crash):
        train(tmp_path, Watch(crash_at=5), replay=replay)
    with pytest.raises(Interrupted):
        train(tmp_path, Watch(stop_at=8), replay=replay, seconds=1000)
    resumed = train(tmp_path, replay=replay)

    assert whole.last.keys() == resumed.last.keys()
    assert all(torch.equal(resumed.last[name], value) for name, value in whole.last.items())
    assert replace_seconds(resumed.rollout) == replace_seconds(whole.rollout)
    lines = [[without_clock(line) for line in fit.record.lines] for fit in (whole, resumed)]
    assert lines[0] == lines[1]


def replace_seconds(spent):
    return replace(spent, seconds=0.0)


def without_clock(line: dict) -> dict:
    kept = {name: value for name, value in line.items() if name not in {"seconds", "rollout"}}
    written = dict(line.get("rollout", {}))
    written.pop("seconds", None)
    return {**kept, "rollout": written}


def test_the_time_of_writing_is_counted_and_reported() -> None:
    fit = train(None)

    lines = [line["rollout"] for line in fit.record.lines if line["split"] == "train"]
    assert fit.rollout is not None
    assert 0 < fit.rollout.seconds < fit.seconds
    assert sum(line["seconds"] for line in lines) == pytest.approx(fit.rollout.seconds)
    assert sum(line["tokens"] for line in lines) == fit.rollout.tokens > 0
    assert sum(line["replayed"] for line in lines) == fit.rollout.replayed > 0


# What is refused


def test_rows_of_several_texts_are_refused() -> None:
    batch = questions()
    packed = torch.cat([batch.inputs, batch.inputs[:, :1]], dim=1)

    with pytest.raises(DataError, match="without packing"):
        rollout(fraction=1.0)(replace(batch, inputs=packed), model(seed=1), step=0)


def test_batches_of_other_tasks_are_refused() -> None:
    classes = Batch(inputs=torch.zeros(4, 3), labels=torch.zeros(4, dtype=torch.int64))

    with pytest.raises(DataError, match="language models"):
        rollout(fraction=1.0)(classes, model(seed=1), step=0)


def test_a_replay_in_several_processes_is_refused() -> None:
    with pytest.raises(RecipeError, match="`replay`"):
        rollout(fraction=1.0, replay=Replay())(questions(), model(seed=1), step=0, ranks=2)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (OnPolicy, {"fraction": 1.1}),
        (OnPolicy, {"after": -0.1}),
        (OnPolicy, {"prompt_tokens": 0}),
        (Replay, {"capacity": 0}),
        (Replay, {"rise": 2.0}),
        (Replay, {"tolerance": -0.1}),
    ],
)
def test_settings_out_of_range_are_refused(kind, wrong) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        kind(**wrong)


# Terms on what was drawn


@pytest.mark.parametrize("term", [SampledReverseKL(), MiniLLM(gamma=0.7)])
def test_terms_on_drawn_tokens_learn_from_the_rows_that_the_student_wrote(term) -> None:
    batch, student, teacher = questions(), model(seed=1), model(seed=2, width=32)
    made = rollout(fraction=0.5)(batch, student, step=0)
    trained = distiller(roll=None, student=student, objective=term + 0.5 * CrossEntropy())
    trained.prepare(made)

    _, found = trained.gradients(made)

    exact, judge = student.double(), teacher.double().eval()
    exact.zero_grad()
    total, labels, counts = torch.zeros((), dtype=torch.float64), 0.0, [0, 0]
    for row in range(len(made)):
        alone = made.inputs[row : row + 1, :, : int(made.inputs[row, 1].sum())]
        q, p = exact(alone)[0].log_softmax(-1), judge(alone)[0].log_softmax(-1).detach()
        places = (made.labels[row] != IGNORED).nonzero()[:, 0].tolist()
        said = [int(made.labels[row, place]) for place in places]
        better = [float(p[at, v] - q[at, v].detach()) for at, v in zip(places, said, strict=True)]
        for number, (place, token) in enumerate(zip(places, said, strict=True)):
            drawn = not made.labelled[row]
            counts[drawn] += 1
            if not drawn:
                labels = labels - q[place, token]
                continue
            weight = (q[place, token] - made.logprobs[row, place].double()).exp()
            if isinstance(term, SampledReverseKL):
                total = total - weight * better[number]
                continue
            later = better[number + 1 :]
            follows = sum(0.7**far * each for far, each in enumerate(later, start=1)) / max(
                len(later), 1
            )
            total = total + (q[place].exp() * (q[place] - p[place])).sum() - weight * follows
    (total / counts[1] + 0.5 * labels / counts[0]).backward()
    expected = [p.grad for p in exact.parameters() if p.grad is not None]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-6)


def test_terms_on_drawn_tokens_wait_for_the_first_of_them() -> None:
    roll = rollout(fraction=1.0, after=0.5, total=4)
    trained = distiller(roll=roll, objective=SampledReverseKL(clip=0.2))
    trained.prepare(questions())
    before = weights(trained)

    losses = []
    for step in range(3):
        losses.append(float(trained.step(questions(seed=step))["loss"]))
        if step == 1:
            assert_same(weights(trained), before)

    assert losses[:2] == [0.0, 0.0]
    assert losses[2] != 0.0
    assert not torch.equal(weights(trained)[0], before[0])


def test_terms_on_drawn_tokens_are_refused_off_policy() -> None:
    with pytest.raises(HandshakeError, match="on_policy"):
        distiller(roll=None, objective=SampledReverseKL()).prepare(questions())
