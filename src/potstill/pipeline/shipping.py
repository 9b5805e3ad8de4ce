"""The stage that ships: the distilled student of a run in every form that its recipe asks for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from potstill.data.samples import DataSet
from potstill.errors import ExportError
from potstill.export.formats import Bound, Format
from potstill.export.manifest import MANIFEST, Refused
from potstill.export.parity import Parity
from potstill.models import ModelConfig, load_model
from potstill.pipeline.packing import (
    FOLDER,
    SHIPPED,
    TITLE,
    Outgoing,
    check_formats,
    pack,
    shipped_figures,
    shipped_table,
    write_card,
)
from potstill.pipeline.run import Run
from potstill.pipeline.training import restored
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Task
from potstill.report import write_report
from potstill.runtime.files import write_json


def ship_models(shop: Workshop, exported: Mapping[str, object], depends_on: list[str]) -> None:
    """Write what the recipe asks for beside the ONNX files; what is refused is a warning.

    Students that are no single file (language models, translators) are folders already.
    """
    e, folder = shop.experiment, shop.folder / FOLDER
    forms = check_formats(e.export, e.task)
    files = cast("Mapping[str, str]", exported["files"])
    if not forms or not files.get(SHIPPED, "").endswith(".onnx"):
        return
    seed = cast("Mapping[str, int]", exported["shipped_seed"])[SHIPPED]
    parity = cast("Mapping[str, Parity]", exported["parity"])[SHIPPED]

    def work() -> dict[str, object]:
        home = shop.models(SHIPPED, seed)
        student = Outgoing(
            module=restored(e.student, home, num_outputs=shop.num_outputs),
            role=SHIPPED,
            seed=seed,
            data=e.data,
            task=e.task,
            config=_config_in(home),
            bounds=e.parity,
        )
        for form in forms:
            shop.progress.note(f"shipping {SHIPPED} as {form}")
        all_forms = list(dict.fromkeys([Format.ONNX, *forms]))
        refused = pack(student, all_forms, folder, written={Format.ONNX: parity}, fresh=True)
        return {"refused": [dict(one) for one in refused]}

    bounds = str(sorted(e.parity.items()))
    outcome = shop.run(
        "ship", depends_on=[*depends_on, bounds], files=[folder / MANIFEST], work=work
    )
    for one in cast("list[Refused]", outcome["refused"]):
        shop.warn(f"`{one['format']}` is not shipped: {one['reason']}")


def ship_again(
    run: Run,
    data: DataSet,
    task: Task,
    formats: Sequence[str],
    *,
    role: str = SHIPPED,
    seed: int | None = None,
    out: Path | None = None,
    bounds: Mapping[str, Bound],
    trust: bool = False,
    student: nn.Module | None = None,
) -> Path:
    """Ship a student of a finished run in further forms, after the run.

    Args:
        run: finished.
        data: what it was trained on.
        task: how it is scored.
        formats: names of forms.
        role: whose student.
        seed: which one; the one that the run ships if left out.
        out: a folder; `export` in the run folder, whose results and report then say so too.
        bounds: by precision.
        trust: whether code that the student's config names may run.
        student: with its weights, if a file cannot build it.

    Returns:
        The folder.

    Raises:
        ExportError: nothing could be shipped, or a form of the task does not exist; the sentence
            names every form that was refused.
        ModelError: the run has no such student, or it came from the user's own code.
    """
    forms = check_formats(formats, task)
    chosen = _seed_of(run, role) if seed is None else seed
    home = run.folder / "models" / role / f"seed-{chosen}"
    module = student if student is not None else load_model(home, trust=trust)[0]
    outgoing = Outgoing(
        module=module.eval(),
        role=role,
        seed=chosen,
        data=data,
        task=task,
        config=_config_in(home),
        bounds=bounds,
    )
    folder = run.folder / FOLDER if out is None else out
    refused = pack(outgoing, forms, folder)
    write_card(folder, run.results, role)
    if out is None:
        _tell(run, role)
    if refused:
        lines = "\n".join(f"  - {one['format']}: {one['reason']}" for one in refused)
        raise ExportError(f"{len(refused)} of {len(forms)} forms were not shipped:\n{lines}")
    return folder


def write_cards(folder: Path, results: Mapping[str, object]) -> None:
    """README.md beside the artefacts of a run, if there are any."""
    if (folder / MANIFEST).is_file():
        write_card(folder, results, SHIPPED)


def _tell(run: Run, role: str) -> None:
    """Results and report with what is shipped now."""
    folder, results = run.folder / FOLDER, {**run.results}
    results.pop("format", None)
    models = {**run.models}
    models[role] = {**models[role], **shipped_figures(folder, role)}
    found = cast("list[Mapping[str, object]]", results.get("findings") or [])
    kept = [each for each in found if each["title"] != TITLE]
    results |= {"models": models, "findings": [*kept, *shipped_table(folder, role)]}
    write_json(run.folder / "results.json", results)
    write_report(run.folder)


def _seed_of(run: Run, role: str) -> int:
    """The seed that the run shipped; of models that are trained once, the first there is."""
    model = run.models.get(role)
    if not model:
        known = ", ".join(run.models)
        raise ExportError(f"The run has no role '{role}'; it has {known}.")
    shipped = model.get("shipped_seed")
    if isinstance(shipped, int):
        return shipped
    found = sorted((run.folder / "models" / role).glob("seed-*"))
    return int(found[0].name.removeprefix("seed-")) if found else 0


def _config_in(home: Path) -> ModelConfig | None:
    path = home / "config.json"
    if not path.is_file():
        return None
    return ModelConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
