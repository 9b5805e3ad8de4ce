"""Energy with codecarbon (where it is installed), without it, and what it must not do."""

import importlib.util
import logging
import signal
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from potstill.errors import RecipeError
from potstill.measure.energy import is_available, metered

with_codecarbon = pytest.mark.skipif(
    importlib.util.find_spec("codecarbon") is None, reason="codecarbon is not installed"
)


def work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.fixture
def without_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)  # importing it raises ImportError


@pytest.mark.usefixtures("without_codecarbon")
def test_without_codecarbon_only_the_time_is_known() -> None:
    with metered("test") as meter:
        time.sleep(0.01)

    record = meter.record()
    assert not is_available()
    assert record["energy_wh"] is None
    assert record["co2_g"] is None
    assert record["estimate"] is True
    assert 0.01 <= record["seconds"] < 5.0


def test_switched_off_never_imports_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace())  # any use of it would raise

    with metered("test", enabled=False) as meter:
        pass

    assert meter.energy_wh is None


@pytest.mark.usefixtures("without_codecarbon")
def test_an_exception_passes_and_the_time_is_kept() -> None:
    with pytest.raises(ValueError, match="mine"), metered("test") as meter:
        raise ValueError("mine")

    assert meter.seconds > 0


def test_a_tracker_that_failed_leaves_energy_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **settings: object) -> None: ...
        def start(self) -> None: ...
        def stop(self) -> None: ...

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=Broken))

    with metered("test") as meter:
        pass

    assert meter.energy_wh is None


def test_units_and_world_average(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    class Tracker:
        final_emissions_data = SimpleNamespace(energy_consumed=0.002, emissions=0.001)

        def __init__(self, **settings: object) -> None:
            given.update(settings)

        def start(self) -> None: ...
        def stop(self) -> None: ...

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=Tracker))

    with metered("test") as meter:
        pass

    assert (meter.energy_wh, meter.co2_g) == (2.0, 1.0)  # kWh to Wh, kg to g
    assert given["force_carbon_intensity_g_co2e_kwh"] == 475.0
    assert given["output_methods"] == []


@with_codecarbon
def test_the_estimate_is_made_offline_silently_and_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
    monkeypatch.setenv("CODECARBON_ELECTRICITYMAPS_API_TOKEN", "secret")
    monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", "http://example.invalid")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    interrupt = signal.getsignal(signal.SIGINT)

    with metered("test") as meter:
        work(0.3)

    assert meter.energy_wh is not None
    assert meter.co2_g is not None
    assert 0 < meter.energy_wh < 10.0  # of a fraction of a second
    assert meter.co2_g == pytest.approx(meter.energy_wh * 475.0 / 1000.0)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is interrupt
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("codecarbon").level >= logging.CRITICAL


@with_codecarbon
def test_a_country_sets_the_carbon_and_not_the_energy() -> None:
    with metered("test", country="FRA") as meter:
        work(0.1)

    assert meter.energy_wh
    assert meter.co2_g is not None
    assert 0 < meter.co2_g / meter.energy_wh * 1000.0 < 200.0  # g per kWh; France is mostly nuclear


@with_codecarbon
def test_an_unknown_country_is_refused() -> None:
    with pytest.raises(RecipeError, match="'XYZ'"), metered("test", country="XYZ"):
        pass
