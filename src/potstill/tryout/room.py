"""A run that is tried: a question in, all answers out."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

import numpy as np

from potstill.errors import ExportError
from potstill.measure.artefacts import ROLES
from potstill.report.pictures import Picture
from potstill.tryout.answering import Answerer, ask_all, in_order, open_answerers
from potstill.tryout.reading import Question, read_question, shown
from potstill.tryout.subject import Subject, subject_of

SHOWN_SAMPLES = 24

More = Callable[[Sequence[str]], Sequence[Answerer]]


@final
class Room:
    """The models of a run, ready to be asked; one question at a time.

    Args:
        folder: of a finished run.
        more: asked for the models of those roles that were not exported.

    Raises:
        StorageError: this is not the folder of a finished run.
        DataError: its models answer what the page cannot show.
        ExportError: there is no model to ask.
    """

    def __init__(self, folder: Path, *, more: More = lambda _: ()) -> None:
        self.subject: Subject = subject_of(folder)
        exported = open_answerers(folder)
        there = {each.role for each in exported}
        absent = [role for role in ROLES if role not in there]
        self.answerers = in_order([*exported, *(more(absent) if absent else ())])
        if not self.answerers:
            raise ExportError(
                f"{folder} holds no model to ask: nothing was exported. Run its recipe again with "
                "export=[onnx], or leave out --exported."
            )
        self._lock = threading.Lock()
        self._warm_up()

    def ask(self, question: Question) -> dict[str, object]:
        """What the page is told: the sample as models see it, and every model's answer.

        `ms` is the whole time on this side, the models' own included.

        Raises:
            DataError: the question is broken, or of another kind.
        """
        begin = time.perf_counter()
        asked = read_question(self.subject, question)
        with self._lock:
            answers = ask_all(self.subject, self.answerers, asked.rows)
        return {
            "picture": asdict(asked.picture),
            "truth": asked.truth,
            "answers": [answer.to_json() for answer in answers],
            "ms": 1e3 * (time.perf_counter() - begin),
        }

    def samples(self) -> list[tuple[int, str, Picture]]:
        """Some test samples: number, what the data say, and how they look."""
        count = len(self.subject.inputs)
        chosen = np.linspace(0, count - 1, min(SHOWN_SAMPLES, count)).round().astype(int)
        return [
            (int(n), self.subject.truth(int(n)), shown(self.subject, self.subject.inputs[n]))
            for n in dict.fromkeys(chosen.tolist())
        ]

    def _warm_up(self) -> None:
        """Every model once, so that nobody's first answer waits for its memory."""
        self.ask({"kind": "sample", "number": 0})
