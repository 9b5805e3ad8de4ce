"""`potstill report`: write the pages of a run again."""

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.screen import say


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, for example runs/demo.")],
    predictions_per_day: Annotated[
        float | None, typer.Option("--predictions-per-day", help="Of the year that is reckoned.")
    ] = None,
    price_per_kwh: Annotated[
        float | None, typer.Option("--price-per-kwh", help="Of electricity, in --currency.")
    ] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="Such as EUR.")] = None,
    carbon: Annotated[
        float | None, typer.Option("--carbon", help="Of electricity, grams of CO2 per kWh.")
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option("--watts", help="Drawn while a model answers, where no energy was measured."),
    ] = None,
) -> None:
    """Write report.html and report.md from what is in a run folder."""
    from potstill.report import write_report

    year = {
        "predictions_per_day": predictions_per_day,
        "price_per_kwh": price_per_kwh,
        "currency": currency,
        "carbon_g_per_kwh": carbon,
        "watts": watts,
    }
    files = write_report(run, year=year)
    say(f"{files.html}\n{files.markdown}")
