"""The models of a run, and what one of them says of a sample, in words and with its time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ExportError, MissingExtra
from potstill.measure.artefacts import ROLES, as_given, find_artefacts
from potstill.measure.quality import probabilities
from potstill.measure.runners import EXECUTORCH, ONNX, open_runner
from potstill.tryout.subject import Subject

MOST_GUESSES = 5


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """A model that can be asked.

    Args:
        name: `teacher`, `distilled`, `distilled-int8`, …
        call: from samples `[1, …]` to outputs `[1, …]`.
        engine: what it runs on.
    """

    name: str
    call: Callable[[NDArray[np.generic]], NDArray[np.generic]]
    engine: str

    @property
    def role(self) -> str:
        """Whose answers these are."""
        return self.name.partition("-")[0]


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class and its probability; of values and transcripts the words alone."""

    label: str
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says. `agrees`: with the teacher; nothing for the teacher itself."""

    name: str
    role: str
    engine: str
    ms: float
    guesses: tuple[Guess, ...]
    said: str
    agrees: bool | None = None

    def to_json(self) -> dict[str, object]:
        """For the page."""
        return asdict(self)


def open_answerers(folder: Path) -> list[Answerer]:
    """The exported models of a run, teacher first; none if nothing was exported.

    Programs of ExecuTorch are left out where it is not installed.

    Raises:
        ExportError: a file is broken.
    """
    try:
        found = find_artefacts([folder], [ONNX, EXECUTORCH])
    except ExportError:
        return []
    several = {each.name for each in found if each.runtime == ONNX}
    made = []
    for each in found:
        try:
            runner = open_runner(each.path, each.runtime)
        except MissingExtra:
            continue
        name = each.name if each.runtime == ONNX or each.name not in several else f"{each.name}-pte"
        made.append(Answerer(name=name, call=_first(runner.call), engine=runner.engine))
    return in_order(made)


def in_order(found: Sequence[Answerer]) -> list[Answerer]:
    """Teacher, distilled, scratch; what was made of a model behind it."""
    order = ("teacher", "distilled", "scratch")
    assert set(order) == set(ROLES), "no role is forgotten"
    return sorted(found, key=lambda each: (order.index(each.role), each.name))


def _first(
    call: Callable[[NDArray[np.generic]], object],
) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def answer(rows: NDArray[np.generic]) -> NDArray[np.generic]:
        found = call(rows)
        return np.asarray(found[0] if isinstance(found, list | tuple) else found)

    return answer


def ask_all(
    subject: Subject, answerers: Sequence[Answerer], rows: NDArray[np.generic]
) -> list[Answer]:
    """Every model's answer to one sample, one after the other."""
    given, answers = np.ascontiguousarray(as_given(rows)), list[Answer]()
    for each in answerers:
        begin = time.perf_counter()
        outputs = each.call(given)
        taken = 1e3 * (time.perf_counter() - begin)
        guesses, said = in_words(subject, outputs[0])
        teacher = next((answer for answer in answers if answer.role == "teacher"), None)
        answers.append(
            Answer(
                name=each.name,
                role=each.role,
                engine=each.engine,
                ms=taken,
                guesses=guesses,
                said=said,
                agrees=_agrees(subject, teacher, said),
            )
        )
    return answers


def _agrees(subject: Subject, teacher: Answer | None, said: str) -> bool | None:
    if teacher is None or subject.facts.target_kind == "regression":
        return None
    return said == teacher.said


def in_words(subject: Subject, output: NDArray[np.generic]) -> tuple[tuple[Guess, ...], str]:
    """The likeliest classes, and the decision: a class, all labels, values, or a text."""
    kind = subject.facts.target_kind
    if kind == "regression":
        said = ", ".join(f"{float(value):.4g}" for value in np.atleast_1d(output))
        return (Guess(label=said),), said
    if kind == "transcript":
        text = _read_letters(subject, output)
        return (Guess(label=text or "nothing"),), text
    p_C = probabilities(output[None].astype(np.float64), kind=kind)[0]
    order = np.argsort(-p_C, kind="stable")
    guesses = tuple(
        Guess(label=subject.name(int(c)), probability=float(p_C[c])) for c in order[:MOST_GUESSES]
    )
    if kind == "multi_label":
        chosen = [subject.name(int(c)) for c in np.flatnonzero(p_C > 0.5)]
        return guesses, ", ".join(chosen) or "no label"
    return guesses, subject.name(int(order[0]))


def _read_letters(subject: Subject, logits_TV: NDArray[np.generic]) -> str:
    """CTC's shortest reading: of each frame the likeliest letter, repeats once, blanks left out."""
    best_T = logits_TV.argmax(-1)
    kept = best_T[np.diff(best_T, prepend=-1) != 0]
    return "".join(subject.name(int(letter)) for letter in kept if letter > 0)
