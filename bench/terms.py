"""Every term on the same three pairs, at equal budget: one table of test accuracies.

One teacher (`resnet8x4`) teaches a student of its own style (`resnet8`), one of another
(`MobileNetV2`), and a vision transformer, on pictures of 20 classes of CIFAR-100 brought to 16×16.
Every method is cross-entropy plus one term, whose weight is found by the same small search: its
gradient on the student's weights is made as long as that of cross-entropy on the first batches, and
a tenth, one and ten times that are tried with a seed of its own and judged on validation data. Then
three seeds learn with the best; the figure is the accuracy on test data after the last epoch.
`simkd` is given as in its paper, without labels; its student ships a projector and the teacher's
classifier, so it has a control of its own: the same network on labels.

Pictures are shown in two augmented views, so that what the teacher says of them is computed once
and kept in memory (its features in float16) for all trainings.

    python bench/terms.py --npz cifar100.npz --out terms.jsonl [--pairs same,other] [--terms kd,…]

The file has members x_train, y_train, x_test, y_test; without it the hub's `uoft-cs/cifar100` is
read. Trainings that `--out` holds are not run again, so the bench goes on where it was stopped;
`--table` prints what there is.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn

import potstill
from potstill.data import Augment, DataSet, TargetKind, load
from potstill.losses import Objective, create
from potstill.losses.objective import Weighted
from potstill.models import ModelConfig, ReusedHead, create_model, last_linear, reused_config
from potstill.pipeline.experiment import Learning
from potstill.protocols import Offers, SeenLayer, Teacher
from potstill.runtime.environment import processor_name
from potstill.signals import Batch, Logits, Signals
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, TrainSettings

FACTORS = (0.1, 1.0, 10.0)
SEEDS = (0, 1, 2)
SEARCH_SEED = 100
CLASSES, EACH, SIDE = 20, 150, 16
VIEWS = 2
TEACHER = "resnet8x4"
TEACHER_EPOCHS = 24
STUDENTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "same": ("resnet8", {}),
    "other": ("MobileNetV2", {}),
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": SIDE, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
    ),
}
PAIRS = {
    "same": "resnet8x4 → resnet8",
    "other": "resnet8x4 → MobileNetV2",
    "vit": "resnet8x4 → ViT",
}


@dataclass(frozen=True)
class Method:
    """A term and its options; `given` with weights of its own."""

    term: str
    options: dict[str, Any] = field(default_factory=dict)
    given: tuple[float, float] | None = None  # of the term and of cross-entropy: no search
    reuses: bool = False  # the student has a place for the teacher's classifier


METHODS: Mapping[str, Method] = {
    "scratch": Method("", given=(0.0, 1.0)),
    "kd": Method("kd", {"temperature": 4}),
    "kd (0.9 and 0.1)": Method("kd", {"temperature": 4}, given=(0.9, 0.1)),
    "dkd": Method("dkd", {"temperature": 4}),
    "nkd": Method("nkd"),
    "wttm": Method("wttm"),
    "dist": Method("dist", {"temperature": 4}),
    "logit_mse": Method("logit_mse"),
    "probability_mse": Method("probability_mse", {"temperature": 4}),
    "hard_kd": Method("hard_kd"),
    "ofa": Method("ofa"),
    "ofa_exits": Method("ofa_exits"),
    "hint": Method("hint"),
    "attention_transfer": Method("attention_transfer", {"form": "squared"}),
    "fsp": Method("fsp"),
    "nst": Method("nst"),
    "similarity_preserving": Method("similarity_preserving"),
    "correlation_congruence": Method("correlation_congruence"),
    "rkd_distance": Method("rkd_distance"),
    "rkd_angle": Method("rkd_angle"),
    "pkt": Method("pkt"),
    "crd": Method("crd", {"queue": 1024}),
    "queue_similarity": Method("queue_similarity", {"queue": 1024}),
    "srd": Method("srd"),
    "vid": Method("vid"),
    "factor_transfer": Method("factor_transfer"),
    "activation_boundaries": Method("activation_boundaries"),
    "review": Method("review"),
    "pkd": Method("pkd"),
    "cwd": Method("cwd"),
    "mgd": Method("mgd"),
    "vitkd": Method("vitkd"),
    "simkd": Method(
        "simkd",
        {"student_layer": "transfer", "teacher_layer": "auto"},
        given=(1.0, 0.0),
        reuses=True,
    ),
    "simkd's student alone": Method("", given=(0.0, 1.0), reuses=True),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all trainings share."""

    data: DataSet
    epochs: int
    teacher: "Remembered"
    log: Path


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    if asked.table:
        show(read(asked.out), asked)
        return
    data = pictures(asked.npz)
    setting = Setting(
        data=data, epochs=asked.epochs, teacher=teacher(data, asked.out), log=asked.out
    )
    for pair in asked.pairs.split(","):
        for name in asked.terms.split(",") if asked.terms else METHODS:
            try:
                learn(setting, pair, name)
            except potstill.errors.Interrupted:
                raise
            except potstill.errors.PotstillError as error:
                note(setting.log, {"pair": pair, "method": name, "refused": str(error)})
    show(read(asked.out), asked)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--npz", type=Path)
    parser.add_argument("--out", type=Path, default=Path("terms.jsonl"))
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--terms", default="")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


