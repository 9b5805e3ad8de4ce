"""All models in turns, with one number of threads and each batch.

Pools of threads are made once a process by some runtimes (ExecuTorch's must not be made anew), so
each number of threads has a process of its own where such a runtime takes part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TypedDict, cast

from potstill.measure.artefacts import Artefact
from potstill.measure.latency import (
    LatencyRecord,
    Runner,
    Samples,
    Timing,
    batches_of,
    latency_of,
    time_in_turns,
)
from potstill.measure.power import EnergyPerThousand, energy_per_thousand
from potstill.measure.processes import answer, ask_afresh
from potstill.measure.ratios import Ratio, time_ratios
from potstill.measure.runners import EXECUTORCH, answering, open_runner

MOST_CALLS = 20_000  # of a model in a setting
WARMUP_CALLS = 10
PATIENCE = 20.0  # times the budget, before a process is given up
LEAST_PATIENCE_SECONDS = 600.0


class Taken(TypedDict):
    """What one batch gave, the models in their order."""

    batch: int
    latency: list[LatencyRecord]
    energy: list[EnergyPerThousand | None]
    ratios: list[Ratio]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is measured with one number of threads.

    Args:
        artefacts: the models.
        threads: inside one call.
        batches: each in turn.
        seconds: of latency, a batch.
        energy_seconds: a model and batch; 0 for none.
        watts: see `energy_per_thousand`.
        trust: let models that are Python code of the user's run.
    """

    artefacts: Sequence[Artefact]
    threads: int
    batches: Sequence[int]
    seconds: float
    energy_seconds: float
    watts: float | None = None
    trust: bool = False

    def to_json(self) -> dict[str, object]:
        """For another process."""
        models = [
            {"name": a.name, "path": str(a.path.resolve()), "runtime": a.runtime}
            for a in self.artefacts
        ]
        return {**asdict(self), "artefacts": models, "batches": list(self.batches)}

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Self:
        """What `to_json` gave."""
        models = cast("list[dict[str, str]]", told["artefacts"])
        rest = {name: told[name] for name in cls.__dataclass_fields__ if name != "artefacts"}
        artefacts = [
            Artefact(name=m["name"], path=Path(m["path"]), runtime=m["runtime"]) for m in models
        ]
        return cls(artefacts=artefacts, **rest)  # type: ignore[arg-type]


def take(work: Work, samples: Samples) -> list[Taken]:
    """The figures of every batch, in a process of its own where the runtimes need one.

    Raises:
        ExportError: a model cannot answer.
    """
    if not needs_process(work):
        return take_here(work, samples)
    budget = len(work.batches) * (work.seconds + work.energy_seconds * len(work.artefacts))
    found = ask_afresh(
        __name__,
        work.to_json(),
        samples,
        threads=work.threads,
        seconds=max(LEAST_PATIENCE_SECONDS, PATIENCE * budget),
    )
    return cast("list[Taken]", found)


def needs_process(work: Work) -> bool:
    """Whether a runtime takes part that makes its pool once a process."""
    return any(each.runtime == EXECUTORCH for each in work.artefacts)


def take_here(work: Work, samples: Samples) -> list[Taken]:
    """The same in this process."""
    names = labels_of(work.artefacts)
    runners = {
        name: open_runner(each.path, each.runtime, threads=work.threads, trust=work.trust)
        for name, each in zip(names, work.artefacts, strict=True)
    }
    return [_taken(work, runners, samples, batch) for batch in work.batches]


def rehearse(work: Work, samples: Samples) -> None:
    """One answer of every model to every batch, before time is spent on figures.

    Raises:
        ExportError: a model cannot answer; the sentence names it and the batch.
    """
    for each in work.artefacts:
        runner = open_runner(each.path, each.runtime, threads=work.threads, trust=work.trust)
        for batch in work.batches:
            answering(runner.call, each.path, batches_of(samples, batch)[0])


def labels_of(artefacts: Sequence[Artefact]) -> list[str]:
    """The name of each model, with its runtime where the name alone says too little."""
    names = [each.name for each in artefacts]
    return [
        each.name if names.count(each.name) == 1 else f"{each.name} on {each.runtime}"
        for each in artefacts
    ]


def _taken(work: Work, runners: Mapping[str, Runner], samples: Samples, batch: int) -> Taken:
    timing = Timing(
        batch=batch,
        threads=work.threads,
        repeats=MOST_CALLS,
        warmup=WARMUP_CALLS,
        seconds_budget=work.seconds,
    )
    turns = time_in_turns(runners, samples, timing=timing)
    return Taken(
        batch=batch,
        latency=[latency_of(turns[name], runner, timing) for name, runner in runners.items()],
        energy=[_energy(work, runner, samples, batch) for runner in runners.values()],
        ratios=time_ratios(turns, next(iter(turns))),
    )


def _energy(work: Work, runner: Runner, samples: Samples, batch: int) -> EnergyPerThousand | None:
    if not work.energy_seconds:
        return None
    return energy_per_thousand(
        runner.call,
        batches_of(samples, batch),
        threads=work.threads,
        seconds=work.energy_seconds,
        watts=work.watts,
    )


def _work(told: Mapping[str, object], samples: Samples) -> object:
    work = Work.from_json(told)
    rehearse(work, samples)
    return take_here(work, samples)


if __name__ == "__main__":
    answer(_work)
