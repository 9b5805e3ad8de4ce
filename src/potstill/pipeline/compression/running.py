"""`compress`: all ways to one size, with and without the teacher, as stages beside a run."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from potstill.compress.sparse import zeros, zipped_bytes
from potstill.compress.weight import Precision
from potstill.measure.latency import Timing, measure_onnx
from potstill.measure.size import file_bytes, flops, num_parameters
from potstill.pipeline.compression.bench import Bench, Start, bench_of
from potstill.pipeline.compression.files import MODEL, given, write_model
from potstill.pipeline.compression.language import in_four_bits
from potstill.pipeline.compression.options import Compression
from potstill.pipeline.compression.plan import Plan, announce, make_plan
from potstill.pipeline.compression.quantising import WORTH, filed
from potstill.pipeline.compression.record import Made, Reference, Row, record_of
from potstill.pipeline.compression.rows import all_rows
from potstill.pipeline.compression.scoring import asked, tests_of, tests_of_all
from potstill.pipeline.compression.sparing import sensitivity_of
from potstill.pipeline.compression.squeezing import Job, Piece, squeezed
from potstill.pipeline.compression.zeroing import zeroed_out
from potstill.pipeline.experiment import Experiment
from potstill.pipeline.ledger import Ledger
from potstill.pipeline.workshop import Workshop
from potstill.report import squeezed_markdown, squeezed_of, write_report
from potstill.runtime.files import write_json, write_text
from potstill.runtime.progress import Progress, Silent
from potstill.teachers.fingerprints import digest, module_digest

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
            spoken = experiment.task.kind == "tokens"
            record = (in_four_bits if spoken else _compare)(shop, bench)
            inner.keep_only(shop.stages)
        finally:
            inner.close()
    finally:
        outer.close()
    write_json(folder / RECORD, record)
    write_text(folder / TABLE, squeezed_markdown(squeezed_of(record)) + "\n")
    write_report(folder)
    return record


def _compare(shop: Workshop, bench: Bench) -> dict[str, object]:
    plan = make_plan(shop, bench)
    announce(plan, shop.progress.note)
    return _record(shop, bench, plan, all_rows(shop, bench, plan, _made))


def _made(job: Job) -> Made:
    """The file of a way with one seed, and its figures."""
    shop, options = job.shop, job.bench.options
    piece = zeroed_out(job) if job.way.zeroes else squeezed(job)
    path = shop.folder / "files" / job.role / f"seed-{job.seed}" / MODEL
    of = (module_digest(piece.module), job.taught, job.bench.source.key, job.epochs)
    found = shop.run(
        f"file-{job.role}/{job.seed}",
        depends_on=shop.key(job.way, *of, options.rows, options.skip, options.quantised),
        files=[path],
        work=lambda: _write(job, piece, path),
    )
    return Made(**found)  # type: ignore[arg-type]


def _write(job: Job, piece: Piece, path: Path) -> Mapping[str, object]:
    shop = job.shop
    shop.progress.note(f"writing {path}")
    done = filed(job, piece, path)
    return asdict(
        Made(
            seed=job.seed,
            file=str(path.relative_to(shop.folder.parent)),
            bytes=file_bytes(path),
            zipped_bytes=zipped_bytes(path),
            zeros=zeros(done.piece.module),
            parameters=num_parameters(done.piece.module),
            flops=flops(done.piece.module.cpu(), shop.experiment.data.example()),
            epochs=done.piece.epochs,
            seconds=done.piece.seconds,
            validation=done.validation,
            test=tests_of(shop, asked(shop, path)),
            lost_by_rounding=done.lost,
            trained_quantised=done.trained,
            kept_in_float=list(done.kept),
        )
    )


def _record(shop: Workshop, bench: Bench, plan: Plan, rows: list[Row]) -> dict[str, object]:
    e, higher = shop.experiment, shop.experiment.task.higher_is_better
    known, files = _references(shop, bench)
    files |= {row.key: shop.folder.parent / row.best(higher=higher).file for row in rows}
    timing = Timing(threads=e.measuring.threads, seconds_budget=e.measuring.seconds)
    latency = shop.run(
        "latency",
        depends_on=shop.key(timing, *(digest([path.read_bytes()]) for path in files.values())),
        files=(),
        work=lambda: dict(measure_onnx(files, given(shop, e.data.test, _TIMED), timing=timing)),
    )
    about: dict[str, object] = {
        "name": e.name,
        "seeds": list(bench.seeds),
        "objective": repr(bench.objective),
        "importance": str(bench.options.importance),
        "steps": bench.options.steps,
        "quantised": str(bench.options.quantised),
    }
    about["sensitivity"] = _sensitivity(shop, bench, plan, rows)
    return record_of(
        plan,
        rows,
        known,
        latency,  # type: ignore[arg-type]
        primary=e.task.primary,
        higher=higher,
        about=about,
    )


def _sensitivity(
    shop: Workshop, bench: Bench, plan: Plan, rows: list[Row]
) -> Mapping[str, object] | None:
    """What each layer of the best quantised way costs in 8 bits; `None` where none is quantised."""
    higher = shop.experiment.task.higher_is_better
    found = [row for row in rows if row.taught and row.planned.way.quantises]
    if not found:
        return None
    best = max(found, key=lambda row: row.best(higher=higher).validation * (1 if higher else -1))
    seed = best.best(higher=higher).seed
    job = Job(shop=shop, bench=bench, plan=plan, planned=best.planned, seed=seed, taught=True)

    def work() -> Mapping[str, object]:
        value = best.best(higher=higher).validation
        table = sensitivity_of(job, squeezed(job), bound=WORTH * abs(value))
        return {} if table is None else {"table": table.to_json()}

    known = shop.run(
        "sensitivity", depends_on=shop.key(job.role, seed, plan.target), files=(), work=work
    )
    return {"way": str(job.way), "seed": seed, **known} if known else None


def _references(shop: Workshop, bench: Bench) -> tuple[dict[str, Reference], dict[str, Path]]:
    """The teacher and the run's own students, as files in float32."""
    files: dict[str, Path] = {}
    known: dict[str, Reference] = {}
    if bench.teacher is None:
        test = tests_of_all(shop, [bench.ready.teacher])
        known["teacher"] = Reference(bytes=None, parameters=None, test=test)
    for role, each in bench.references().items():
        shape = role if role == "teacher" else "student"  # both students are of one size and speed
        files[role] = shop.folder / "files" / f"{shape}.onnx"
        found = shop.run(
            f"file-{role}",
            depends_on=shop.key(role, *(module_digest(start.module) for start in each)),
            files=[files[role]],
            work=functools.partial(_refer, shop, each, files[role], write=role != "scratch"),
        )
        known[role] = Reference(**found)  # type: ignore[arg-type]
    return known, files


def _refer(
    shop: Workshop, starts: Sequence[Start], path: Path, *, write: bool
) -> Mapping[str, object]:
    first = starts[0].module
    if write:
        write_model(shop, first, path, precision=Precision.FLOAT32, rows=1)
    test = tests_of_all(shop, (start.module.to(shop.runtime.device) for start in starts))
    return asdict(Reference(bytes=file_bytes(path), parameters=num_parameters(first), test=test))
