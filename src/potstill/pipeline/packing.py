"""The student in every form that is asked for, with all that is needed to use it elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast, final

from torch import Tensor, nn

from potstill.data.samples import DataSet
from potstill.errors import ExportError, MissingExtra
from potstill.export.card import model_card
from potstill.export.formats import Bound, Format, file_of
from potstill.export.manifest import (
    Artefact,
    Refused,
    artefacts_in,
    refused_in,
    write_manifest,
)
from potstill.export.parity import Parity
from potstill.export.preprocessing import preprocessing, write_preprocessing
from potstill.export.use import chosen_artefact, example_code
from potstill.export.writing import Shipment, described, refusal, write_artefact
from potstill.models import ModelConfig
from potstill.pipeline.finding import table
from potstill.protocols import Task
from potstill.runtime.files import read_json, write_json, write_text

CALIBRATED, COMPARED = 256, 1024
"""Training rows that ranges are seen on; test rows that answers are compared on."""

SHIPPED = "distilled"
"""The role that a run ships; others are on request."""

FOLDER = "export"
EXAMPLE, CARD, PARITY = "example.py", "README.md", "parity.json"
TITLE = "What is shipped"
WHOLE_KINDS = frozenset({"single_label", "multi_label", "regression", "embedding", "tokens"})
"""Of targets, those whose students are one graph from samples to answers."""


@final
@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A student on its way out.

    Args:
        module: the student.
        role: of the run.
        seed: of the student.
        data: what it was trained on.
        task: how it is scored.
        config: builds it; `None` for modules of the user's own code.
        bounds: by precision, how far the files may be from the student.
    """

    module: nn.Module
    role: str
    seed: int
    data: DataSet
    task: Task
    config: ModelConfig | None = None
    bounds: Mapping[str, Bound] = field(default_factory=dict)


def check_formats(formats: Sequence[str], task: Task) -> list[Format]:
    """The formats that this module writes, of all that are asked for.

    Raises:
        ExportError: there is no such form, or the task's students are no single graph.
    """
    asked = [name for name in dict.fromkeys(formats) if name != "hf"]
    if strange := [name for name in asked if name not in set(Format)]:
        raise ExportError(f"'{strange[0]}' is no form; the forms are {', '.join(Format)}.")
    forms = [Format(name) for name in asked]
    writes_tokens = task.kind == "tokens" and task.name != "tagging"
    beyond = [str(form) for form in forms if form is not Format.ONNX]
    if beyond and (task.kind not in WHOLE_KINDS or writes_tokens):
        raise ExportError(
            f"`{beyond[0]}` is built for students that are one graph from sample to answer "
            "(classes, labels, values, tags, embeddings), and this one is of task "
            f"{task.name or task.kind}; ask for `onnx` or `hf`."
        )
    return forms


