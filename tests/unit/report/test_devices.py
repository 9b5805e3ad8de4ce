"""Figures of devices and of a year of predictions on the report."""

import json
from pathlib import Path

import pytest

from potstill.errors import RecipeError, StorageError
from potstill.report import write_report
from potstill.report.devices import device_tables, devices_of
from potstill.report.folder import read_folder
from potstill.report.year import Assumptions, assumptions_of, kwh_a_year, year_table

from .fake_run import write_run


def figure(model: str, *, p50: float, wh: float | None, batch: int = 1) -> dict[str, object]:
    return {
        "model": model, "runtime": "onnxruntime", "version": "1", "batch": batch, "threads": 1,
        "p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "samples_per_second": 1000 / p50,
        "calls": 100, "startup_ms": 12.0, "load_ms": 10.0, "first_ms": 2.0, "import_ms": 90.0,
        "peak_bytes": 70_000_000, "model_bytes": 9_000_000, "energy_wh_per_1000": wh,
        "energy_method": None if wh is None else "codecarbon",
    }  # fmt: skip


def device(name: str, *, slower: float = 1.0, energy: bool = True) -> dict[str, object]:
    models = [
        {"name": n, "runtime": "onnxruntime", "file": f"{n}.onnx", "bytes": b, "digest": n * 4}
        for n, b in (("teacher", 4_000_000), ("distilled", 400_000))
    ]
    pairs = (("teacher", 4.0, 0.08), ("distilled", 1.0, 0.02))
    ratio = {"base": "teacher", "name": "distilled", "ratio": 4.0, "ci95": [3.9, 4.1], "blocks": 10,
             "batch": 1, "threads": 1}  # fmt: skip
    return {
        "format": 1, "kind": "device-profile", "name": name, "created": "2026-05-01T10:00:00+00:00",
        "machine": {"processor": "a <processor>"}, "models": models, "ratios": [ratio],
        "figures": [
            figure(n, p50=slower * p50, wh=wh if energy else None) for n, p50, wh in pairs
        ],
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", seeds=(0, 1))


def measured(run: Path, *devices: dict[str, object]) -> Path:
    content = {"format": 1, "devices": list(devices)}
    (run / "measure.json").write_text(json.dumps(content), encoding="utf-8")
    return run


def test_every_device_has_a_table_and_is_set_beside_the_first(run: Path) -> None:
    measured(run, device("desk"), device("board", slower=5.0))

    desk, board, beside = device_tables(devices_of(read_folder(run)))

    cells = dict(zip(desk.columns, desk.rows[1], strict=True))
    assert desk.title == "desk: batch 1, 1 thread"
    assert cells["Model"] == "distilled"
    assert (cells["p50"], cells["p99"]) == ("1.00 ms", "3.00 ms")
    assert cells["Times as fast"] == "4.00× ± 0.1"
    assert cells["Start-up"] == "12.0 ms"
    assert cells["Memory"] == "70.0 MB"
    assert cells["File"] == "400 kB"
    assert board.rows[0][2] == "20.0 ms"
    assert beside.rows[0][1:] == ("4.00 ms", "20.0 ms", "5.00×")


def test_a_year_is_a_product_of_what_is_said(run: Path) -> None:
    measured(run, device("desk"))
    said = Assumptions(predictions_per_day=1_000_000, price_per_kwh=0.5, carbon_g_per_kwh=100)

    found = year_table(read_folder(run), said)

    # 0.02 Wh a thousand, 365 million a year: 7.3 kWh
    assert kwh_a_year(0.02, said) == pytest.approx(7.3)
    assert found.rows[1] == ("distilled", "20.0 mWh", "7.30 kWh", "3.65 EUR", "0.730 kg", "75.0%")
    assert "1,000,000 predictions a day" in found.note
    assert "codecarbon" in found.note


def test_without_energy_the_assumed_power_is_said(run: Path) -> None:
    measured(run, device("desk", energy=False))

    found = year_table(read_folder(run), Assumptions(watts=36.0))

    p50 = read_folder(run).results.models["teacher"].latency_ms.p50
    assert "36 W, which is assumed and not measured" in found.note
    # 36 W for a second are 0.01 Wh
    assert f"{1000 * 1000 * p50 * 1e-3 * 0.01:#.3g}".rstrip(".") in found.rows[0][1]


def test_assumptions_come_from_the_recipe_and_are_changed_by_options(run: Path) -> None:
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    (run / "recipe.yaml").write_text(
        recipe + "\nmeasure: {year: {predictions_per_day: 5, currency: USD}}\n", encoding="utf-8"
    )

    said = assumptions_of(read_folder(run)).with_changes({"price_per_kwh": 1.0, "watts": None})

    assert (said.predictions_per_day, said.currency) == (5, "USD")
    assert (said.price_per_kwh, said.watts) == (1.0, 10.0)


def test_both_are_on_both_pages(run: Path) -> None:
    measured(run, device("desk"))

    files = write_report(run, year={"predictions_per_day": 1234})

    html, markdown = (path.read_text(encoding="utf-8") for path in (files.html, files.markdown))
    for page in (html, markdown):
        assert "1,234 predictions a day" in page
        assert "A year of predictions" in page
        assert "desk: batch 1, 1 thread" in page.replace("\\", "")
        assert "<processor>" not in page


def test_what_is_broken_is_said(run: Path) -> None:
    with pytest.raises(RecipeError, match="predictions_per_day"):
        write_report(run, year={"predictions_per_day": -1})
    measured(run, {"figures": "none"})
    with pytest.raises(StorageError, match=r"measure\.json"):
        write_report(run)
