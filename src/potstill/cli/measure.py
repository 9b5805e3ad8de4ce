"""`potstill measure`: models on the runtime that they are shipped on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import AsJson, Trust
from potstill.cli.screen import amount, say, show_table
from potstill.errors import RecipeError

if TYPE_CHECKING:
    from potstill.measure.profile import Beside, DeviceProfile, Figure, SettingRatio


def measure(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, .onnx or .pte files, folders with model.safetensors.",
            metavar="RUN|FILE...",
        ),
    ],
    batch: Annotated[
        str, typer.Option("--batch", help="Samples in one call, for example 1,8.")
    ] = "1",
    threads: Annotated[
        str, typer.Option("--threads", help="Threads inside one call, for example 1,2.")
    ] = "1",
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            help="onnxruntime,executorch,torch. Default: those that exported files are for.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Of latency, for all models of a setting together.")
    ] = 5.0,
    starts: Annotated[
        int,
        typer.Option("--starts", min=0, help="Fresh processes, for start-up and memory."),
    ] = 3,
    energy: Annotated[
        float,
        typer.Option("--energy", min=0, help="Seconds of each model, for energy; 0 leaves it out."),
    ] = 1.0,
    watts: Annotated[
        float | None,
        typer.Option("--watts", help="The power drawn meanwhile, if you have measured it."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", help="Samples, .npy or .npz. Default: test samples of the run."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What this device is called.")] = None,
    save_profile: Annotated[
        Path | None,
        typer.Option("--save-profile", help="Write the figures here, for another machine."),
    ] = None,
    device_profile: Annotated[
        list[Path] | None,
        typer.Option("--device-profile", help="Figures of another device, to compare with these."),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure latency, throughput, start-up, memory and energy of models, taken in turns."""
    from potstill.measure.device import Measuring, measure_models
    from potstill.measure.profile import DeviceProfile, beside

    asked = Measuring(
        batches=_numbers(batch, "--batch"),
        threads=_numbers(threads, "--threads"),
        runtimes=None if runtime is None else [word.strip() for word in runtime.split(",")],
        seconds=seconds,
        starts=starts,
        energy_seconds=energy,
        watts=watts,
    )
    others = [DeviceProfile.load(path) for path in device_profile or []]
    here = measure_models(
        models,
        asked,
        inputs=inputs,
        name=name,
        trust=trust,
        note=(lambda _: None) if as_json else say,
    )
    compared = [row for other in others for row in beside(here, other)]
    if save_profile is not None:
        here.save(save_profile)
    _tell([run for run in models if (run / "results.json").is_file()], here, others)
    if as_json:
        typer.echo(json.dumps({**here.to_json(), "compared": compared}))
        return
    for profile in (here, *others):
        _show(profile)
    if compared:
        show_table(_side_by_side(compared))


def _tell(runs: "Sequence[Path]", here: "DeviceProfile", others: "Sequence[DeviceProfile]") -> None:
    """Keep the figures in the folders of the runs, and write their reports again."""
    if not runs:  # a board that measures files needs nothing that reports are made with
        return
    from potstill.measure.record import keep
    from potstill.report import write_report

    for run in runs:
        keep(run, here, others)
        write_report(run)


def _side_by_side(compared: "Sequence[Beside]") -> list[list[str]]:
    rows = [["model", "setting", "p50 here", "p50 there", "there/here", "device"]]
    return rows + [
        [
            row["model"],
            f"{row['runtime']}, {_size(row['batch'], row['threads'])}",
            f"{row['here_ms']:.3g} ms",
            f"{row['there_ms']:.3g} ms",
            f"{row['ratio']:.3g}",
            row["device"],
        ]
        for row in compared
    ]


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(
            f"{option} is {text!r}; give whole numbers with commas between them, such as 1,8."
        ) from error


def _show(profile: "DeviceProfile") -> None:
    for batch, threads in dict.fromkeys((f["batch"], f["threads"]) for f in profile.figures):
        rows = [["model", "runtime", "p50", "p95", "p99", "samples/s", "energy of 1,000"]]
        rows += [
            _latency(f) for f in profile.figures if (f["batch"], f["threads"]) == (batch, threads)
        ]
        show_table(rows, title=f"{profile.name}: {_size(batch, threads)}")
        for ratio in profile.ratios:
            if (ratio["batch"], ratio["threads"]) == (batch, threads):
                say(_ratio(ratio))
    show_table(_costs(profile))
    methods = {f["energy_method"] for f in profile.figures} - {None}
    if methods:
        say(f"Energy is an estimate, by {', '.join(sorted(map(str, methods)))}.")


def _size(batch: int, threads: int) -> str:
    return f"batch {batch}, {threads} thread{'s' * (threads != 1)}"


def _latency(f: "Figure") -> list[str]:
    times = [_ms(f["p50_ms"]), _ms(f["p95_ms"]), _ms(f["p99_ms"])]
    energy = f["energy_wh_per_1000"]
    spent = "–" if energy is None else f"{1000 * energy:.3g} mWh"
    return [f["model"], f["runtime"], *times, f"{f['samples_per_second']:,.0f}", spent]


def _ratio(ratio: "SettingRatio") -> str:
    spread = ratio["ci95"]
    said = "" if spread is None else f" (95% {spread[0]:.3g} to {spread[1]:.3g})"
    return f"{ratio['name']}: {ratio['ratio']:.3g} times as fast as {ratio['base']}{said}"


def _costs(profile: "DeviceProfile") -> list[list[str]]:
    """What does not depend on the batch: the file, start-up and memory of a fresh process."""
    sizes = {(each["name"], each["runtime"]): each["bytes"] for each in profile.models}
    first = {(f["model"], f["runtime"], f["threads"]): f for f in reversed(profile.figures)}
    rows = [["model", "runtime", "threads", "file", "start-up", "memory", "by model"]]
    return rows + [
        [
            *(f["model"], f["runtime"], str(f["threads"])),
            amount(sizes[f["model"], f["runtime"]], "B"),
            _ms(f["startup_ms"]),
            *(amount(f["peak_bytes"], "B"), amount(f["model_bytes"], "B")),
        ]
        for f in reversed(first.values())
    ]


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"
