"""What was measured on a machine, as a file that another machine can read and compare."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TypedDict, cast

from potstill.errors import DataError, StorageError
from potstill.measure.ratios import Ratio
from potstill.runtime.files import read_json, write_json

KIND = "device-profile"


class Measured(TypedDict):
    """A model that was measured; `digest` is the SHA-256 of its files."""

    name: str
    runtime: str
    file: str
    bytes: int
    digest: str


class Figure(TypedDict):
    """One model on one runtime, with one batch and number of threads.

    Latency is of one call; bytes are of memory; energy is an estimate. `None` where not known.
    """

    model: str
    runtime: str
    version: str | None
    batch: int
    threads: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples_per_second: float
    calls: int
    startup_ms: float | None
    load_ms: float | None
    first_ms: float | None
    import_ms: float | None
    peak_bytes: int | None
    model_bytes: int | None
    energy_wh_per_1000: float | None
    energy_method: str | None


class SettingRatio(Ratio):
    """A ratio with the setting that it was taken in."""

    batch: int
    threads: int


class Beside(TypedDict):
    """The same model in the same setting, here and there; `ratio` is there over here."""

    model: str
    runtime: str
    batch: int
    threads: int
    here_ms: float
    there_ms: float
    ratio: float
    device: str


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """The figures of one machine.

    Args:
        name: of the device, for people.
        created: when, ISO 8601.
        machine: processor, cores, memory, system, versions.
        models: what was measured.
        figures: one for each model, runtime, batch and number of threads.
        ratios: how many times as fast as the first model, by setting.
    """

    name: str
    created: str
    machine: Mapping[str, object]
    models: Sequence[Measured]
    figures: Sequence[Figure]
    ratios: Sequence[SettingRatio]

    def to_json(self) -> dict[str, object]:
        """For a file."""
        return {"kind": KIND, **asdict(self)}

    def save(self, path: Path | str) -> None:
        """Write it."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """What `save` wrote.

        Raises:
            StorageError: there is no such file.
            DataError: it is of another kind.
        """
        if not Path(path).is_file():
            raise StorageError(
                f"There is no device profile {path}; write one on the device with  "
                f"potstill measure FILE… --save-profile {Path(path).name}"
            )
        return cls.from_json(read_json(Path(path)), str(path))

    @classmethod
    def from_json(cls, content: Mapping[str, object], origin: str) -> Self:
        """From the content of a file; `origin` is named when it is of another kind."""
        try:
            kind = content["kind"]
            found = {name: content[name] for name in cls.__dataclass_fields__}
            figures = cast("Sequence[Figure]", found["figures"])
            whole = kind == KIND and all(
                Figure.__annotations__.keys() <= figure.keys() for figure in figures
            )
        except (KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{origin} is no device profile ({error!r}); give a file that "
                "`potstill measure --save-profile` wrote."
            ) from error
        if not whole:
            raise DataError(
                f"{origin} is of kind {kind!r}, or lacks some figures of a {KIND}; write it "
                "again with the Potstill of this version."
            )
        return cls(**found)  # type: ignore[arg-type]

    def digests(self) -> dict[tuple[str, str], str]:
        """By name and runtime, what identifies a model."""
        return {(each["name"], each["runtime"]): each["digest"] for each in self.models}


def beside(here: DeviceProfile, there: DeviceProfile) -> list[Beside]:
    """The settings that were measured on both machines, of models whose files are the same.

    Raises:
        DataError: no model is the same on both, or no setting is.
    """
    mine, other = here.digests(), there.digests()
    if not set(mine.values()) & set(other.values()):
        raise DataError(
            f"The profile of {there.name} is of other files than these: no digest is the same. "
            "Copy these files to the device and measure them there."
        )
    found = {
        (other[f["model"], f["runtime"]], f["runtime"], f["batch"], f["threads"]): f
        for f in there.figures
    }
    rows = []
    for f in here.figures:
        key = (mine[f["model"], f["runtime"]], f["runtime"], f["batch"], f["threads"])
        if (match := found.get(key)) is not None:
            rows.append(_beside(f, match, there.name))
    if not rows:
        raise DataError(
            f"The profile of {there.name} has the same files in other settings: "
            f"{_settings(there)} there, {_settings(here)} here. Measure with the same --batch, "
            "--threads and --runtime."
        )
    return rows


def _beside(here: Figure, there: Figure, device: str) -> Beside:
    return Beside(
        model=here["model"],
        runtime=here["runtime"],
        batch=here["batch"],
        threads=here["threads"],
        here_ms=here["p50_ms"],
        there_ms=there["p50_ms"],
        ratio=there["p50_ms"] / here["p50_ms"],
        device=device,
    )


def _settings(profile: DeviceProfile) -> str:
    found = {f"{f['runtime']}, batch {f['batch']}, {f['threads']} threads" for f in profile.figures}
    return "; ".join(sorted(found))
