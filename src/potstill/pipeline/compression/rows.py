"""Every way with every seed, with the teacher and without it."""

from collections.abc import Callable

from potstill.pipeline.compression.bench import Bench
from potstill.pipeline.compression.plan import Plan
from potstill.pipeline.compression.record import Made, Row
from potstill.pipeline.compression.squeezing import Job
from potstill.pipeline.workshop import Workshop


def all_rows(shop: Workshop, bench: Bench, plan: Plan, make: Callable[[Job], Made]) -> list[Row]:
    """What `make` makes of each job, in the order of the plan."""
    rows = []
    for planned in plan.ways:
        for taught in (True, False) if planned.is_gone else ():
            jobs = [
                Job(shop=shop, bench=bench, plan=plan, planned=planned, seed=seed, taught=taught)
                for seed in bench.seeds
            ]
            rows.append(Row(planned=planned, taught=taught, made=tuple(make(job) for job in jobs)))
    return rows
