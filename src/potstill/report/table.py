"""The side-by-side table of teacher, scratch and distilled, for the page and for Markdown."""

from collections.abc import Callable
from dataclasses import dataclass

from potstill.report import wording
from potstill.report.records import ModelResult, Results, Summary


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, and in small what belongs to it: its interval, or its conditions."""

    value: str
    small: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity for every role. `hint` says what it is; `group` starts a part of the table."""

    label: str
    cells: tuple[Cell, ...]
    hint: str = ""
    group: str = ""
    primary: bool = False


def side_by_side(results: Results) -> tuple[Row, ...]:
    """All quantities that at least one role has, in reading order."""
    models = [results.models[role] for role in results.roles()]
    rows = [*_quality(results, models), *_cost(models)]
    return tuple(row for row in rows if any(cell.value != wording.NONE for cell in row.cells))


def _quality(results: Results, models: list[ModelResult]) -> list[Row]:
    names = dict.fromkeys([results.primary, *(m for model in models for m in model.test)])
    rows = [
        Row(
            label=wording.metric_name(metric),
            cells=tuple(_summary(model.test.get(metric), metric) for model in models),
            group="Quality on the test data" if metric == results.primary else "",
            hint="decides" if metric == results.primary else "",
            primary=metric == results.primary,
        )
        for metric in names
    ]
    last = Row(
        label=f"{wording.metric_name(results.primary)} at the last epoch",
        cells=tuple(_summary(m.test_last.get(results.primary), results.primary) for m in models),
        hint="without selecting the best epoch on the validation data",
    )
    best = Row(
        label=f"{wording.metric_name(results.primary)} at the best epoch",
        cells=tuple(_summary(m.test_best.get(results.primary), results.primary) for m in models),
        hint="the epoch with the best validation figure",
    )
    agreement = Row(
        label="Agreement with the teacher",
        cells=tuple(_summary(model.agreement, "agreement") for model in models),
    )
    gain = Row(
        label="More agreement than scratch",
        cells=tuple(_gain(model.agreement_gain) for model in models),
        hint="in points, seed by seed",
    )
    calibration = dict.fromkeys(name for model in models for name in model.calibration)
    return [
        *rows,
        last,
        best,
        agreement,
        gain,
        *(_calibration(models, name) for name in calibration),
    ]


def _gain(summary: Summary | None) -> Cell:
    if summary is None:
        return Cell(value=wording.NONE)
    value = wording.signed(summary.mean, metric="agreement")
    return Cell(value=value, small=wording.spread(summary, metric="agreement"))


def _calibration(models: list[ModelResult], name: str) -> Row:
    found = [model.calibration.get(name, Summary()) for model in models]
    return Row(
        label=wording.metric_name(name),
        cells=tuple(
            Cell(
                value=wording.NONE if s.mean is None else f"{s.mean:.4f}",
                small=wording.spread(s, metric=name),
            )
            for s in found
        ),
        hint="lower is better",
    )


def _summary(summary: Summary | None, metric: str) -> Cell:
    if summary is None:
        return Cell(value=wording.NONE)
    value = wording.score(summary.mean, metric=metric)
    return Cell(value=value, small=wording.spread(summary, metric=metric))


def _cost(models: list[ModelResult]) -> list[Row]:
    def row(label: str, show: Callable[[ModelResult], str], *, hint: str = "") -> Row:
        return Row(label=label, cells=tuple(Cell(value=show(m)) for m in models), hint=hint)

    first = row("Parameters", lambda m: wording.count(m.parameters))
    parts = [
        Row(label=first.label, cells=first.cells, group="What it costs"),
        row("Size of the weights", lambda m: wording.size(m.bytes)),
        row("Exported file", lambda m: wording.size(m.file_bytes)),
        row("FLOPs", lambda m: wording.count(m.flops), hint="for one sample"),
    ]
    latency = [
        Row(
            label=f"Latency {name}",
            cells=tuple(_latency(model, name, alone=not shared) for model in models),
            hint=shared,
        )
        for shared in [_shared_conditions(models)]
        for name in ("p50", "p95", "p99")
    ]
    throughput = row("Samples a second", _throughput, hint="one call after the other")
    training = row("Training time", lambda m: wording.seconds(m.train_seconds), hint="one seed")
    energy = row("Energy of training", lambda m: wording.energy(m.energy_wh), hint="an estimate")
    carbon = row("Carbon of training", lambda m: wording.grams(m.co2_g), hint="an estimate")
    return [*parts, *latency, throughput, *_streaming(models), training, energy, carbon]


def _streaming(models: list[ModelResult]) -> list[Row]:
    """Of models that hear: what each chunk of a stream takes."""

    def cell(model: ModelResult, name: str) -> Cell:
        heard = model.streaming
        if heard is None or heard.p50 is None:
            return Cell(value=wording.NONE)
        if name == "factor":
            return Cell(value=f"{heard.real_time_factor:.2g}")
        return Cell(value=wording.milliseconds(heard.p50 if name == "p50" else heard.p95))

    heard = next((m.streaming for m in models if m.streaming is not None), None)
    if heard is None:
        return []
    told = (
        f"{heard.hop_ms:g} ms of sound at a time, window {heard.window_ms:g} ms, look-ahead "
        f"{heard.look_ahead_ms:g} ms"
    )
    names = {"Streaming, a chunk p50": "p50", "Streaming, a chunk p95": "p95"}
    rows = [
        Row(label=label, cells=tuple(cell(model, name) for model in models), hint=told)
        for label, name in names.items()
    ]
    factor = Row(
        label="Real-time factor",
        cells=tuple(cell(model, "factor") for model in models),
        hint="computing time over the chunk's own time",
    )
    return [*rows, factor]


def _latency(model: ModelResult, name: str, *, alone: bool) -> Cell:
    if model.latency_ms is None:
        return Cell(value=wording.NONE)
    taken = model.latency_ms
    value = {"p50": taken.p50, "p95": taken.p95, "p99": taken.p99}[name]
    small = conditions(model) if alone and name == "p50" else ""
    return Cell(value=wording.milliseconds(value), small=small)


def _throughput(model: ModelResult) -> str:
    taken = model.latency_ms
    return wording.NONE if taken is None else wording.count(taken.samples_per_second)


def conditions(model: ModelResult) -> str:
    """How the latency of a model was taken: `onnxruntime, 1 thread, batch 1`."""
    taken = model.latency_ms
    if taken is None:
        return ""
    threads = f"{taken.threads} thread{'s' * (taken.threads != 1)}" if taken.threads else ""
    batch = f"batch {taken.batch}" if taken.batch else ""
    return ", ".join(part for part in (taken.engine, threads, batch) if part)


def _shared_conditions(models: list[ModelResult]) -> str:
    """The conditions if all timed models share them, else nothing."""
    found = {conditions(model) for model in models if model.latency_ms}
    return found.pop() if len(found) == 1 else ""
