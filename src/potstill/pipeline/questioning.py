"""What models are asked beside the answers that metrics are made of: to write, to be examined."""

import json
from collections.abc import Mapping
from typing import final

from torch import nn

from potstill.pipeline.examining import can_write, exam_of, transcript
from potstill.pipeline.harnessing import Harnessed
from potstill.pipeline.pairing import Paired
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.pipeline.writing import Texts
from potstill.protocols import Teacher
from potstill.runtime.files import write_text

ANSWERED, TEXTS = "written.jsonl", "texts.jsonl"


@final
class Oral:
    """Texts, prompts, tasks of a harness and pairs of sentences; each asks only where it applies.

    Args:
        shop: the run.
        ready: its teacher.
    """

    def __init__(self, shop: Workshop, ready: Ready) -> None:
        self._shop, self._ready = shop, ready
        self._exam = exam_of(shop.experiment.data, count=shop.experiment.measuring.prompts)
        self._answered: dict[str, list[str]] = {}
        self._harnessed, self._paired = Harnessed(shop, ready), Paired(shop)
        self.texts = Texts(shop)

    def teacher(self, which: str, teacher: Teacher) -> None:
        """Ask the teacher, with its `selected`, `last` or `best` weights."""
        self.texts.write(which, "teacher_0", teacher)
        if which != "selected":
            return
        self._paired.ask("teacher_0", teacher)
        if len(self._ready.modules) == 1:
            self._examine("teacher_0", self._ready.modules[0].to(self._shop.runtime.device))

    def student(self, which: str, name: str, module: nn.Module) -> None:
        """Ask a student."""
        self.texts.write(which, name, module)
        if which == "selected":
            self._paired.ask(name, module)
            self._examine(name, module)

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """Of each model with its selected weights; what was written is kept for people to read."""
        self.texts.save(self._shop.folder / TEXTS)
        if self._exam is None:
            more = self.texts.scores("selected")
        else:
            lines = transcript(self._exam, self._answered)
            text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
            write_text(self._shop.folder / ANSWERED, text)
            more = {name: self._exam.scores(said) for name, said in self._answered.items()}
        return self._paired.beside(self._harnessed.beside(more))

    def _examine(self, name: str, module: nn.Module) -> None:
        self._harnessed.ask(name, module)
        if self._exam is not None and can_write(module):
            self._answered[name] = self._exam.answers(module)
