"""`compress`: all ways to one size, with and without the teacher, as stages beside a run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from potstill.measure.latency import Timing, measure_onnx
from potstill.measure.size import file_bytes, flops, num_parameters
from potstill.pipeline.compression.bench import Bench, bench_of
from potstill.pipeline.compression.files import MODEL, InFile, given, write_model
from potstill.pipeline.compression.options import Compression, Way
from potstill.pipeline.compression.plan import Plan, announce, make_plan, precision_of
from potstill.pipeline.compression.record import Made, Reference, Row, record_of
from potstill.pipeline.compression.squeezing import Job, Piece, squeezed
from potstill.pipeline.compression.table import markdown
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.workshop import Silent, Workshop
from potstill.runtime.files import write_json, write_text
from potstill.train.evaluate import answers_of, score
from potstill.train.progress import Progress

FOLDER = "compressed"
"""Where a run keeps what was squeezed, in its folder."""

RECORD, TABLE = "compress.json", "compress.md"
_TIMED = 64


def compress_experiment(
    experiment: Experiment,
    folder: Path,
    options: Compression,
    *,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Squeeze the models of a finished run and compare all ways; a later call goes on.

    Args:
        experiment: what the run is about.
        folder: the run folder.
        options: what is asked for.
        progress: told of what happens.

    Returns:
        The content of `compress.json`, which is written beside the run's other files.

    Raises:
        RecipeError: no way meets the size, or the run is of a kind that cannot be squeezed.
        StorageError: the run is not finished.
    """
    shown = progress or Silent()
    outer = Ledger(folder)
    try:
        run = Workshop(experiment, folder, ledger=outer, progress=shown)
        bench = bench_of(run, options)
        inner = Ledger(folder / FOLDER)
        try:
            shop = Workshop(run.experiment, folder / FOLDER, ledger=inner, progress=shown)
            record = _compare(shop, bench)
            inner.keep_only(shop.stages)
        finally:
            inner.close()
    finally:
        outer.close()
    write_json(folder / RECORD, record)
    write_text(folder / TABLE, markdown(record))
    return record


def _compare(shop: Workshop, bench: Bench) -> dict[str, object]:
    plan = make_plan(shop, bench)
    announce(plan, shop.progress.note)
    rows = []
    for planned in plan.ways:
        if not planned.is_gone:
            continue
        for taught in (True, False):
            jobs = [
                Job(shop=shop, bench=bench, plan=plan, planned=planned, seed=seed, taught=taught)
                for seed in bench.seeds
            ]
            rows.append(
                Row(planned=planned, taught=taught, made=tuple(_made(job) for job in jobs))
            )
    return _record(shop, bench, plan, rows)


def _made(job: Job) -> Made:
    """The file of a way with one seed, and its figures: a stage."""
    shop, options = job.shop, job.bench.options
    piece = squeezed(job)
    path = shop.folder / "files" / job.role / f"seed-{job.seed}" / MODEL
    depends = (piece.stages, job.start().name, job.taught, job.seed, job.plan.target)
    found = shop.run(
        f"file/{job.role}/{job.seed}",
        depends_on=shop.key(job.way, *depends, options.rows, options.skip, options.quantised),
        files=[path],
        work=lambda: _write(job, piece, path),
    )
    values = {name: found[name] for name in Made.__dataclass_fields__}
    return Made(**values)  # type: ignore[arg-type]


def _write(job: Job, piece: Piece, path: Path) -> Mapping[str, object]:
    shop, options = job.shop, job.bench.options
    shop.progress.note(f"writing {path}")
    write_model(
        shop,
        piece.module,
        path,
        precision=precision_of(job.way),
        rows=options.rows,
        skip=options.skip,
    )
    e = shop.experiment
    validation = _scores(shop, path, test=False)
    return asdict(
        Made(
            seed=job.seed,
            file=str(path.relative_to(shop.folder.parent)),
            bytes=file_bytes(path),
            parameters=num_parameters(piece.module),
            flops=flops(piece.module, e.data.example()),
            epochs=piece.epochs,
            seconds=piece.seconds,
            validation=validation[e.task.primary],
            test=_scores(shop, path, test=True),
        )
    )


def _scores(shop: Workshop, path: Path, *, test: bool) -> dict[str, float]:
    """Metrics of a file's own answers."""
    e = shop.experiment
    asked = InFile(path, texts=e.data.normalise.tokens)
    samples = e.data.test if test else e.data.validation
    return score(answers_of(asked, shop.feed(samples), e.task), e.task)


def _record(shop: Workshop, bench: Bench, plan: Plan, rows: list[Row]) -> dict[str, object]:
    e, higher = shop.experiment, shop.experiment.task.higher_is_better
    known, files = _references(shop, bench)
    files |= {row.key: shop.folder.parent / row.best(higher=higher).file for row in rows}
    timing = Timing(threads=e.measuring.threads, seconds_budget=e.measuring.seconds)
    texts = e.data.normalise.tokens
    latency = shop.run(
        "latency",
        depends_on=shop.key(timing, *(path.read_bytes().hex()[:4096] for path in files.values())),
        files=(),
        work=lambda: dict(measure_onnx(files, given(shop, e.data.test, _TIMED), timing=timing)),
    )
    about = {
        "name": e.name,
        "seeds": list(bench.seeds),
        "objective": repr(bench.objective),
        "importance": str(bench.options.importance),
        "steps": bench.options.steps,
        "quantised": str(bench.options.quantised),
        "texts": texts,
    }
    return record_of(
        plan,
        rows,
        known,
        latency,  # type: ignore[arg-type]
        primary=e.task.primary,
        higher=higher,
        about=about,
    )


def _references(shop: Workshop, bench: Bench) -> tuple[dict[str, Reference], dict[str, Path]]:
    """The teacher and the run's own students, as files in float32."""
    files: dict[str, Path] = {}
    known: dict[str, Reference] = {}
    e = shop.experiment
    if bench.teacher is None:
        said = score(answers_of(bench.ready.teacher, shop.feed(e.data.test), e.task), e.task)
        test = {name: [value] for name, value in said.items()}
        known["teacher"] = Reference(bytes=None, parameters=None, test=test)
    starts = {} if bench.teacher is None else {"teacher": [bench.teacher]}
    for role in ("scratch", "distilled"):
        starts[role] = [bench.students[role, seed] for seed in bench.seeds]
    for name, each in starts.items():
        values: dict[str, list[float]] = {}
        for number, start in enumerate(each):
            path = shop.folder / "files" / name / f"{number}.onnx"
            write_model(
                shop, start.module, path, precision=precision_of(Way.DISTIL), rows=1
            )
            for metric, value in _scores(shop, path, test=True).items():
                values.setdefault(metric, []).append(value)
        files[name] = shop.folder / "files" / name / "0.onnx"
        known[name] = Reference(
            bytes=file_bytes(files[name]),
            parameters=num_parameters(each[0].module),
            test=values,
        )
    return known, files
