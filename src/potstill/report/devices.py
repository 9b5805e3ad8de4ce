"""What `potstill measure` found on devices, from `measure.json`, as tables."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.errors import StorageError
from potstill.report import wording
from potstill.report.folder import RunFolder
from potstill.report.records import Finding, Number

COLUMNS = (
    "Model", "File", "p50", "p95", "p99", "Samples/s", "Times as fast", "Start-up", "Memory",
    "Energy of 1,000",
)  # fmt: skip
BESIDE = ("Model", "Here, p50", "There, p50", "There over here")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class DeviceModel(_Record):
    """A model that was measured, known by its digest."""

    name: str
    runtime: str
    bytes: int | None = None
    digest: str = ""


class DeviceFigure(_Record):
    """One model in one setting; energy is an estimate."""

    model: str
    runtime: str
    batch: int
    threads: int
    p50_ms: float
    p95_ms: Number = None
    p99_ms: Number = None
    samples_per_second: Number = None
    startup_ms: Number = None
    peak_bytes: Number = None
    energy_wh_per_1000: Number = None
    energy_method: str | None = None

    @property
    def setting(self) -> tuple[int, int]:
        """Batch and threads."""
        return self.batch, self.threads


class DeviceRatio(_Record):
    """How many times as fast as `base`."""

    base: str
    name: str
    ratio: float
    ci95: tuple[float, float] | None = None
    batch: int
    threads: int


class Device(_Record):
    """The figures of one machine."""

    name: str = ""
    created: str = ""
    machine: Mapping[str, object] = {}
    models: tuple[DeviceModel, ...] = ()
    figures: tuple[DeviceFigure, ...] = ()
    ratios: tuple[DeviceRatio, ...] = ()

    def settings(self) -> tuple[tuple[int, int], ...]:
        """Batch and threads, in the order in which they were measured."""
        return tuple(dict.fromkeys(figure.setting for figure in self.figures))


def devices_of(run: RunFolder) -> tuple[Device, ...]:
    """The devices whose figures lie in a run folder, the one at hand first.

    Raises:
        StorageError: the file is not what `potstill measure` writes.
    """
    found = run.measured.get("devices") or []
    try:
        return tuple(Device.model_validate(each) for each in found)  # type: ignore[union-attr]
    except (ValidationError, TypeError) as error:
        raise StorageError(
            f"`{run.path / 'measure.json'}` is not what `potstill measure` writes. Remove it, and "
            "measure again."
        ) from error


def device_tables(devices: Sequence[Device]) -> tuple[Finding, ...]:
    """A table for each device and setting, and one for each device beside the first."""
    own = [_table(device, setting) for device in devices for setting in device.settings()]
    others = [_beside(devices[0], device) for device in devices[1:]]
    return (*own, *(table for table in others if table is not None))


def labels_of(figures: Sequence[DeviceFigure]) -> list[str]:
    """The name of each model, with its runtime where the name alone says too little."""
    names = [figure.model for figure in figures]
    return [f.model if names.count(f.model) == 1 else f"{f.model} on {f.runtime}" for f in figures]


def _table(device: Device, setting: tuple[int, int]) -> Finding:
    figures = [f for f in device.figures if f.setting == setting]
    sizes = {(m.name, m.runtime): m.bytes for m in device.models}
    ratios = {r.name: r for r in device.ratios if (r.batch, r.threads) == setting}
    rows = [
        (
            label,
            wording.size(sizes.get((f.model, f.runtime))),
            wording.milliseconds(f.p50_ms),
            wording.milliseconds(f.p95_ms),
            wording.milliseconds(f.p99_ms),
            wording.count(f.samples_per_second),
            _times(ratios.get(label)),
            wording.milliseconds(f.startup_ms),
            wording.size(f.peak_bytes),
            wording.energy(f.energy_wh_per_1000),
        )
        for label, f in zip(labels_of(figures), figures, strict=True)
    ]
    return Finding(
        title=f"{device.name}: {_said(setting)}",
        note=_note(device, figures) if setting == device.settings()[-1] else "",
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _said(setting: tuple[int, int]) -> str:
    batch, threads = setting
    return f"batch {batch}, {threads} thread{'s' * (threads != 1)}"


def _times(ratio: DeviceRatio | None) -> str:
    if ratio is None:
        return wording.NONE
    spread = "" if ratio.ci95 is None else f" ± {(ratio.ci95[1] - ratio.ci95[0]) / 2:.2g}"
    return f"{wording.times(ratio.ratio)}{spread}"


def _note(device: Device, figures: Sequence[DeviceFigure]) -> str:
    machine = [device.machine.get("processor"), device.machine.get("platform")]
    where = ", ".join(str(part) for part in machine if part)
    runtimes = ", ".join(dict.fromkeys(f.runtime for f in figures))
    methods = sorted({f.energy_method for f in figures if f.energy_method})
    energy = f" Energy is an estimate, by {', '.join(methods)}." if methods else ""
    return (
        f"{where}; {runtimes}; {device.created[:10]}. Models took turns; times as fast as the "
        "first, with half its 95% interval over the measurement. Start-up is loading and the "
        f"first answer in a fresh process, memory that whole process at most.{energy}"
    )


def _beside(here: Device, there: Device) -> Finding | None:
    digests = {(m.name, m.runtime): m.digest for m in there.models}
    found = {(digests.get((f.model, f.runtime)), f.runtime, f.setting): f for f in there.figures}
    mine = {(m.name, m.runtime): m.digest for m in here.models}
    rows = []
    for f in here.figures:
        other = found.get((mine.get((f.model, f.runtime)), f.runtime, f.setting))
        if other is not None:
            rows.append(
                (
                    f"{f.model} on {f.runtime}, {_said(f.setting)}",
                    wording.milliseconds(f.p50_ms),
                    wording.milliseconds(other.p50_ms),
                    wording.times(other.p50_ms / f.p50_ms),
                )
            )
    if not rows:
        return None
    return Finding(
        title=f"{there.name} beside {here.name}",
        note="The same files (by their digests) on both devices.",
        columns=BESIDE,
        rows=tuple(rows),
    )
