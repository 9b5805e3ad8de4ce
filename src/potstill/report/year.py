"""What a year of predictions costs in energy, money and carbon, under assumptions that are said.

A year's energy is `energy of one prediction × predictions a day × 365`. The energy of one is the
estimate of `potstill measure`, if that has one for every model; else latency times a given power.
"""

from collections.abc import Mapping

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from potstill.errors import RecipeError
from potstill.report import wording
from potstill.report.devices import devices_of, labels_of
from potstill.report.folder import RunFolder
from potstill.report.records import Finding

DAYS = 365
COLUMNS = ("Model", "Energy of 1,000", "Energy a year", "Money a year", "Carbon a year", "Saved")


class Assumptions(BaseModel):
    """What a year is like. The fields of `measure.year` in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions_per_day: float = Field(1_000_000, gt=0)
    price_per_kwh: float = Field(0.30, ge=0)
    currency: str = "EUR"
    carbon_g_per_kwh: float = Field(475.0, ge=0)  # world average, IEA 2019
    watts: float = Field(10.0, gt=0)  # drawn while a model answers, where no energy was estimated

    def with_changes(self, changes: Mapping[str, object]) -> "Assumptions":
        """The same with some values changed; `None` changes nothing.

        Raises:
            RecipeError: a value is out of range, or nobody knows its name.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        try:
            return Assumptions.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise RecipeError(
                f"The assumption `{name}` is {first['input']!r}: {first['msg'].lower()}."
            ) from error


def assumptions_of(run: RunFolder) -> Assumptions:
    """Those of the run's recipe; runs from Python have the default ones."""
    try:
        found = yaml.safe_load(run.recipe) or {}
        return Assumptions().with_changes(found["measure"]["year"] or {})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return Assumptions()


def year_table(run: RunFolder, assumptions: Assumptions | None = None) -> Finding | None:
    """The table; nothing where neither energy nor latency is known."""
    said = assumptions or assumptions_of(run)
    energies, how = _measured(run)
    if not energies:
        energies, how = _reckoned(run, said)
    if not energies:
        return None
    first = next(iter(energies.values()))
    return Finding(
        title="",
        note=_note(run, said, energies, how),
        columns=COLUMNS,
        rows=tuple(_row(name, wh, first, said) for name, wh in energies.items()),
    )


def kwh_a_year(wh_per_1000: float, said: Assumptions) -> float:
    """Of so many watt-hours for 1,000 predictions."""
    return wh_per_1000 / 1000 * said.predictions_per_day * DAYS / 1000


def _measured(run: RunFolder) -> tuple[dict[str, float], str]:
    """Watt-hours of 1,000 predictions by model, of the first device's first setting."""
    for device in devices_of(run):
        for setting in device.settings():
            figures = [f for f in device.figures if f.setting == setting]
            known = {
                label: f.energy_wh_per_1000
                for label, f in zip(labels_of(figures), figures, strict=True)
                if f.energy_wh_per_1000 is not None
            }
            if len(known) == len(figures):
                methods = ", ".join(sorted({str(f.energy_method) for f in figures}))
                batch, threads = setting
                return known, (
                    f"the estimate of potstill measure ({methods}) on {device.name}, batch "
                    f"{batch}, threads {threads}"
                )
    return {}, ""


def _reckoned(run: RunFolder, said: Assumptions) -> tuple[dict[str, float], str]:
    """The same from median latency and an assumed power."""
    if run.results is None:
        return {}, ""
    found = {}
    for role in run.results.roles():
        taken = run.results.models[role].latency_ms
        if taken is not None and taken.p50 is not None:
            hours = taken.p50 / 3.6e6 / (taken.batch or 1)
            found[wording.role_name(role)] = 1000 * said.watts * hours
    return found, f"median latency times {said.watts:g} W, which is assumed and not measured"


def _row(name: str, wh: float, first_wh: float, said: Assumptions) -> tuple[str, ...]:
    kwh = kwh_a_year(wh, said)
    saved = wording.NONE if wh == first_wh else wording.share(1 - wh / first_wh)
    return (
        name,
        wording.energy(wh),
        _kwh(kwh),
        f"{_plain(kwh * said.price_per_kwh)} {said.currency}",
        _kilograms(kwh * said.carbon_g_per_kwh / 1000),
        saved,
    )


def _note(run: RunFolder, said: Assumptions, energies: Mapping[str, float], how: str) -> str:
    assumed = (
        f"Assumed: {said.predictions_per_day:,.0f} predictions a day, {said.price_per_kwh:g} "
        f"{said.currency} and {said.carbon_g_per_kwh:g} g CO2 per kWh, {DAYS} days. Energy of a "
        f"prediction: {how}. Only the model's own computing is counted, not the idle machine."
    )
    return f"{assumed} {_earned_back(run, energies)}".strip()


def _earned_back(run: RunFolder, energies: Mapping[str, float]) -> str:
    """After how many predictions a student has saved what its training took."""
    models = {} if run.results is None else run.results.models
    spent = models["distilled"].energy_wh if "distilled" in models else None
    teacher, student = (_of(role, energies) for role in ("teacher", "distilled"))
    if spent is None or teacher is None or student is None:
        return ""
    saved = (teacher - student) / 1000
    if saved <= 0:
        return "The distilled student takes no less energy than the teacher."
    return (
        f"The energy of one training of the distilled student ({wording.energy(spent)}, an "
        f"estimate) is earned back after {wording.count(spent / saved)} predictions."
    )


def _of(role: str, energies: Mapping[str, float]) -> float | None:
    """Of the role's first model."""
    return next((wh for name, wh in energies.items() if name.lower().startswith(role)), None)


def _kwh(value: float) -> str:
    return f"{wording.three(value)} kWh" if value >= 0.1 else wording.energy(1000 * value)


def _kilograms(value: float) -> str:
    return f"{wording.three(value)} kg" if value >= 0.1 else wording.grams(1000 * value)


def _plain(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.01 else f"{value:.2g}"
