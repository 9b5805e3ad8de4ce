"""What all stages of a run share: the experiment, the folder, the ledger, the runtime."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import final

import potstill
from potstill.data.feed import Feed
from potstill.data.samples import Samples
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.hastening import Hastening
from potstill.pipeline.ledger import Ledger
from potstill.runtime.fabric import Runtime
from potstill.runtime.progress import Progress
from potstill.runtime.tracking import make_loggers
from potstill.train.handshake import Agreement

EVALUATION_BATCH = 1000
TEXT_BATCHES = {"cpu": 16}  # texts in order, padded to the longest: on a CPU padding costs
TEXT_BATCH = 128
SOUND_BATCH = 64  # of unequal length


@final
class Workshop:
    """The common ground of the stages.

    Args:
        experiment: what the run is about.
        folder: where it lives.
        ledger: which stages are done.
        progress: told of what happens.
        cache: where times of this machine are remembered for other runs; `None` for nowhere.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        *,
        ledger: Ledger,
        progress: Progress,
        cache: Path | None = None,
    ) -> None:
        self.experiment, self.folder = experiment, folder
        self.ledger, self.progress = ledger, progress
        self.runtime = Runtime(
            device=experiment.device,
            precision=experiment.precision,
            loggers=make_loggers(experiment.track, run=experiment.name, folder=folder),
        )
        self.hastening = Hastening(
            experiment, self.runtime, folder, note=progress.note, cache=cache
        )
        self.data_key = experiment.data.fingerprint()
        self.stages: list[str] = []
        self.warnings: list[str] = list(experiment.data.notes)
        self.store: Mapping[str, object] | None = None  # what was decided about it, and why
        self.pairing: tuple[str, ...] = ()  # which layers are compared, and how

    def key(self, *parts: object) -> list[str]:
        """What every stage's hash begins with, and the parts that are its own."""
        e = self.experiment
        speed = e.bounds if self.hastening.is_on else self.hastening.usual.name
        common = (
            potstill.__version__,
            self.data_key,
            e.task.name or e.task.kind,
            e.precision,
            speed,
        )
        made_with = [str(vars(e.task))] if vars(e.task) else []  # options of the task
        found = (*common, *made_with, self.runtime.device.type, *parts)
        return [str(part) for part in found]

    def settle(self, agreement: Agreement) -> Experiment:
        """The experiment with names where layers were `auto`, from now on that of all stages."""
        self.pairing = agreement.pairing
        self.hastening.learn_from(agreement.named)
        self.experiment = replace(self.experiment, objective=agreement.named)
        return self.experiment

    def run(
        self, stage: str, *, depends_on: Iterable[str], files: Iterable[Path], work: object
    ) -> dict[str, object]:
        """`Ledger.run`, remembering that the run has this stage."""
        self.stages.append(stage)
        assert callable(work), "work is a function"
        return self.ledger.run(stage, depends_on=depends_on, files=files, work=work)

    def feed(self, samples: Samples) -> Feed:
        """Samples as they are, in order, for evaluation."""
        return Feed(
            samples=samples,
            batch_size=self._batch_size(),
            seed=0,
            normalise=self.experiment.data.normalise,
            device=str(self.runtime.device),
            shuffle=False,
            keep_raw=True,
        )

    def _batch_size(self) -> int:
        if self.experiment.task.kind in ("tokens", "boxes"):
            # as many as a step of training holds in memory
            settings = self.experiment.learning.settings
            return max(1, settings.batch_size // settings.accumulate)
        if self.experiment.data.normalise.masked:
            return SOUND_BATCH
        if self.experiment.data.tokens is None:
            return EVALUATION_BATCH
        return TEXT_BATCHES.get(self.runtime.device.type, TEXT_BATCH)

    def warn(self, text: str) -> None:
        """Say something loudly: now, in `results.json` and in the report."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.progress.note(f"warning: {text}")

    @property
    def num_outputs(self) -> int:
        """Of every model of the run."""
        return self.experiment.data.num_outputs

    def models(self, role: str, number: int) -> Path:
        """Where a trained model lives."""
        return self.folder / "models" / role / f"seed-{number}"
