"""Students that a search might train: made from values, and measured before they are trained."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from potstill.data.samples import DataSet
from potstill.export.onnx import export_onnx
from potstill.export.programs import export_executorch
from potstill.losses import Objective
from potstill.measure.artefacts import Artefact
from potstill.measure.fresh import start_afresh
from potstill.measure.latency import Runner, Timing, measure_latency
from potstill.measure.runners import EXECUTORCH, ONNX, TORCH, open_runner
from potstill.measure.size import file_bytes, flops, num_parameters, weight_bytes
from potstill.pipeline.experiment import Learning, MadeModel
from potstill.runtime.files import read_json, write_json
from potstill.runtime.texts import lengths_of, trimmed
from potstill.search import Targets, Values
from potstill.search.targets import FLOPS, LATENCY, MEMORY, PARAMETERS, SIZE

_SUFFIXES = {ONNX: ".onnx", EXECUTORCH: ".pte"}
_TIMED_ROWS = 64

Figures = Mapping[str, float | None]


@final
@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a trial trains.

    Args:
        model: the student.
        learning: how it learns in the trial.
        objective: what it minimises.
        recipe: YAML of the run that makes it for good.
    """

    model: MadeModel
    learning: Learning
    objective: Objective
    recipe: str


Make = Callable[[Values], Candidate]


@final
@dataclass(frozen=True, kw_only=True)
class Scales:
    """Measures candidates on the runtime they will run on; what was measured is remembered.

    Only training samples are used. Weights are random: neither size nor latency depend on them.

    Args:
        data: whose samples are the input.
        folder: where files and figures are kept, a shape each.
        runtime: `onnxruntime`, `executorch`, or `torch` for eager modules.
        threads: inside one call.
        seconds: at most for the latency of one shape.
        memory: whether working memory is measured (in a process of its own).
    """

    data: DataSet
    folder: Path
    runtime: str = ONNX
    threads: int = 1
    seconds: float = 1.0
    memory: bool = False
    _known: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def figures(self, model: MadeModel, targets: Targets) -> dict[str, float | None]:
        """What a student costs; what is slow to measure is left out where a limit is missed anyway.

        Raises:
            ModelError: it cannot be built for these data.
            ExportError: it cannot be written for the runtime.
        """
        key = self._key(model)
        if key in self._known:
            return self._known[key]
        path = self.folder / f"{key}.json"
        if path.is_file():
            found = cast("dict[str, float | None]", read_json(path)["figures"])
            self._known[key] = found
            return found
        module = model.make(0).eval()
        found = {
            PARAMETERS: float(num_parameters(module)),
            FLOPS: float(flops(module, self._example())),
            SIZE: float(weight_bytes(module)),
            LATENCY: None,
            MEMORY: None,
        }
        cheap = {q: found[q] for q in (PARAMETERS, FLOPS)}
        if targets.worst(cheap) <= 0:
            found |= self._on_runtime(model, module)
        self._known[key] = found
        write_json(path, {"figures": found, "model": model.description})
        return found

    def retimed(self, models: Mapping[str, MadeModel]) -> dict[str, float]:
        """Milliseconds a call (p50) of several students, timed in turns, so that noise hits all."""
        if not models:
            return {}
        runners = {
            name: self._runner(model, model.make(0).eval()) for name, model in models.items()
        }
        timing = Timing(threads=self.threads, seconds_budget=2 * self.seconds * len(models))
        found = measure_latency(runners, self._raw(_TIMED_ROWS).numpy(), timing=timing)
        return {name: record["p50"] for name, record in found.items()}

    def clear(self) -> None:
        """Remove the files of the models; the figures stay."""
        for suffix in _SUFFIXES.values():
            for path in self.folder.glob(f"*{suffix}*"):
                path.unlink(missing_ok=True)

    def _on_runtime(self, model: MadeModel, module: nn.Module) -> dict[str, float | None]:
        runner = self._runner(model, module)
        timing = Timing(threads=self.threads, seconds_budget=self.seconds)
        samples = self._raw(_TIMED_ROWS).numpy()
        found: dict[str, float | None] = {
            LATENCY: measure_latency({"student": runner}, samples, timing=timing)["student"]["p50"]
        }
        if self.runtime != TORCH:
            path = self._file(model)
            found[SIZE] = float(file_bytes(path))
            if self.memory:
                artefact = Artefact(name=model.name, path=path, runtime=self.runtime)
                found[MEMORY] = start_afresh(artefact, samples, threads=self.threads)["model_bytes"]
        return found

    def _runner(self, model: MadeModel, module: nn.Module) -> Runner:
        if self.runtime != TORCH:
            written = self._written(model, module)
            return open_runner(written, self.runtime, threads=self.threads)
        normalise = self.data.normalise.as_module()

        def call(rows: np.ndarray[Any, Any]) -> object:
            with torch.no_grad():
                given = torch.from_numpy(rows)
                return module(given if self.data.normalise.tokens else normalise(given))

        return Runner(call=call, engine=TORCH, version=torch.__version__)

    def _written(self, model: MadeModel, module: nn.Module) -> Path:
        path = self._file(model)
        texts = self.data.normalise.tokens
        if not path.is_file():
            write = export_onnx if self.runtime == ONNX else export_executorch
            write(
                module,
                self._raw(2),
                path,
                normalise=None if texts else self.data.normalise.as_module(),
                texts=texts,
            )
        return path

    def _file(self, model: MadeModel) -> Path:
        return self.folder / f"{self._key(model)}{_SUFFIXES[self.runtime]}"

    def _key(self, model: MadeModel) -> str:
        of = f"{model.key} {self.runtime} {self.threads} {self.memory}"
        return hashlib.sha256(of.encode()).hexdigest()[:16]

    def _raw(self, rows: int) -> Tensor:
        inputs = self.data.train.inputs[:rows]
        return self.data.normalise(inputs) if self.data.normalise.tokens else inputs.float()

    def _example(self) -> Tensor:
        """A training sample as models are given it; of texts, one of middle length."""
        inputs = self.data.train.inputs[:_TIMED_ROWS]
        if self.data.tokens is None and not self.data.normalise.is_padded:
            return self.data.normalise(inputs[:1])
        middle = int(lengths_of(inputs).argsort(stable=True)[len(inputs) // 2])
        return self.data.normalise(trimmed(inputs[middle : middle + 1]))
