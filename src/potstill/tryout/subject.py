"""What a run is about, as far as somebody who tries its models has to know."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from potstill.data.table_form import TableForm
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.errors import DataError, StorageError
from potstill.report.folder import RunFolder, read_folder
from potstill.report.records import DataFacts

KINDS = ("image", "text", "audio", "table", "signal")
ANSWERED = ("single_label", "multi_label", "regression", "transcript")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A finished run whose models can be asked.

    Args:
        run: the folder, read.
        facts: what the data are.
        shape: of one sample as the run keeps it.
        tokens: of texts.
        max_length: tokens a text at most.
        form: of tables that were read from columns.
    """

    run: RunFolder
    facts: DataFacts
    shape: tuple[int, ...]
    tokens: Tokens | None = None
    max_length: int = DEFAULT_LENGTH
    form: TableForm | None = None

    @property
    def inputs(self) -> NDArray[np.generic]:
        """`[N, …]`, the test samples that the run keeps."""
        return self.run.samples["inputs"]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, if they have names."""
        return self.facts.classes or ()

    @property
    def num_texts(self) -> int:
        """How many texts make a sample: two of pairs."""
        return 2 if self.tokens is not None and self.shape[0] > 2 else 1

    def truth(self, row: int) -> str:
        """What the data say of a test sample; nothing where that is not kept."""
        labels, ids = self.run.predictions.get("labels"), self.run.predictions.get("ids")
        if labels is None or ids is None or "ids" not in self.run.samples:
            return ""
        places = np.flatnonzero(ids == self.run.samples["ids"][row])
        if len(places) != 1:
            return ""
        label = labels[places[0]]
        if self.facts.target_kind == "single_label":
            return self.name(int(label))
        if self.facts.target_kind == "multi_label":
            return ", ".join(self.name(int(i)) for i in np.flatnonzero(label > 0.5)) or "no label"
        if self.facts.target_kind == "transcript":
            return "".join(self.name(int(n)) for n in label if n > 0)
        return ", ".join(f"{value:.4g}" for value in np.atleast_1d(label))

    def name(self, number: int) -> str:
        """Of a class."""
        return self.names[number] if number < len(self.names) else str(number)


def subject_of(folder: Path) -> Subject:
    """What lies in the folder of a finished run.

    Raises:
        StorageError: this is no finished run, or it keeps no test samples.
        DataError: its samples or answers are of a kind that the page cannot show.
    """
    run = read_folder(folder)
    if run.results is None or "inputs" not in run.samples:
        raise StorageError(
            f"{folder} is not the folder of a finished run (results.json and samples.npz are "
            "needed). Finish it with `potstill run`, or give another folder."
        )
    facts = run.results.data
    if facts.kind not in KINDS or facts.target_kind not in ANSWERED:
        raise DataError(
            f"The run {run.results.name} answers {facts.kind} samples with {facts.target_kind}, "
            f"and `try` shows {', '.join(ANSWERED)}. Look at its report.html instead."
        )
    return Subject(
        run=run,
        facts=facts,
        shape=run.samples["inputs"].shape[1:],
        tokens=_tokens(folder, facts),
        max_length=_max_length(run.recipe),
        form=_form(folder, facts),
    )


def _tokens(folder: Path, facts: DataFacts) -> Tokens | None:
    path = folder / "export" / "tokenizer"
    if facts.kind != "text" or not path.is_dir():
        return None
    return Tokens.load(str(path))


def _form(folder: Path, facts: DataFacts) -> TableForm | None:
    path = folder / "export" / "columns.json"
    return TableForm.load(path) if facts.kind == "table" and path.is_file() else None


def _max_length(recipe: str) -> int:
    """What the recipe says; runs from Python have none."""
    try:
        content = yaml.safe_load(recipe) or {}
        found = json.loads(json.dumps(content["data"]["max_length"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return DEFAULT_LENGTH
    return found if isinstance(found, int) else DEFAULT_LENGTH