@dataclass
class Remembered(Teacher):
    """A teacher that is asked once about every sample and view."""

    inner: ModuleTeacher
    rows: int
    kept: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    known: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def offers(self) -> Offers:
        return self.inner.offers()

    def fingerprint(self) -> str:
        return self.inner.fingerprint()

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        return self.inner.trace(batch)

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        assert batch.ids is not None
        assert batch.view is not None
        view, wanted = int(batch.view[0]), ("", *layers)
        seen = [self.known.get((name, view)) for name in wanted]
        if any(rows is None or not rows[batch.ids].all() for rows in seen):
            self._ask(batch, view, wanted)
        found = {name: self.kept[name, view][batch.ids].float() for name in wanted}
        return Signals(logits=Logits(found.pop("")), features=found)

    def _ask(self, batch: Batch, view: int, wanted: Sequence[str]) -> None:
        said = self.inner.signals(batch, layers=[name for name in wanted if name])
        assert isinstance(said.logits, Logits)
        for name, value in {"": said.logits.values_NC, **said.features}.items():
            kind = torch.float32 if name == "" else torch.float16
            where = (name, view)
            if where not in self.kept:
                self.kept[where] = torch.zeros(self.rows, *value.shape[1:], dtype=kind)
                self.known[where] = torch.zeros(self.rows, dtype=torch.bool)
            self.kept[where][batch.ids] = value.to(kind)
            self.known[where][batch.ids] = True


# Data and teacher


