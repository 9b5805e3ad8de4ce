"""Whether a language student learns the same from live, stored and sampled answers.

One teacher is trained; then students of the recipe `tiny-lm` learn from the same tokens: without
it (the control), from it live, from its best tokens and their tail, and from sampled ones. The
table gives the held-out loss in nats a token (mean over seeds), its mean difference from the
control and from the live teacher with the 95% interval (Student's t, paired by seed), milliseconds
a step and bytes a token.

`python bench/tiny_lm.py [FOLDER [KEY=VALUE …]]`: values override the recipe, for example
`data={source: text, path: book.txt, max_length: 64, tokenizer: {vocabulary: 1024}}`. The teacher
is kept in FOLDER and taken up again; so is what was measured.
"""

import json
import math
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from scipy import stats

from potstill.build import build
from potstill.losses.objective import objective_of
from potstill.models.weights import fit_weights, read_weights, write_weights
from potstill.pipeline.experiment import TrainedTeacher
from potstill.pipeline.storing import key_of
from potstill.protocols import Teacher
from potstill.recipe import load
from potstill.runtime.environment import processor_name
from potstill.store import Store, StoreWriter, label
from potstill.store.codecs import Sampled, Vocabulary
from potstill.teachers import ModuleTeacher, StoredTeacher
from potstill.train import Distiller
from potstill.train.evaluate import answers_of, score

CODECS = {
    "top 50 and tail": Vocabulary(top_p=1.0, min_k=50, max_k=50),
    "top-p 0.98, 16 to 50, and tail": Vocabulary(),
    "50 draws": Sampled(draws=50),
}
CONTROL, LIVE = "control", "live"


def main() -> None:
    folder, *overrides = sys.argv[1:] or ["runs/bench-tiny-lm"]
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    e = build(load("tiny-lm", overrides))
    task, data = e.task, e.data
    kept = place / "losses.json"
    found: dict[str, dict[str, list[float]]] = json.loads(kept.read_text()) if kept.exists() else {}
    test = e.learning.feed(data.test, data, seed=0, device="cpu")

    assert isinstance(e.teacher, TrainedTeacher)
    module = e.teacher.model.make(0)
    weights = place / "teacher.safetensors"
    if weights.exists():
        fit_weights(
            module, read_weights(weights), origin=str(weights), num_outputs=data.num_outputs
        )
    else:
        settings = e.teacher.learning.settings
        train = e.teacher.learning.feed(data.train, data, seed=0, device="cpu")
        held = e.learning.feed(data.validation, data, seed=0, device="cpu")
        fit = Distiller(module, task=task, settings=settings).fit(train, held, role="teacher")
        print(f"teacher: {fit.seconds:.0f} s, {fit.steps} steps", flush=True)
        write_weights(module, weights)
    teacher = ModuleTeacher(module, task)
    best = score(answers_of(teacher, test, task), task)
    print(f"teacher: {best['nll']:.4f} nats, perplexity {best['perplexity']:.2f}", flush=True)

    ways: dict[str, tuple[Teacher | None, float]] = {CONTROL: (None, 0), LIVE: (teacher, 0)}
    train = e.learning.feed(data.train, data, seed=0, device="cpu")
    for name, codec in CODECS.items():
        where = place / name.replace(" ", "-").replace(",", "")
        with StoreWriter(where, key=key_of(teacher, train), codecs={"logits": codec}) as writer:
            label(teacher, train, writer, samples_of=lambda batch: task.target(batch).samples)
        counts = Store(where).counts("logits")
        size = sum(file.stat().st_size for file in where.glob("*.shard"))
        ways[name] = (StoredTeacher(where, of=teacher), size / float(counts.sum()))

    for seed in e.seeds:
        for name, (source, _) in ways.items():
            done = found.setdefault(name, {"loss": [], "ms": []})
            if len(done["loss"]) > seed:
                continue
            objective = objective_of(task.default_objective()) if source is None else e.objective
            student = e.student.make(seed)
            maker = Distiller(
                student, source, objective=objective, task=task, settings=e.learning.settings
            )
            feed = e.learning.feed(data.train, data, seed=seed, device="cpu")
            fit = maker.fit(feed, None, seed=seed)
            scores = score(answers_of(fit.student, test, task), task)
            done["loss"].append(scores["nll"])
            done["ms"].append(1000 * fit.seconds / fit.steps)
            kept.write_text(json.dumps(found))
            print(f"seed {seed}, {name}: {scores['nll']:.4f}", flush=True)
    report(found, {name: size for name, (_, size) in ways.items()})


def report(found: dict[str, dict[str, list[float]]], sizes: dict[str, float]) -> None:
    """The table."""
    print(f"\n{processor_name()}, one thread, {len(found[LIVE]['loss'])} seeds\n")
    print("| way | loss | minus control | minus live | ms a step | bytes a token |")
    print("|---|---|---|---|---|---|")
    for name, figures in found.items():
        losses = figures["loss"]
        apart = [apart_from(losses, found[other]["loss"]) for other in (CONTROL, LIVE)]
        print(
            f"| {name} | {statistics.mean(losses):.4f} | {apart[0]} | {apart[1]} | "
            f"{statistics.median(figures['ms']):.0f} | {sizes[name]:.0f} |"
        )


def apart_from(losses: list[float], others: list[float]) -> str:
    """The mean paired difference with its interval."""
    differences = [a - b for a, b in zip(losses, others, strict=False)]
    mean = statistics.mean(differences)
    if len(differences) < 2 or not any(differences):
        return f"{mean:+.4f}"
    half = stats.t.ppf(0.975, len(differences) - 1)
    half *= statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.4f} ± {half:.4f}"


if __name__ == "__main__":
    main()
