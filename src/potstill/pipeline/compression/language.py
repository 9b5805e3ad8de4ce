"""Language models in 4 bits: their weights rounded, and trained for it where that costs too much.

Who teaches is the model before it was rounded, since that is what is to be kept.
"""

import functools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

from potstill.compress.int4 import Int4, fake_int4, load_int4, save_int4
from potstill.compress.sparse import zipped_bytes
from potstill.errors import RecipeError
from potstill.losses import KD
from potstill.losses.objective import Objective, objective_of
from potstill.measure.size import file_bytes, num_parameters, weight_bytes
from potstill.pipeline.compression.bench import Bench, Start
from potstill.pipeline.compression.options import Quantised, Way
from potstill.pipeline.compression.plan import Plan, Planned
from potstill.pipeline.compression.quantising import RATE, WORTH
from potstill.pipeline.compression.record import Made, Reference, record_of
from potstill.pipeline.compression.rows import all_rows
from potstill.pipeline.compression.scoring import behind, primary_of, tests_of, tests_of_all
from potstill.pipeline.compression.squeezing import Job, Piece, made_of, trained
from potstill.pipeline.labelling import Source
from potstill.pipeline.workshop import Workshop
from potstill.teachers import ModuleTeacher
from potstill.teachers.fingerprints import module_digest

_WAYS = (Way.QUANTISE, Way.DISTIL_QUANTISE)


def in_four_bits(shop: Workshop, bench: Bench) -> dict[str, object]:
    """The content of `compress.json`: the teacher and the students with int4 weights.

    Raises:
        RecipeError: a size was asked for, or no way that there is.
    """
    plan = _plan(bench)
    rows = all_rows(shop, bench, plan, _made)
    task = shop.experiment.task
    record = record_of(
        plan,
        rows,
        _references(shop, bench),
        {},
        primary=task.primary,
        higher=task.higher_is_better,
        about={
            "name": shop.experiment.name,
            "seeds": list(bench.seeds),
            "objective": repr(_objective()),
            "quantised": str(bench.options.quantised),
            "group": bench.options.group,
            "sensitivity": None,
        },
    )
    return {**record, "target_bytes": None}


def _plan(bench: Bench) -> Plan:
    options = bench.options
    if options.to is not None or options.ratio is not None:
        raise RecipeError(
            "Language models are not cut to a size here: their layers and width are chosen in the "
            "recipe, and `compress` brings their weights to 4 bits; leave --to and --ratio out."
        )
    ways = tuple(_planned(bench, way) for way in options.ways)
    if not any(planned.is_gone for planned in ways):
        raise RecipeError(f"No way can be gone: {ways[0].obstacle}")
    return Plan(target=max(planned.nearest for planned in ways), ways=ways)


def _planned(bench: Bench, way: Way) -> Planned:
    obstacle, nearest = "", 0
    if way not in _WAYS:
        obstacle = f"of language models there are {' and '.join(_WAYS)}"
    else:
        try:
            start = bench.start(way, bench.seeds[0], taught=True)
            nearest = weight_bytes(start.module)
            obstacle = (
                "" if start.config is not None else "the model has no config to rebuild it by"
            )
        except RecipeError as error:
            obstacle = str(error)
    return Planned(way=way, nearest=nearest, overhead=0, reaches=not obstacle, obstacle=obstacle)


def _made(job: Job) -> Made:
    """The folder of a way with one seed, and its figures."""
    shop, options = job.shop, job.bench.options
    folder = shop.folder / "files" / job.role / f"seed-{job.seed}"
    of = (module_digest(job.start().module), job.taught, job.epochs, options.group, options.skip)
    found = shop.run(
        f"file-{job.role}/{job.seed}",
        depends_on=shop.key(job.way, *of, options.quantised),
        files=[folder / "int4.safetensors"],
        work=lambda: _write(job, folder),
    )
    return Made(**found)  # type: ignore[arg-type]


def _write(job: Job, folder: Path) -> Mapping[str, object]:
    shop, options, start = job.shop, job.bench.options, job.start()
    assert start.config is not None, "`_planned` has seen to that"
    shop.progress.note(f"writing {folder}")
    how = Int4(group=options.group, skip=options.skip)
    whole = primary_of(shop, start.module)
    rounded = fake_int4(start.module, how).eval()
    lost = behind(shop, primary_of(shop, rounded), whole)
    best, piece, trains = rounded, Piece(module=rounded, config=start.config), False
    if options.quantised is Quantised.TRAINING or (
        options.quantised is Quantised.AUTO and lost > WORTH * abs(whole)
    ):
        piece = _trained(job, start, how)
        better = behind(shop, primary_of(shop, piece.module), whole) < lost
        trains = better or options.quantised is Quantised.TRAINING
        best = piece.module if trains else rounded
    path = save_int4(best.cpu(), start.config, folder)
    again, _ = load_int4(folder)
    return asdict(
        Made(
            seed=job.seed,
            file=str(path.relative_to(shop.folder.parent)),
            bytes=file_bytes(path),
            zipped_bytes=zipped_bytes(path),
            parameters=num_parameters(start.module),
            flops=None,
            epochs=piece.epochs,
            seconds=piece.seconds,
            validation=primary_of(shop, again),
            test=tests_of(shop, again.to(shop.runtime.device)),
            lost_by_rounding=lost,
            trained_quantised=trains,
        )
    )


def _trained(job: Job, start: Start, how: Int4) -> Piece:
    """Some epochs that feel the rounding, with the answers of the model before, or without."""
    e = job.shop.experiment
    before = ModuleTeacher(deepcopy(start.module), e.task)
    bench = replace(job.bench, source=Source(teacher=before), objective=_objective())
    plain = made_of(start.module, None, name=f"{job.way}, int4")
    made = replace(
        plain,
        make=lambda _seed: fake_int4(start.module, how).train(),
        key=f"{how} {module_digest(start.module)}",
    )
    piece = Piece(module=start.module, config=start.config)
    return trained(replace(job, bench=bench), piece, made, job.epochs, "int4", rate=RATE)


def _objective() -> Objective:
    return objective_of(KD(temperature=1))


def _references(shop: Workshop, bench: Bench) -> dict[str, Reference]:
    """The teacher and the run's own students in float32."""
    known: dict[str, Reference] = {}
    if bench.teacher is None:
        test = tests_of_all(shop, [bench.ready.teacher])
        known["teacher"] = Reference(bytes=None, parameters=None, test=test)
    for role, each in bench.references().items():
        digests = [module_digest(start.module) for start in each]
        found = shop.run(
            f"file-{role}",
            depends_on=shop.key(role, *digests),
            files=(),
            work=functools.partial(_referred, shop, each),
        )
        known[role] = Reference(**found)  # type: ignore[arg-type]
    return known


def _referred(shop: Workshop, starts: Sequence[Start]) -> Mapping[str, object]:
    first = starts[0].module
    test = tests_of_all(shop, (start.module.to(shop.runtime.device) for start in starts))
    size, parameters = weight_bytes(first), num_parameters(first)
    return asdict(Reference(bytes=size, parameters=parameters, test=test))
