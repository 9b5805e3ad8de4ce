"""Writing models as ONNX, checking their answers, timing them on ONNX Runtime, weighing them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from potstill.errors import ExportError, MissingExtra
from potstill.export.estimator import export_estimator
from potstill.export.formats import BOUNDS
from potstill.export.onnx import export_onnx
from potstill.export.parity import check_parity
from potstill.export.preprocessing import preprocessing
from potstill.export.pretrained import export_pretrained
from potstill.export.translator import export_translator
from potstill.measure.latency import (
    Runner,
    Timing,
    measure_callable,
    measure_latency,
    measure_onnx,
)
from potstill.measure.size import file_bytes, flops, num_parameters, weight_bytes
from potstill.models import ReusedHead
from potstill.pipeline.filing import write_each
from potstill.pipeline.streaming import export_streams
from potstill.pipeline.teaching import Ready
from potstill.pipeline.training import restored
from potstill.pipeline.transcribing import middling, write_transcribers
from potstill.pipeline.workshop import Workshop
from potstill.pipeline.writing import Writer, longest_written
from potstill.runtime.files import write_json
from potstill.runtime.texts import trimmed
from potstill.signals import Batch
from potstill.teachers import EstimatorTeacher

PARITY_ROWS = 256
PARITY_PICTURES = 32  # of detectors, which take large ones
TIMED_ROWS = 64
REOPENED_ROWS = 8


def export_models(shop: Workshop, ready: Ready, depends_on: list[str]) -> dict[str, object]:
    """ONNX files, parity, latency and sizes of all roles."""
    folder = shop.folder / "export"
    students = ["scratch", "distilled"]
    files = [folder / f"{n}.onnx" for n in students if _as_one_file(shop)]
    if "hf" in shop.experiment.export:
        files += [folder / name / "config.json" for name in students]
    return shop.run(
        "export", depends_on=depends_on, files=files, work=lambda: _export(shop, ready, folder)
    )


def _as_one_file(shop: Workshop) -> bool:
    """Whether models become ONNX files: asked for, or what other forms are made and timed by."""
    return any(form != "hf" for form in shop.experiment.export)


def best_seed(shop: Workshop, role: str) -> int:
    """The seed whose student was best on validation data: the one that is shipped."""
    better = 1.0 if shop.experiment.task.higher_is_better else -1.0

    def quality(seed: int) -> float:
        value = shop.ledger.outcome(f"{role}/{seed}")["validation"]
        assert isinstance(value, int | float), "a metric is a number"
        return better * value

    return max(shop.experiment.seeds, key=quality)


def _export(shop: Workshop, ready: Ready, folder: Path) -> Mapping[str, object]:
    modules: dict[str, nn.Module] = {}
    if len(ready.modules) == 1:
        modules["teacher"] = ready.modules[0].cpu()
    shipped: dict[str, int] = {}
    for role in ("scratch", "distilled"):
        shipped[role] = best_seed(shop, role)
        modules[role] = restored(
            shop.experiment.student,
            shop.models(role, shipped[role]),
            num_outputs=shop.num_outputs,
        )
    written, parity = _write(shop, ready, modules, folder)
    onnx = any(path.suffix == ".onnx" for path in written.values())
    in_torch = shop.experiment.task.kind == "tokens" and not onnx
    latency = _time(shop, modules) if in_torch else _latency(shop, ready, written)
    return {
        "files": {role: str(path.relative_to(shop.folder)) for role, path in written.items()},
        "file_bytes": {role: _bytes_of(path) for role, path in written.items()},
        "parity": parity,
        "latency": latency,
        "streaming": export_streams(shop, modules, folder),
        "shipped_seed": shipped,
        "size": _sizes(shop, ready, modules),
    }


def _raw(shop: Workshop, rows: int) -> Tensor:
    data = shop.experiment.data
    if data.normalise.tokens or shop.experiment.task.judged_by:  # what a model itself is given
        return data.normalise(data.test.inputs[:rows])
    return data.test.inputs[:rows].float()


def _write(
    shop: Workshop, ready: Ready, modules: Mapping[str, nn.Module], folder: Path
) -> tuple[dict[str, Path], dict[str, object]]:
    if "hf" in shop.experiment.export:
        return _write_pretrained(shop, modules, folder)
    if not _as_one_file(shop):
        return {}, {}
    if shop.experiment.task.kind == "transcript":
        return write_transcribers(shop, modules, folder)
    data, boxes = shop.experiment.data, shop.experiment.task.kind == "boxes"
    normalise, texts = data.normalise.as_module(), data.normalise.tokens
    told = json.dumps(preprocessing(data, shop.experiment.task.kind), ensure_ascii=False)
    bound = shop.experiment.parity.get("float32", BOUNDS["float32"])

    def write(module: nn.Module, path: Path) -> object:
        export_onnx(
            module,
            _raw(shop, 2),
            path,
            normalise=None if texts else normalise,
            labels=data.classes,
            input_description="tokens" if texts else f"{data.kind}, raw values",
            texts=texts,
            notes={"preprocessing": told},
        )
        return check_parity(
            module,
            path,
            _raw(shop, PARITY_PICTURES if boxes else PARITY_ROWS),
            normalise=normalise,
            kind=shop.experiment.task.kind,
            max_difference=bound.difference,
            min_agreement=bound.agreement,
        )

    written, parity = write_each(shop, modules, folder, write)
    if isinstance(ready.teacher, EstimatorTeacher) and ready.teacher.reads_raw:
        _write_estimator(shop, ready.teacher, folder / "teacher.onnx", written, parity)
    return written, parity


def _write_estimator(
    shop: Workshop,
    teacher: EstimatorTeacher,
    path: Path,
    written: dict[str, Path],
    parity: dict[str, object],
) -> None:
    """An estimator in the runtime of the students, if there is a way; else it is timed as it is."""
    rows = _raw(shop, PARITY_ROWS).flatten(1).numpy()
    shop.progress.note(f"exporting teacher to {path}")
    try:
        kind = shop.experiment.task.kind
        parity["teacher"] = export_estimator(teacher.estimator, rows, path, kind=kind)
    except (ExportError, MissingExtra) as error:
        shop.progress.note(f"The teacher was not exported: {error}")
        return
    written["teacher"] = path
    write_json(path.parent / "parity.json", {"models": parity})


def _write_pretrained(
    shop: Workshop, modules: Mapping[str, nn.Module], folder: Path
) -> tuple[dict[str, Path], dict[str, object]]:
    """The students as folders that Transformers opens; teachers are where they came from."""
    tokens = shop.experiment.data.tokens
    planes = trimmed(_raw(shop, REOPENED_ROWS))
    written: dict[str, Path] = {}
    parity: dict[str, object] = {}
    for role in ("scratch", "distilled"):
        written[role] = folder / role
        shop.progress.note(f"exporting {role} to {written[role]}")
        parity[role] = export_pretrained(modules[role], written[role], planes, tokens=tokens)
        if "onnx" in shop.experiment.export:
            files = folder / f"{role}-onnx"
            parity[files.name] = export_translator(modules[role], files, planes)
    write_json(folder / "parity.json", {"models": parity})
    return written, parity


def _bytes_of(path: Path) -> int:
    """Of a file, or of the weights in a folder."""
    if path.is_file():
        return file_bytes(path)
    return sum(file_bytes(file) for file in sorted(path.glob("*.safetensors")))


def _latency(shop: Workshop, ready: Ready, files: Mapping[str, Path]) -> dict[str, object]:
    measuring = shop.experiment.measuring
    timing = Timing(threads=measuring.threads, seconds_budget=measuring.seconds)
    samples = _raw(shop, TIMED_ROWS).numpy()
    if shop.experiment.task.kind == "transcript":
        samples = middling(samples)
    found: dict[str, object] = dict(measure_onnx(files, samples, timing=timing)) if files else {}
    if "teacher" not in found:
        engine = "scikit-learn interface" if ready.estimator else "torch"
        if shop.experiment.task.kind == "transcript":  # a mask beside the wave, as in training
            samples = np.stack([samples, np.ones_like(samples)], axis=1)
        found["teacher"] = measure_callable(
            _asker(shop, ready), samples, engine=engine, timing=timing
        )
    return found


def _time(shop: Workshop, modules: Mapping[str, nn.Module]) -> dict[str, object]:
    """Models of tokens as they are, on one test text of middle length, all its positions."""
    measuring = shop.experiment.measuring
    timing = Timing(threads=measuring.threads, seconds_budget=measuring.seconds)

    def caller(module: nn.Module) -> Callable[[np.ndarray], object]:
        def call(planes: np.ndarray) -> object:
            with torch.no_grad():
                rows = torch.from_numpy(planes)
                if isinstance(module, Writer):
                    return module.write(rows, longest=longest_written(shop.experiment.data))
                return module(rows)

        return call

    runners = {
        role: Runner(call=caller(module.eval()), engine="torch", version=torch.__version__)
        for role, module in modules.items()
    }
    return dict(measure_latency(runners, shop.experiment.data.example().numpy(), timing=timing))


def _asker(shop: Workshop, ready: Ready) -> Callable[[np.ndarray], object]:
    normalise = shop.experiment.data.normalise
    teacher = ready.teacher.to(torch.device("cpu"))

    def ask(rows: np.ndarray) -> object:
        raw = torch.from_numpy(np.asarray(rows))
        asked = raw[:, 0].long() if shop.experiment.task.kind == "tokens" else None  # everything
        ids = shop.experiment.data.test.ids[: len(raw)]
        return teacher.signals(Batch(inputs=normalise(raw), raw=raw, labels=asked, ids=ids))

    return ask


def _sizes(
    shop: Workshop, ready: Ready, modules: Mapping[str, nn.Module]
) -> dict[str, dict[str, int | None]]:
    sample = shop.experiment.data.example()
    sizes: dict[str, dict[str, int | None]] = {
        role: size_of([module], sample) for role, module in modules.items()
    }
    for role, module in modules.items():
        if isinstance(module, ReusedHead):
            sizes[role]["added_parameters"] = module.added_parameters
    sizes["teacher"] = size_of([m.cpu() for m in ready.modules], sample)
    return sizes


def size_of(modules: list[nn.Module], sample: Tensor) -> dict[str, int | None]:
    """Parameters, bytes and FLOPs of one sample, of all modules together."""
    if not modules:
        return {"parameters": None, "bytes": None, "flops": None}
    return {
        "parameters": sum(num_parameters(m) for m in modules),
        "bytes": sum(weight_bytes(m) for m in modules),
        "flops": sum(flops(m, sample) for m in modules),
    }
