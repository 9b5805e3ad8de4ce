"""Energy and carbon of a stretch of work, estimated by codecarbon when it is installed.

codecarbon is run offline: no geolocation, no telemetry, no files, no lock, no log lines. It
estimates: what the counters of the machine do not say, it takes from the processor's rated power
and load. Without it, only the seconds are known.
"""

import importlib
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, TypedDict

from potstill.errors import RecipeError

WORLD_AVERAGE_G_PER_KWH = 475.0  # IEA, Global Energy & CO2 Status Report 2019; codecarbon's default
SECONDS_BETWEEN_READINGS = 5.0


class Energy(TypedDict):
    """What was spent. `energy_wh` and `co2_g` are `None` without codecarbon, else estimates."""

    energy_wh: float | None
    co2_g: float | None
    estimate: bool
    seconds: float


@dataclass(slots=True)
class Meter:
    """Filled in when its block ends, also by an exception.

    Args:
        label: what was metered.
        seconds: wall-clock time.
        energy_wh: watt-hours of this process and its children: processor, memory, graphics cards
            (of which the whole card counts). An estimate.
        co2_g: grams of CO2 equivalent of that energy. An estimate.
    """

    label: str
    seconds: float = 0.0
    energy_wh: float | None = None
    co2_g: float | None = None

    def record(self) -> Energy:
        """The figures as they are kept in results.json."""
        return Energy(
            energy_wh=self.energy_wh, co2_g=self.co2_g, estimate=True, seconds=self.seconds
        )


class _Reading(Protocol):
    energy_consumed: float  # kWh
    emissions: float  # kg


class _Tracker(Protocol):
    def start(self) -> None: ...
    def stop(self) -> float | None: ...


@contextmanager
def metered(label: str, *, enabled: bool = True, country: str | None = None) -> Iterator[Meter]:
    """Meter the block that follows, then read the `record()` of what is yielded.

    Args:
        label: what is metered.
        enabled: `False` keeps only the time.
        country: three-letter ISO code, for the carbon intensity of its grid as codecarbon knows
            it. `None` takes the world average of 475 g CO2 per kWh. Energy does not depend on it.

    Raises:
        RecipeError: codecarbon is installed and does not know the country.
    """
    tracker = _start(label, country) if enabled else None
    meter = Meter(label)
    begin = time.perf_counter()
    try:
        yield meter
    finally:
        meter.seconds = time.perf_counter() - begin
        reading = None if tracker is None else _stop(tracker)
        if reading is not None:
            meter.energy_wh = float(reading.energy_consumed) * 1000.0
            meter.co2_g = float(reading.emissions) * 1000.0


def is_available() -> bool:
    """Whether codecarbon can be imported, so that energy is estimated."""
    return _codecarbon() is not None


def _codecarbon() -> ModuleType | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module("codecarbon")
    except ImportError:
        return None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it sets INFO when imported
    return module


def _start(label: str, country: str | None) -> _Tracker | None:
    codecarbon = _codecarbon()
    if codecarbon is None:
        return None
    if country is not None:
        _check_country(country)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Named one by one, because codecarbon fills what is missing from files and environment.
        tracker: _Tracker = codecarbon.OfflineEmissionsTracker(
            project_name=label,
            country_iso_code=country,
            region=None,
            cloud_provider=None,
            cloud_region=None,
            force_carbon_intensity_g_co2e_kwh=None if country else WORLD_AVERAGE_G_PER_KWH,
            electricitymaps_api_token=False,
            emissions_endpoint=None,
            output_methods=[],
            allow_multiple_runs=True,  # else it takes a lock file and the handler of Ctrl-C
            tracking_mode="process",
            measure_power_secs=SECONDS_BETWEEN_READINGS,
            log_level="critical",
        )
        tracker.start()
    return tracker


def _stop(tracker: _Tracker) -> _Reading | None:
    """The last reading; `None` where codecarbon failed, which it logs and never raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker.stop()
    reading: _Reading | None = getattr(tracker, "final_emissions_data", None)
    return reading


def _check_country(country: str) -> None:
    source = importlib.import_module("codecarbon.input").DataSource()
    known = source.get_global_energy_mix_data()
    if country not in known:
        raise RecipeError(
            f"{country!r} is not a country whose grid is known; give a three-letter ISO code in "
            "capitals such as 'DEU', or leave it out for the world average."
        )