def pictures(npz: Path | None) -> DataSet:
    """The first classes of CIFAR-100, as many training pictures of each, all test pictures."""
    if npz is None:
        from datasets import load_dataset

        parts = load_dataset("uoft-cs/cifar100")
        arrays = {
            f"{axis}_{part}": np.asarray(parts[part][column])
            for part in ("train", "test")
            for axis, column in (("x", "img"), ("y", "fine_label"))
        }
    else:
        with np.load(npz, allow_pickle=False) as held:
            arrays = {name: held[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npz"
        np.savez(path, **chosen(arrays, "train", EACH), **chosen(arrays, "test", None))
        options = {"path": str(path), "resize": [SIDE, SIDE]}
        return load("npz", options, target_kind=TargetKind.SINGLE_LABEL, validation=600)


def chosen(arrays: dict[str, Any], part: str, each: int | None) -> dict[str, Any]:
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"].astype(np.int64)
    rows = np.concatenate([np.flatnonzero(y == number)[:each] for number in range(CLASSES)])
    return {f"x_{part}": x[rows], f"y_{part}": y[rows]}


def settings(epochs: int) -> TrainSettings:
    return TrainSettings(
        epochs=epochs, batch_size=64, lr=2e-3, weight_decay=5e-4, warmup=0.1, clip_norm=5.0
    )


def learning(epochs: int) -> Learning:
    steps = [{"op": "flip"}, {"op": "crop", "padding": 2}]
    return Learning(settings=settings(epochs), augment=Augment.parse(steps))


def configured(data: DataSet, source: str, name: str, options: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        source=source,
        name=name,
        options=options,
        input_shape=tuple(data.train.inputs.shape[1:]),
        num_outputs=data.num_outputs,
    )


def teacher(data: DataSet, log: Path) -> Remembered:
    """Trained once; its weights are kept beside the log."""
    module = create_model(configured(data, "builtin", TEACHER, {}), seed=0)
    kept = log.with_suffix(".teacher.pt")
    if kept.exists():
        module.load_state_dict(torch.load(kept, weights_only=True))
    else:
        plan = learning(TEACHER_EPOCHS)
        distiller = Distiller(module, settings=plan.settings)
        distiller.fit(plan.feed(data.train, data, seed=0, device="cpu"))
        torch.save(module.state_dict(), kept)
        note(log, {"teacher": TEACHER, "test": accuracy(module, data, "test")})
    everything = sum(len(part) for part in (data.train, data.validation, data.test))
    return Remembered(ModuleTeacher(module.eval(), Classification()), rows=everything)


def accuracy(module: nn.Module, data: DataSet, part: str) -> float:
    samples = getattr(data, part)
    with torch.no_grad():
        outputs = torch.cat(
            [module.eval()(data.normalise(rows)) for rows in samples.inputs.split(500)]
        )
    return float((outputs.argmax(1) == samples.labels).float().mean())


# One method


def learn(setting: Setting, pair: str, name: str) -> None:
    """The search and the three seeds, without those that were run before."""
    method = METHODS[name]
    if method.given is not None:
        final = [train(setting, pair, name, method.given, seed) for seed in SEEDS]
        return
    unit = even_weight(setting, pair, method)
    tried = {
        factor: train(setting, pair, name, (factor * unit, 1.0), SEARCH_SEED, factor=factor)
        for factor in FACTORS
    }
    best = max(FACTORS, key=lambda factor: tried[factor]["validation"])
    final = [train(setting, pair, name, (best * unit, 1.0), s, factor=best) for s in SEEDS]
    assert final


def objective(method: Method, weights: tuple[float, float]) -> Objective:
    terms = ((weights[0], method.term, method.options), (weights[1], "cross_entropy", {}))
    return Objective(tuple(Weighted(w, create(term, options)) for w, term, options in terms if w))


def student(setting: Setting, pair: str, method: Method, seed: int) -> nn.Module:
    """With random weights. MobileNetV2 has channels last: twice as fast a step on a CPU."""
    name, options = STUDENTS[pair]
    config = configured(setting.data, "timm" if pair == "vit" else "builtin", name, options)
    small = (
        reusing(setting, config, method, seed) if method.reuses else create_model(config, seed=seed)
    )
    return small.to(memory_format=torch.channels_last) if pair == "other" else small


def reusing(setting: Setting, config: ModelConfig, method: Method, seed: int) -> ReusedHead:
    """With a place for the teacher's classifier; with that itself where a term teaches."""
    taught_by = setting.teacher.inner.model
    width = last_linear(taught_by).in_features
    small = create_model(reused_config(config, width=width), seed=seed)
    assert isinstance(small, ReusedHead)
    if method.term:
        small.adopt(taught_by)
    return small


def even_weight(setting: Setting, pair: str, method: Method) -> float:
    """The weight at which the term's gradient on the student is as long as cross-entropy's.

    The mean of four batches, of a student with random weights.
    """
    lengths = []
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        small = student(setting, pair, method, SEARCH_SEED)
        distiller = Distiller(
            small,
            setting.teacher,
            objective=objective(method, weights),
            settings=settings(1),
        )
        feed = learning(1).feed(
            setting.data.train, setting.data, seed=SEARCH_SEED, device="cpu", views=VIEWS
        )
        distiller.prepare(feed.batch(0, 0))
        total = 0.0
        for number in range(4):
            distiller.optimizer.zero_grad()
            distiller._backward(feed.batch(0, number))
            squares = [
                float(p.grad.square().sum()) for p in small.parameters() if p.grad is not None
            ]
            total += sum(squares) ** 0.5
        lengths.append(total)
    return lengths[1] / lengths[0] if lengths[0] > 0 else 1.0


def train(
    setting: Setting,
    pair: str,
    name: str,
    weights: tuple[float, float],
    seed: int,
    *,
    factor: float | None = None,
) -> dict[str, Any]:
    key = {"pair": pair, "method": name, "factor": factor, "seed": seed, "epochs": setting.epochs}
    for line in read(setting.log):
        if key.items() <= line.items():
            return line
    method = METHODS[name]
    small = student(setting, pair, method, seed)
    plan = learning(setting.epochs)
    distiller = Distiller(
        small,
        setting.teacher if method.term else None,
        objective=objective(method, weights),
        settings=plan.settings,
    )
    feed = plan.feed(setting.data.train, setting.data, seed=seed, device="cpu", views=VIEWS)
    start = time.process_time()
    distiller.fit(feed, seed=seed)
    line = {
        **key,
        "weight": weights[0],
        "seconds": round(time.process_time() - start, 2),
        "validation": accuracy(small, setting.data, "validation"),
        "test": accuracy(small, setting.data, "test"),
    }
    note(setting.log, line)
    return line


# The log and the table


def note(log: Path, line: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), file=sys.stderr, flush=True)


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def show(lines: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    taught = next((line["test"] for line in lines if "teacher" in line), float("nan"))
    print(
        f"{processor_name()}, threads 1, torch {torch.__version__}, potstill "
        f"{potstill.__version__}; {asked.epochs} epochs; teacher {100 * taught:.1f} %"
    )
    pairs = [pair for pair in PAIRS if pair in asked.pairs.split(",")]
    print("| method | " + " | ".join(PAIRS[pair] for pair in pairs) + " | time of a training |")
    print("|---" * (len(pairs) + 2) + "|")
    for name in METHODS:
        cells = [cell(lines, pair, name, asked.epochs) for pair in pairs]
        if any(cells):
            print(f"| {name} | {' | '.join(c or '–' for c in cells)} | {cost(lines, name)} |")


def cell(lines: list[dict[str, Any]], pair: str, name: str, epochs: int) -> str:
    own = [line for line in lines if line.get("pair") == pair and line.get("method") == name]
    final = [line for line in own if line.get("seed") in SEEDS and line["epochs"] == epochs]
    if not final:
        return "refused" if any("refused" in line for line in own) else ""
    values = [100 * line["test"] for line in final]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    factor = final[0]["factor"]
    at = "" if factor is None else f" (×{factor:g})"
    return f"{statistics.mean(values):.1f} ± {spread:.1f}{at}"


def cost(lines: list[dict[str, Any]], name: str) -> str:
    """Against the student without a teacher: the median over pairs and seeds."""
    ratios = []
    for pair in PAIRS:
        seconds = {
            method: [
                line["seconds"]
                for line in lines
                if line.get("pair") == pair and line.get("method") == method and "seconds" in line
            ]
            for method in (name, "scratch")
        }
        if seconds[name] and seconds["scratch"]:
            ratios.append(statistics.median(seconds[name]) / statistics.median(seconds["scratch"]))
    return f"{statistics.median(ratios):.2f}×" if ratios else "–"


if __name__ == "__main__":
    main()