def pack(
    student: Outgoing,
    formats: Sequence[Format],
    folder: Path,
    *,
    written: Mapping[Format, Parity] = MappingProxyType({}),
    fresh: bool = False,
) -> list[Refused]:
    """Write the forms, their proofs and all that belongs to them; return what was refused.

    Args:
        student: what is shipped.
        formats: in which forms.
        folder: made if it is missing.
        written: forms that are there already, with what their comparison found.
        fresh: files of the role that an earlier student left are removed first.

    Raises:
        ExportError: the student has no samples to be compared on.
        StorageError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = preprocessing(student.data, student.task.kind)
    beside = write_preprocessing(folder, told, student.data)
    kept = _kept(folder, student, formats, written=written, fresh=fresh)
    refused: list[Refused] = []
    made: list[Artefact] = []
    shipment = shipment_of(student, told)
    for form in formats:
        if form in written:
            path = folder / file_of(form, student.role)
            made.append(described(shipment, form, path, written[form]))
            continue
        try:
            made.append(write_artefact(shipment, form, folder))
        except (ExportError, MissingExtra) as error:
            refused.append(refusal(form, student.role, error))
    mine = [*(a for a in kept if a["role"] == student.role), *made]
    if (chosen := chosen_artefact(mine)) and student.task.kind in WHOLE_KINDS:
        labelled = student.data.classes is not None
        write_text(folder / EXAMPLE, example_code(chosen, told, labelled=labelled))
        beside.append(folder / EXAMPLE)
    write_manifest(folder, [*kept, *made], refused=refused, beside=beside)
    _note_parity(folder, [*kept, *made])
    return refused


def shipment_of(student: Outgoing, told: Mapping[str, object]) -> Shipment:
    """The student with the rows it is calibrated on and judged by."""
    data, task = student.data, student.task
    texts = data.normalise.tokens
    return Shipment(
        module=student.module.cpu(),
        role=student.role,
        seed=student.seed,
        kind=task.kind,
        calibration=_rows(data, data.train.inputs[:CALIBRATED]),
        samples=_rows(data, data.test.inputs[:COMPARED]),
        normalise=None if texts else data.normalise.as_module(),
        texts=texts,
        labels=data.classes,
        described="tokens" if texts else f"{data.kind}, raw values",
        notes={"preprocessing": json.dumps(told, ensure_ascii=False)},
        config=student.config,
        bounds=student.bounds,
    )


def shipped_figures(folder: Path, role: str) -> dict[str, object]:
    """What `results.json` keeps of a role's artefacts: form, size, precision, parity."""
    kept = ("format", "file", "seed", "precision", "bytes")
    figures = ("relative", "agreement", "limit", "min_agreement", "rows", "engine", "version")
    return {
        "artefacts": [
            {key: entry[key] for key in kept} | {key: parity.get(key) for key in figures}
            for entry in cast("list[Mapping[str, object]]", artefacts_in(folder, role))
            for parity in [cast("Mapping[str, object]", entry["parity"])]
        ],
        "refused": [dict(one) for one in refused_in(folder, role)],
    }


def shipped_table(folder: Path, role: str) -> list[dict[str, object]]:
    """The report's table of a role's artefacts; none if there are none."""
    rows = []
    for artefact in artefacts_in(folder, role):
        parity, agreed = artefact["parity"], artefact["parity"].get("agreement")
        rows.append(
            [
                f"`{artefact['file']}`",
                artefact["precision"],
                f"{artefact['bytes']:,}",
                f"{parity['relative']:.2g}",
                "–" if agreed is None else f"{100 * cast('float', agreed):.2f} %",
                f"{parity.get('engine', '')} {parity.get('version', '')}".strip(),
            ]
        )
    rows += [[one["format"], "refused", "–", "–", "–", ""] for one in refused_in(folder, role)]
    if not rows:
        return []
    note = (
        f"Files of the {role} student, each compared with it on test samples in the runtime it is "
        "for. The difference is the largest one of two logits, relative to the largest logit."
    )
    columns = ["file", "precision", "bytes", "difference", "same decision", "compared in"]
    return [table(TITLE, note, columns, rows)]


def write_card(folder: Path, results: Mapping[str, object], role: str) -> None:
    """README.md beside the artefacts: the model's card, its files, the example."""
    example = folder / EXAMPLE
    code = example.read_text(encoding="utf-8") if example.is_file() else ""
    files = cast("list[Mapping[str, object]]", artefacts_in(folder, role))
    write_text(folder / CARD, model_card(results, role, files=files, example=code))


def _rows(data: DataSet, inputs: Tensor) -> Tensor:
    return data.normalise(inputs) if data.normalise.tokens else inputs.float()


def _kept(
    folder: Path,
    student: Outgoing,
    formats: Sequence[Format],
    *,
    written: Mapping[Format, Parity],
    fresh: bool,
) -> list[Artefact]:
    """What stays of an earlier export; other seeds' files of this role would be mixed up."""
    again = {file_of(form, student.role) for form in formats}
    kept: list[Artefact] = []
    for artefact in artefacts_in(folder):
        mine = artefact["role"] == student.role
        stale = mine and (fresh or artefact["seed"] != student.seed)
        if not stale and artefact["file"] not in again:
            kept.append(artefact)
            continue
        for name in artefact["files"] if artefact["format"] not in written else ():
            (folder / name).unlink(missing_ok=True)
    return kept


def _note_parity(folder: Path, artefacts: Sequence[Artefact]) -> None:
    """`parity.json`, which keeps what other stages wrote there."""
    path = folder / PARITY
    content = dict(read_json(path)) if path.is_file() else {}
    content.pop("format", None)
    content["artefacts"] = {artefact["file"]: artefact["parity"] for artefact in artefacts}
    write_json(path, content)
