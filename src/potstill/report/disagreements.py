"""Where student and teacher disagree on the test data, with the samples themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from potstill.report.answers import Answers, Bools, Floats, errors_of, probabilities
from potstill.report.folder import RunFolder
from potstill.report.pictures import (
    Picture,
    image_picture,
    signal_picture,
    sound_picture,
    table_picture,
    text_picture,
)
from potstill.report.transcripts import text_of

CARDS_PER_GROUP = 8
_TOP = 3
_CLOSE = 80  # per cent of regression answers that count as close


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One entry of a model's answer: a class with its probability, or a value (no probability)."""

    label: str
    probability: float | None
    correct: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one model says about one sample."""

    role: str
    guesses: tuple[Guess, ...]
    correct: bool


@dataclass(frozen=True, kw_only=True)
class Card:
    """One sample, its truth, and what each model says."""

    id: int
    truth: str
    picture: Picture | None
    opinions: tuple[Opinion, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The samples of one kind of disagreement: how many there are, and some of them."""

    key: str
    title: str
    count: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What a card is made from: one seed, and how much error still counts as right."""

    run: RunFolder
    answers: Answers
    seed: int
    limit: float
    rows: Mapping[int, int]  # sample → row in `samples.npz`


@dataclass(frozen=True, kw_only=True)
class Disagreements:
    """Teacher and distilled student, sample by sample, for one seed."""

    seed: int
    total: int
    both_right: int
    groups: tuple[Group, ...]
    rule: str


def find_disagreements(run: RunFolder, answers: Answers) -> Disagreements | None:
    """Count and pick the samples on which a model is wrong; nothing without a teacher."""
    if "teacher" not in answers.by_role or "distilled" not in answers.by_role:
        return None
    if answers.kind == "tokens":  # whose rows are no samples
        return None
    seed = answers.first_seed()
    teacher, student = (errors_of(answers, role, seed=seed) for role in ("teacher", "distilled"))
    limit = 0.0
    if answers.kind == "regression":
        limit = float(np.percentile(np.concatenate([teacher, student]), _CLOSE))
    wrong_t, wrong_s = teacher > limit, student > limit
    rows = {int(sample): row for row, sample in enumerate(run.samples.get("ids", ()))}
    scene = _Scene(run=run, answers=answers, seed=seed, limit=limit, rows=rows)
    margin = _margin(answers, seed=seed)
    kinds = (
        ("student", "Teacher right, student wrong", ~wrong_t & wrong_s),
        ("teacher", "Student right, teacher wrong", wrong_t & ~wrong_s),
        ("both", "Both wrong", wrong_t & wrong_s),
    )
    return Disagreements(
        seed=seed,
        total=len(student),
        both_right=int((~wrong_t & ~wrong_s).sum()),
        groups=tuple(
            _group(scene, margin, key=key, title=title, members=members)
            for key, title, members in kinds
        ),
        rule=_rule(answers.kind, limit),
    )


def _rule(kind: str, limit: float) -> str:
    if kind == "regression":
        return f"An answer counts as right when it is off by at most {limit:.3g}."
    if kind == "transcript":
        return "An answer counts as right when every letter is."
    if kind == "multi_label":
        return "An answer counts as right when every label of the sample is right."
    return ""


def _margin(answers: Answers, *, seed: int) -> Floats:
    """`[N]` how far apart teacher and student are; the clearest cases are shown first."""
    teacher, student = (answers.of(role, seed=seed) for role in ("teacher", "distilled"))
    if answers.kind == "transcript":
        return np.abs(teacher[:, 0].astype(np.float64) - student[:, 0])
    if answers.kind == "regression" or teacher.shape != student.shape:
        gap = errors_of(answers, "teacher", seed=seed) - errors_of(answers, "distilled", seed=seed)
        return np.abs(gap)
    apart = probabilities(teacher, answers.kind) - probabilities(student, answers.kind)
    return np.asarray(np.abs(apart).sum(axis=1), dtype=np.float64)


def _group(scene: _Scene, margin: Floats, *, key: str, title: str, members: Bools) -> Group:
    ids = scene.answers.ids
    shown = [i for i in np.flatnonzero(members) if not scene.rows or int(ids[i]) in scene.rows]
    shown.sort(key=lambda i: -margin[i])
    cards = tuple(_card(scene, int(i)) for i in shown[:CARDS_PER_GROUP])
    return Group(key=key, title=title, count=int(members.sum()), cards=cards)


def _card(scene: _Scene, i: int) -> Card:
    answers = scene.answers
    row = scene.rows.get(int(answers.ids[i]))
    return Card(
        id=int(answers.ids[i]),
        truth=_truth(answers, i),
        picture=None if row is None else _picture(scene.run, row),
        opinions=tuple(_opinion(scene, role, i) for role in answers.main_roles),
    )


def _truth(answers: Answers, i: int) -> str:
    if answers.kind == "regression":
        return ", ".join(f"{value:.4g}" for value in np.atleast_1d(answers.labels[i]))
    if answers.kind == "transcript":
        return text_of(answers.labels[i], answers.names)
    if answers.kind == "multi_label":
        return ", ".join(_labels(answers, answers.labels[i] > 0.5)) or "no label"
    return _name(answers, int(answers.labels[i]))


def _labels(answers: Answers, chosen: Bools) -> list[str]:
    return [_name(answers, int(c)) for c in np.flatnonzero(chosen)]


def _name(answers: Answers, index: int) -> str:
    return answers.names[index] if 0 <= index < len(answers.names) else str(index)


def _opinion(scene: _Scene, role: str, i: int) -> Opinion:
    answers = scene.answers
    values = answers.of(role, seed=scene.seed)[i : i + 1]
    correct = bool(errors_of(answers, role, seed=scene.seed)[i] <= scene.limit)
    if answers.kind == "regression":
        said = ", ".join(f"{value:.4g}" for value in values[0])
        off = ", ".join(f"{v:+.3g}" for v in values[0] - answers.labels[i])
        guess = Guess(label=said, probability=None, correct=correct, note=f"off by {off}")
        return Opinion(role=role, guesses=(guess,), correct=correct)
    if answers.kind == "transcript":
        said = text_of(values[0, 1:], answers.names) or "nothing"
        guess = Guess(label=said, probability=None, correct=correct)
        return Opinion(role=role, guesses=(guess,), correct=correct)
    probs = probabilities(values, answers.kind)[0]
    guesses = tuple(
        Guess(
            label=_name(answers, int(c)),
            probability=float(probs[c]),
            correct=_is_true(answers, i, int(c)),
        )
        for c in np.argsort(-probs, kind="stable")[:_TOP]
    )
    return Opinion(role=role, guesses=guesses, correct=correct)


def _is_true(answers: Answers, i: int, index: int) -> bool:
    if answers.kind == "multi_label":
        return bool(answers.labels[i][index] > 0.5)
    return bool(answers.labels[i] == index)


def _picture(run: RunFolder, row: int) -> Picture | None:
    inputs = run.samples.get("inputs")
    facts = run.results.data if run.results else None
    if inputs is None or facts is None or row >= len(inputs):
        return None
    sample, texts = inputs[row], run.samples.get("texts")
    if texts is not None and row < len(texts):
        return text_picture(str(texts[row]))
    if facts.kind == "audio" and facts.sampling_rate is not None:
        return sound_picture(_heard(sample), sampling_rate=facts.sampling_rate)
    if facts.kind == "image" and sample.ndim == 3:
        return image_picture(sample)
    if facts.kind == "signal" and sample.ndim == 2:
        return signal_picture(sample)
    if sample.ndim == 1:
        return table_picture(row, rows_MF=inputs, names=facts.features or ())
    return None


def _heard(sample: np.ndarray) -> np.ndarray:
    """The wave of a sample; of unequal lengths, without what pads it."""
    wave: np.ndarray = sample[0] if len(sample) == 1 else sample[0][: int(sample[1].sum())]
    return wave
